"""Bit allocation: as good as exhaustive search, inside the budget, and it says what it cannot predict."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import lowbit
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lowbit import grids, higgs, ternary, uniform
from lowbit.allocation import LINEAR_LIMIT, OPTIONS, allocate, hybrid, relative_error
from lowbit.errors import LowbitError

LAYERS = {"a": (64, 128), "b": (32, 896), "c": (256, 64), "d": (48, 80)}
FEW = ("bf16", "int8", "higgs-p2n256", "higgs-p2n16")


def brute_force(alphas: dict[str, float], bits: float, options: tuple[str, ...]) -> float:
    """The least predicted loss over all combinations."""
    plans = [
        allocate({name: shape}, alphas, {"bits": 99}, options=[option]).layers[name]
        for name, shape in LAYERS.items()
        for option in options
    ]
    by_layer = [plans[at : at + len(options)] for at in range(0, len(plans), len(options))]
    room = bits * sum(out * inner for out, inner in LAYERS.values()) / 8
    found = [
        sum(choice.predicted for choice in combination)
        for combination in itertools.product(*by_layer)
        if sum(choice.bytes for choice in combination) <= room
    ]
    return min(found)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0.0, 50.0), min_size=4, max_size=4), st.floats(2.3, 16.0, allow_nan=False))
def test_no_combination_is_better(values: list[float], bits: float) -> None:
    alphas = dict(zip(LAYERS, values, strict=True))
    plan = allocate(LAYERS, alphas, {"bits": bits}, options=FEW)
    assert plan.bits_per_weight <= bits
    best = brute_force(alphas, bits, FEW)
    assert plan.predicted == pytest.approx(best, rel=1e-5, abs=1e-6 * max(values, default=1))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0.01, 50.0), min_size=4, max_size=4), st.floats(0.0, 1.0))
def test_a_hybrid_keeps_what_lowers_the_loss_most(values: list[float], share: float) -> None:
    alphas = dict(zip(LAYERS, values, strict=True))
    plan = hybrid(LAYERS, alphas, share=share)
    sizes = {name: out * inner for name, (out, inner) in LAYERS.items()}
    room = share * sum(sizes.values()) + 1e-6
    kept = plan.having("int8")
    assert sum(sizes[name] for name in kept) <= room
    assert set(kept) | set(plan.having("ternary")) == set(LAYERS)
    gain = {
        name: alpha * (relative_error("ternary", LAYERS[name][1]) - relative_error("int8", LAYERS[name][1]))
        for name, alpha in alphas.items()
    }
    best = max(
        sum(gain[name] for name in some)
        for count in range(5)
        for some in itertools.combinations(LAYERS, count)
        if sum(sizes[name] for name in some) <= room
    )
    assert sum(gain[name] for name in kept) == pytest.approx(best, rel=1e-5)
    assert plan.bytes == sum(choice.bytes for choice in plan.layers.values())


def test_a_hybrid_within_a_budget_is_a_plan(tmp_path: Path) -> None:
    alphas = {"a": 1.0, "b": 0.1, "c": 9.0, "d": -0.5}
    assert hybrid(LAYERS, alphas, share=0.0).having("int8") == []
    assert set(hybrid(LAYERS, alphas, share=1.0).having("int8")) == {"a", "b", "c"}
    plan = hybrid(LAYERS, alphas, budget={"bits": 4.2})
    assert plan.bits_per_weight <= 4.2
    assert plan.having("int8") == ["c"]
    assert plan.warnings
    assert plan.to_json()["a"] == {
        "recipe": "ternary",
        "group_size": None,
        "predicted": plan.layers["a"].predicted,
    }
    whole = hybrid(LAYERS, alphas, budget={"bytes": plan.bytes + 1000}, rest_bytes=1000)
    assert whole.having("int8") == ["c"]
    for wrong, message in (
        ({}, "either a share"),
        ({"share": 0.1, "budget": {"bits": 3}}, "either a share"),
        ({"share": 1.2}, r"share 1\.2"),
        ({"share": float("nan")}, "share nan"),
        ({"budget": {"bits": 1.5}}, "smallest plan"),
    ):
        with pytest.raises(LowbitError, match=message):
            hybrid(LAYERS, alphas, **wrong)  # type: ignore[arg-type]
    with pytest.raises(LowbitError, match="d: its alpha is missing"):
        hybrid(LAYERS, {"a": 1.0, "b": 1.0, "c": 1.0}, share=0.5)
    with pytest.raises(LowbitError, match="no layer"):
        hybrid({}, {}, share=0.5)


@pytest.mark.parametrize("option", [name for name in OPTIONS if name != "bf16"])
def test_sizes_and_errors_are_those_of_quantised_weights(option: str) -> None:
    weight = torch.randn(96, 512, generator=torch.Generator().manual_seed(0))
    choice = allocate({"w": (96, 512)}, {"w": 2.0}, {"bits": 99}, options=[option]).layers["w"]
    packed = (
        uniform.quantize(weight)
        if option == "int8"
        else higgs.quantize(weight, option.removeprefix("higgs-"))
    )
    assert choice.bytes * 8 == packed.bits_per_weight * weight.numel()
    assert choice.t2 == pytest.approx(packed.relative_error(weight), rel=0.06)
    assert choice.predicted == 2.0 * choice.t2


def test_the_error_of_ternary_is_that_of_gaussian_weights() -> None:
    weight = torch.randn(512, 2048, generator=torch.Generator().manual_seed(0))
    measured = ternary.quantize(weight, per="tensor").relative_error(weight)
    assert relative_error("ternary", 2048) == pytest.approx(measured, rel=0.005)


def test_what_matters_gets_the_bits() -> None:
    alphas = {"a": 0.1, "b": 0.1, "c": 9.0, "d": 0.1}
    plan = allocate(LAYERS, alphas, {"bits": 5.0})
    assert plan.layers["c"].t2 == min(choice.t2 for choice in plan.layers.values())
    worse = allocate(LAYERS, alphas, {"bits": 4.0})
    assert worse.predicted > plan.predicted


def test_bytes_count_the_rest_of_the_checkpoint() -> None:
    alphas = dict.fromkeys(LAYERS, 1.0)
    alone = allocate(LAYERS, alphas, {"bytes": 40_000})
    beside = allocate(LAYERS, alphas, {"bytes": 60_000}, rest_bytes=20_000)
    assert beside.layers == alone.layers
    assert alone.bytes <= 40_000
    assert beside.bytes == alone.bytes + 20_000


def test_a_hybrid_of_ternary_and_int8_keeps_the_sensitive_layers() -> None:
    alphas = {"a": 5.0, "b": 0.1, "c": 0.2, "d": 0.1}
    plan = allocate(LAYERS, alphas, {"bits": 3.0}, options=("ternary", "int8"))
    assert plan.layers["a"].recipe == "int8"
    assert {plan.layers[name].recipe for name in "bd"} == {"ternary"}


def test_a_plan_below_three_bits_warns() -> None:
    alphas = dict.fromkeys(LAYERS, 1.0)
    assert allocate(LAYERS, alphas, {"bits": 4.5}).warnings == []
    [warning] = allocate(LAYERS, alphas, {"bits": 2.4}).warnings
    assert "below about 3 bits the predicted loss is too small" in warning
    assert grids.load("p2n64").t2 < LINEAR_LIMIT < grids.load("p2n16").t2


def test_a_plan_is_readable_json(tmp_path: Path) -> None:
    plan = allocate(LAYERS, dict.fromkeys(LAYERS, 1.0), {"bits": 4.5})
    plan.save(tmp_path / "plan.json")
    assert json.loads((tmp_path / "plan.json").read_text()) == plan.to_json()
    assert set(plan.to_json()["a"]) == {"recipe", "group_size", "predicted"}


def test_quantize_folder_takes_a_plan(checkpoint: Path, tmp_path: Path) -> None:
    names = [f"model.layers.{layer}.mlp.up_proj" for layer in (0, 1)]
    plan = allocate(dict.fromkeys(names, (176, 64)), {names[0]: 9.0, names[1]: 0.1}, {"bits": 6.0})
    report = lowbit.quantize_folder(checkpoint, plan, tmp_path / "by-plan")
    assert set(report.layers) == {name for name in names if plan.layers[name].recipe != "bf16"}
    for name, layer in report.layers.items():
        assert layer.bits_per_weight * 176 * 64 == 8 * plan.layers[name].bytes
    plan.save(tmp_path / "plan.json")
    lowbit.quantize_folder(checkpoint, tmp_path / "plan.json", tmp_path / "by-file")
    files = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("by-plan", "by-file")]
    assert files[0] == files[1]


@pytest.mark.parametrize(
    ("budget", "alphas", "options", "said"),
    [
        ({"bits": 1.0}, {"w": 1.0}, OPTIONS, r"budget: 1024 bytes for 1 layers, the smallest plan takes \d+"),
        ({"bits": 0}, {"w": 1.0}, OPTIONS, "budget: bits is 0; it must be positive"),
        ({"bits": float("nan")}, {"w": 1.0}, OPTIONS, "budget: bits is nan"),
        ({"bits": 4, "bytes": 4}, {"w": 1.0}, OPTIONS, "budget: give"),
        ({"bits": 4.5}, {}, OPTIONS, "w: its alpha is missing"),
        ({"bits": 4.5}, {"w": float("inf")}, OPTIONS, "w: its alpha is inf"),
        ({"bits": 4.5}, {"w": 1.0}, ("int9",), "w: recipe `int9` is not built"),
    ],
)
def test_bad_input_is_named(
    budget: dict[str, float], alphas: dict[str, float], options: tuple[str, ...], said: str
) -> None:
    with pytest.raises(LowbitError, match=said):
        allocate({"w": (64, 128)}, alphas, budget, options=options)
