"""The zip for MERA's server: taken from an evaluated cell, and checked."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from evals.mera import submission
from evals.records import Record
from stages.common.atomic import atomic_file, read_json
from stages.common.errors import UserError
from stages.common.params import load
from stages.common.stage import OUT
from stages.evaluate.stage import SUBMISSION


def write(cell: str, target: Path) -> list[str]:
    """Copy the submission of `cell` to `target`, and what was generated to `<target>-logs.zip`; what to say.

    Raises `UserError` when the cell was not evaluated, or holds no MERA task.
    """
    evaluated = OUT / "evaluate" / cell
    if not evaluated.is_dir():
        known = ", ".join(sorted(path.parent.name for path in (OUT / "evaluate").glob("*/scores.json")))
        raise UserError(f"`{cell}` was not evaluated (evaluated: {known or 'nothing'}); run `gorn run`")
    made = evaluated / SUBMISSION
    if not made.is_dir():
        raise UserError(
            f"{evaluated}: no task of MERA was asked; name its data in `evaluate.suites` and run `gorn run`"
        )
    logs = target.with_name(f"{target.stem}-logs.zip")
    for source, place in ((made / "submission.zip", target), (made / "logs.zip", logs)):
        with atomic_file(place) as temporary:
            shutil.copyfile(source, temporary)
    all_tasks = len(submission.titles())
    missing = read_json(evaluated / "scores.json")["mera"]["not_submitted"]
    return [f"{title} is not in it: {why}" for title, why in missing.items()] + [
        f"{target}: {all_tasks - len(missing)} of {all_tasks} tasks, logs in {logs}"
    ]


def check(path: Path, items: bool) -> tuple[list[str], list[str]]:
    """What the server could not read, and notes on what was not compared; one line each.

    With `items` also which items of `evaluate.suites` lack an answer or are unknown. Raises `UserError` when
    these hold no task of MERA at all.
    """
    expected, notes = _items() if items else ({}, [])
    return [f"{fault.kind}: {fault.message}" for fault in submission.validate(path, expected)], notes


def _items() -> tuple[Mapping[str, Sequence[Record]], list[str]]:
    """MERA's name -> its items in `evaluate.suites`, and a note on every task that has none there.

    All items: the server counts those that `evaluate.limit` leaves out as wrong.
    """
    from evals import suites
    from stages.common.suites import places

    block = load().evaluate
    suite = suites.load(
        places(block.suites, OUT / "corpus"),
        block.shots,
        mode=block.mode,
        draw=block.draw,
        ask_unanswered=True,
    )
    expected = {task.spec["title"]: task.test for task in suite.tasks if task.declared}
    if not expected:
        raise UserError(
            "`evaluate.suites` holds no task of MERA, so --items has nothing to compare; name its data there"
        )
    refused = {name.lower(): why for name, why in suite.refused.items()}
    return expected, [
        f"not compared: {title}: {refused.get(name, 'not in evaluate.suites')}"
        for title, name in submission.titles().items()
        if title not in expected
    ]
