"""Recipe `higgs-dynamic`: the budget holds, the plan stands beside the weights, errors leave nothing."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from lowbit.errors import LowbitError
from quantize_fakes import with_candidate
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from stages.common.errors import UserError
from stages.common.hashing import sha256_path
from stages.common.manifest import CHECKPOINT_MANIFEST
from stages.common.stage import execute
from stages.common.training.shards import Shards
from stages.quantize import dynamic
from stages.quantize.dynamic import sample
from stages.quantize.stage import STAGE

CELL = "adapt-higgs-dynamic"
OUT = Path("out/quantize", CELL)


@pytest.fixture(autouse=True)
def few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dynamic, "SAMPLE_ROWS", 32)


@pytest.mark.parametrize("alphas", ["random", "sample"])
def test_the_budget_holds_and_the_plan_stands_beside_the_weights(parent: Path, alphas: str) -> None:
    params = with_candidate("higgs-dynamic", bits=5, alphas=alphas)
    execute(STAGE, params, CELL)
    notes = json.loads((OUT / CHECKPOINT_MANIFEST).read_text(encoding="utf-8"))["notes"]
    plan = json.loads((OUT / "plan.json").read_text(encoding="utf-8"))
    assert notes["quantized_bits_per_weight"] <= 5
    assert set(plan) == set(notes["dynamic"]["alphas"])
    assert notes["dynamic"]["alphas_from"] == alphas
    predicted = sum(entry["predicted"] for entry in plan.values())
    assert notes["dynamic"]["predicted_loss"] == pytest.approx(predicted, rel=1e-4)
    assert {name for name, entry in plan.items() if entry["recipe"] != "bf16"} == set(notes["layers"])
    before = sha256_path(OUT)
    execute(STAGE, params, CELL)
    assert sha256_path(OUT) == before
    AutoModelForCausalLM.from_pretrained(OUT)


def test_a_budget_in_bytes_is_that_of_all_weights(parent: Path) -> None:
    budget = 60_000
    execute(STAGE, with_candidate("higgs-dynamic", bytes=budget, alphas="random"), CELL)
    stored = load_file(OUT / "model.safetensors").values()
    assert 0.9 * budget < sum(value.numel() * value.element_size() for value in stored) <= budget


def test_a_budget_below_the_smallest_plan_is_refused_and_nothing_is_left(parent: Path) -> None:
    with pytest.raises(LowbitError, match="the smallest plan takes"):
        execute(STAGE, with_candidate("higgs-dynamic", bytes=1000, alphas="random"), CELL)
    assert not list(Path("out/quantize").iterdir())


def test_a_sample_is_rows_of_training_documents(parent: Path) -> None:
    shards = Shards.open(Path("out/tokens"))
    rows = []
    for subset in shards.subsets:
        stream, ends = shards.tokens(subset, "train").tolist(), shards.ends(subset, "train").tolist()
        for begin, end in pairwise([0, *ends]):
            opened = [shards.eos_id, *stream[begin:end]]
            rows += [tuple(opened[at : at + 16]) for at in range(0, len(opened) - 1, 15)]
    batches = sample(Path("out/tokens"), 16, seed=1)
    found = [tuple(row[row >= 0].tolist()) for row in torch.cat(batches)]
    assert len(found) == dynamic.SAMPLE_ROWS
    assert not Counter(found) - Counter(rows)
    first, again, other = (torch.cat(sample(Path("out/tokens"), 16, seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    ("recipe", "settings", "message"),
    [
        ("higgs-dynamic", {"alphas": "random"}, "needs a budget: either `bits` per weight or `bytes`"),
        ("higgs-dynamic", {"alphas": "random", "bits": 4, "bytes": 9}, "needs a budget"),
        ("higgs-dynamic", {"bits": 4}, "needs `alphas`: random"),
        ("higgs-3bit", {"bits": 4}, "recipe `higgs-3bit` takes no `bits`; only higgs-dynamic does"),
    ],
)
def test_budgets_belong_to_the_dynamic_recipe(recipe: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        with_candidate(recipe, **settings)
