"""What a finished graph left on disk, read once for the terminal table and for MLflow.

Missing stays missing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flows.settings import DECISION_FILE
from stages.common import checkpoint
from stages.common.atomic import read_json
from stages.common.champion import CHAMPION
from stages.common.errors import UserError
from stages.common.hashing import sha256_json

TRAINED = ("base", "pretrain", "adapt", "distill", "judge_model")
REPORTS = ("report.html", "report.md", "table.json")


@dataclass(frozen=True)
class Cell:
    """One candidate or the champion.

    The JSON files of evaluate, judge (summary and passport) and measure; empty where there is none.
    """

    name: str
    scores: dict[str, Any] = field(default_factory=dict)
    judge: dict[str, Any] = field(default_factory=dict)
    passport: dict[str, Any] = field(default_factory=dict)
    measures: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Results:
    """Decision, cells by name (champion included), training curves by stage, and where the report lies."""

    decision: dict[str, Any]
    cells: dict[str, Cell]
    trainings: dict[str, dict[str, Any]]
    out: Path

    @property
    def winner(self) -> str | None:
        """The candidate that the gate chose, if any."""
        return self.decision.get("winner")

    def candidate(self, name: str) -> dict[str, Any]:
        """The decision's entry of candidate `name`."""
        return dict(self.decision["candidates"][name])

    def key(self) -> str:
        """Hash of everything that gets published: equal content, equal key."""
        return sha256_json(
            {
                "decision": self.decision,
                "cells": {
                    name: [cell.scores, cell.judge, cell.passport, cell.measures]
                    for name, cell in self.cells.items()
                },
                "trainings": self.trainings,
            }
        )


def read_decision(path: Path = DECISION_FILE) -> dict[str, Any]:
    """decision.json, checked for the keys that promotion relies on. Raises `UserError`."""
    decision = read_json(path)
    shape = isinstance(decision, dict) and isinstance(decision.get("candidates"), dict)
    if not shape or not isinstance(decision.get("champion"), dict) or "winner" not in decision:
        raise UserError(f"{path}: not a decision of the gate; run `dvc repro gate`")
    winner = decision["winner"]
    if winner is not None and winner not in decision["candidates"]:
        raise UserError(
            f"{path}: its winner `{winner}` is not among its candidates; run `dvc repro --force gate`"
        )
    return decision


def read(out: Path = Path("out")) -> Results:
    """Everything under `out` that publishing needs.

    Raises `UserError` when the gate has not decided yet, or decided about others than those that lie there.
    """
    decision = read_decision(out / "gate" / "decision.json")
    names = [*sorted(decision["candidates"]), CHAMPION]
    cells = {
        name: Cell(
            name,
            scores=_optional(out / "evaluate" / name / "scores.json"),
            judge=_optional(out / "judge" / name / "summary.json"),
            passport=_optional(out / "judge" / name / "passport.json"),
            measures=_optional(out / "measure" / name / "measures.json"),
        )
        for name in names
    }
    for cell in cells.values():
        _refuse_other(decision, cell, out)
    trainings = {name: _optional(out / name / "training.json") for name in TRAINED}
    return Results(decision, cells, {name: value for name, value in trainings.items() if value}, out)


def _refuse_other(decision: dict[str, Any], cell: Cell, out: Path) -> None:
    """Raise `UserError` when scores or checkpoint of `cell` are not those that the gate judged.

    So it is after a `dvc repro` that stopped before the gate.
    """
    found = {out / "evaluate" / cell.name / "scores.json": cell.scores.get("model", {}).get("digest")}
    if cell.name == CHAMPION:
        judged = decision["champion"].get("compared")
    else:
        judged = decision["candidates"][cell.name].get("digest")
        folder = out / "quantize" / cell.name
        found[folder] = checkpoint.digest(folder) if folder.is_dir() else None
    for path, digest in found.items():
        if digest is not None and digest != judged:
            raise UserError(
                f"{path}: of checkpoint {digest[:12]}, but the gate judged {(judged or 'none')[:12]}; "
                "run `dvc repro` to its end, then `gorn publish`"
            )


def _optional(path: Path) -> dict[str, Any]:
    return dict(read_json(path)) if path.exists() else {}


def numbers(value: Any, prefix: str = "") -> Iterator[tuple[str, float]]:
    """Every finite number of nested dictionaries as (`a/b/c`, number).

    An interval `ci: [lo, hi]` becomes `<name>_ci_lo` and `<name>_ci_hi`; of a scored thing (`value`, `ci`)
    the value takes the plain name.
    """
    if isinstance(value, dict):
        for key, item in value.items():
            if key == "value":
                yield from numbers(item, prefix)
            elif (key == "ci" or key.endswith("_ci")) and isinstance(item, list) and len(item) == 2:
                name = prefix if key == "ci" else _join(prefix, key.removesuffix("_ci"))
                yield from numbers(item[0], f"{name}_ci_lo")
                yield from numbers(item[1], f"{name}_ci_hi")
            else:
                yield from numbers(item, _join(prefix, str(key)))
    elif isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        yield prefix, float(value)


def _join(prefix: str, key: str) -> str:
    return f"{prefix}/{key}" if prefix else key


def flatten(value: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested parameters as (`block.key`, text); lists of plain values stay one text."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from flatten(item, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        for index, item in enumerate(value):
            yield from flatten(item, f"{prefix}.{index}")
    else:
        yield prefix, str(value)


def cell_metrics(cell: Cell) -> dict[str, float]:
    """The numbers of one cell under the names that MLflow shows.

    `total`, `bpc/ru`, `task/<name>`, `judge/...`, `p512/...`.
    """
    scored = cell.scores.get("total", {})
    total = {key: scored[key] for key in ("value", "ci") if key in scored}
    # First, because MLflow's comparison draws the first metric unless told otherwise.
    found = dict(numbers(total, "total"))
    for task, score in cell.scores.get("tasks", {}).items():
        found.update(
            numbers(
                {key: score[key] for key in ("value", "ci", "majority", "chance") if key in score},
                f"task/{task}",
            )
        )
    for language, score in cell.scores.get("bpc", {}).items():
        found.update(numbers({key: score[key] for key in ("value", "ci") if key in score}, f"bpc/{language}"))
    wanted = (
        "preference",
        "ci",
        "consistency",
        "primacy",
        "accuracy",
        "accuracy_ci",
        "pairs",
        "win_rate",
        "grades",
    )
    judge = {key: cell.judge[key] for key in wanted if key in cell.judge}
    if "ci" in judge:
        judge["preference_ci"] = judge.pop("ci")
    found.update(numbers(judge, "judge"))
    plain = {key: item for key, item in cell.measures.items() if key != "prompts"}
    found.update(
        numbers({key: item for key, item in plain.items() if isinstance(item, (int, float))}, "model")
    )
    for tokens, item in (cell.measures.get("prompts") or {}).items():
        found.update(numbers(item, f"p{tokens}"))
    return found
