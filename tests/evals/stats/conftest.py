"""Real votes for tests of agreement."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def crowd_votes(shared_data: Path) -> dict[str, tuple[list[Any], list[Any], list[Any]]]:
    """Items, raters and labels of every task of mera_human."""
    tasks: dict[str, tuple[list[Any], list[Any], list[Any]]] = defaultdict(lambda: ([], [], []))
    for line in (shared_data / "mera_human/votes.jsonl").read_text(encoding="utf-8").splitlines():
        vote = json.loads(line)
        for column, key in zip(tasks[vote["task"]], ("id", "annotator", "label"), strict=True):
            column.append(vote[key])
    return dict(tasks)
