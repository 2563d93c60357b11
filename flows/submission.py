"""The zip for MERA's server: taken from an evaluated cell, and checked."""

from __future__ import annotations

import shutil
from pathlib import Path

from evals.mera import submission
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


def faults(path: Path, items: bool) -> list[str]:
    """What the server could not read, one line each; with `items` also which items of `evaluate.suites` lack
    an answer or are unknown.
    """
    expected = None
    if items:
        from evals import suites
        from stages.common.suites import places

        block = load().evaluate
        suite = suites.load(places(block.suites, OUT / "corpus"), block.shots, ask_unanswered=True)
        expected = {task.spec["title"]: task.test for task in suite.tasks if task.declared}
    return [f"{fault.kind}: {fault.message}" for fault in submission.validate(path, expected)]
