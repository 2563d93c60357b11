"""Where the suites of `evaluate.suites` lie: the embedded world, folders, data sets of the hub."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from stages.common.snapshots import dataset_folder

WORLD = "world"
HUB = "hub:"


def places(suites: Iterable[str], corpus: Path) -> list[str]:
    """Every suite as `evals.suites.load` takes it. Raises `UserError` for a data set that is not here."""
    return [_place(suite, corpus) for suite in suites]


def _place(suite: str, corpus: Path) -> str:
    if suite == WORLD:
        return str(corpus / "tasks")
    if suite.startswith(HUB):
        return f"{HUB}{dataset_folder(suite.removeprefix(HUB), fetch=False)}"
    return suite
