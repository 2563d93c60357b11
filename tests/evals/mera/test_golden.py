"""Prompts, continuations and metric values are those of MERA's own code (data/mera_golden)."""

from __future__ import annotations

from pathlib import Path

import mera_golden
import pytest


@pytest.fixture(scope="module")
def golden(shared_data: Path) -> Path:
    return shared_data / "mera_golden"


@pytest.mark.parametrize("file", mera_golden.FILES)
def test_prompts_are_those_of_mera(golden: Path, file: str) -> None:
    rows = list(mera_golden.prompts(golden, file))
    assert len(rows) == {"prompts.jsonl": 101, "prompts_made_up.jsonl": 43}[file]
    for row, differing in rows:
        assert not differing, f"{row['task']} {row['item_id']} {row['mode']}"


@pytest.mark.parametrize("file", mera_golden.FILES)
def test_generative_twins_have_the_same_prompts(golden: Path, file: str) -> None:
    rows = list(mera_golden.twins(golden, file))
    for row, context, until in rows:
        assert (context, until) == (row["context"], ["\n"])
    assert len({row["task"] for row, _, _ in rows}) > 3


def test_metrics_are_those_of_mera(golden: Path) -> None:
    rows = list(mera_golden.values(golden))
    assert len(rows) == 160
    for row, found in rows:
        assert mera_golden.close(found, row["expected"]), (row["function"], row["inputs"], found)
