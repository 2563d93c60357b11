"""Recipes `ternary-qat` and `hybrid-ternary`: trained, packed, logged, resumed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from lowbit.linear import PackedBitLinear
from quantize_fakes import with_candidate
from transformers import AutoModelForCausalLM

from stages.common.hashing import sha256_path
from stages.common.manifest import CHECKPOINT_MANIFEST
from stages.common.stage import execute
from stages.quantize import qat
from stages.quantize.stage import STAGE


def run(recipe: str, **settings: Any) -> Path:
    execute(STAGE, with_candidate(recipe, settings), f"adapt-{recipe}")
    return Path("out/quantize", f"adapt-{recipe}")


def about(folder: Path, name: str = CHECKPOINT_MANIFEST) -> Any:
    return json.loads((folder / name).read_text(encoding="utf-8"))


def test_a_trained_ternary_model_is_packed_and_its_codes_are_logged(parent: Path) -> None:
    folder = run("ternary-qat", evaluations=2, blend_share=0.5)
    model = AutoModelForCausalLM.from_pretrained(folder)
    packed = [module for module in model.modules() if isinstance(module, PackedBitLinear)]
    assert len(packed) == 14
    points = about(folder, "ternary.json")
    assert [point["step"] for point in points] == [0, 8, 16]
    assert all(len(point["layers"]) == 14 for point in points)
    for layer in points[-1]["layers"].values():
        assert sum(layer[code] for code in ("negative", "zero", "positive")) == pytest.approx(1, abs=1e-4)
    found = about(folder)
    assert found["lineage"]["data"] and found["tokens"]
    assert found["notes"]["kept"] == []
    assert model(torch.tensor([[1, 2, 3]])).logits.isfinite().all()


def test_training_wins_back_what_packing_lost(parent: Path) -> None:
    def last_loss(folder: Path) -> float:
        return float(about(folder, "training.json")["points"][-1]["bpc"]["ru"])

    short = last_loss(run("ternary-qat", evaluations=1, blend_share=0.0))
    params = with_candidate("ternary-qat", {"evaluations": 1, "blend_share": 0.0})
    longer = params.quantize.qat.training.model_copy(update={"tokens": 16_384})
    block = params.quantize.qat.model_copy(update={"training": longer})
    longer_params = params.model_copy(update={"quantize": params.quantize.model_copy(update={"qat": block})})
    execute(STAGE, longer_params, "adapt-ternary-qat")
    assert last_loss(Path("out/quantize/adapt-ternary-qat")) < short


def test_a_hybrid_keeps_its_share_of_int8(parent: Path) -> None:
    folder = run("hybrid-ternary", evaluations=1, int8_share=0.3)
    kept = about(folder)["notes"]["kept"]
    model = AutoModelForCausalLM.from_pretrained(folder)
    weights = {name: module.in_features * module.out_features for name, module in _linears(model).items()}
    assert kept
    assert sum(weights[name] for name in kept) <= 0.3 * sum(weights.values())
    config = about(folder, "config.json")["quantization_config"]["layers"]
    assert {name for name, layer in config.items() if layer["kind"] == "uniform"} == set(kept)


def _linears(model: Any) -> dict[str, Any]:
    return {
        name: module
        for name, module in model.named_modules()
        if hasattr(module, "in_features") and name != "lm_head"
    }


def test_a_killed_training_resumes_to_the_same_bytes(parent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = sha256_path(run("ternary-qat", evaluations=2))
    real, calls = qat._statistics, []

    def dies_at_the_second_point(model: Any) -> dict[str, Any]:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(model)

    monkeypatch.setattr(qat, "_statistics", dies_at_the_second_point)
    with pytest.raises(KeyboardInterrupt):
        run("ternary-qat", evaluations=2)
    assert list(Path(".gorn/resume/quantize-adapt-ternary-qat").iterdir())
    monkeypatch.setattr(qat, "_statistics", real)
    assert sha256_path(run("ternary-qat", evaluations=2)) == whole
    assert not list(Path(".gorn/resume/quantize-adapt-ternary-qat").iterdir())


@pytest.mark.parametrize(
    ("share", "rise", "expected"), [(0, 0.5, 0), (0.25, 0.5, 0.5), (0.5, 0.5, 1), (1, 0.5, 1), (0, 0, 1)]
)
def test_the_blend_rises_linearly_and_stays(share: float, rise: float, expected: float) -> None:
    assert qat.blend(share, rise) == expected
