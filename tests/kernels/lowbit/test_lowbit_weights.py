"""Quantised matrices: error against the theory, orientation, stored bits, bad input."""

from __future__ import annotations

import math

import lowbit
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lowbit import recipes
from lowbit.errors import LowbitError


def _matrix(kind: str, rows: int = 128, columns: int = 2048, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn(rows, columns, generator=generator)
    if kind == "t4":
        chi = torch.randn(rows, columns, 4, generator=generator).square().sum(-1)
        return normal * (4 / chi).sqrt()
    if kind == "outliers":
        normal[:, torch.randperm(columns, generator=generator)[:20]] *= 8
    return normal


@pytest.mark.parametrize("kind", ["gauss", "t4", "outliers"])
def test_higgs_error_does_not_depend_on_the_weights(kind: str) -> None:
    weight = _matrix(kind)
    packed = lowbit.higgs.quantize(weight)
    assert packed.relative_error(weight) < 0.0079
    assert packed.group_size == 1024
    assert packed.bits_per_weight == 4 + 16 / 1024


@pytest.mark.parametrize("grid", ["p1n4", "p1n16", "p1n256", "p2n16", "p2n64", "p2n88", "p2n1024", "p4n256"])
def test_higgs_error_is_the_constant_of_the_grid(grid: str) -> None:
    weight = _matrix("t4", rows=64, columns=1024)
    packed = lowbit.higgs.quantize(weight, grid)
    known = lowbit.grids.load(grid)
    assert packed.relative_error(weight) == pytest.approx(known.t2, rel=0.03)
    assert packed.bits_per_weight == math.ceil(math.log2(known.n)) / known.p + 16 / 1024


@pytest.mark.parametrize(
    ("rows", "columns"), [(24, 896), (8, 4864), (6, 8960), (4, 11008), (16, 1536), (8, 4096)]
)
def test_real_widths(rows: int, columns: int) -> None:
    weight = _matrix("gauss", rows, columns, seed=columns)
    packed = lowbit.higgs.quantize(weight)
    assert packed.relative_error(weight) < 0.0082
    assert 4.01 < packed.bits_per_weight <= 4.125


@settings(max_examples=25)
@given(
    st.integers(1, 9), st.integers(1, 150), st.sampled_from(["p1n4", "p2n16", "p2n256"]), st.integers(0, 99)
)
def test_any_shape_keeps_shape_and_orientation(rows: int, columns: int, grid: str, seed: int) -> None:
    weight = _matrix("gauss", rows, columns, seed)
    packed = lowbit.higgs.quantize(weight, grid, seed=seed)
    dense = packed.dequantize()
    assert dense.shape == weight.shape
    assert dense.dtype == torch.float32
    # Far below what a transposed or permuted matrix would give, which is about 2.
    assert packed.relative_error(weight) < 0.5
    assert packed.bits_per_weight == 8 * (packed.codes.numel() + 2 * packed.scales.numel()) / weight.numel()


def test_rows_are_quantised_one_by_one() -> None:
    weight = _matrix("gauss", 5, 64)
    weight[2] *= 1000
    dense = lowbit.higgs.quantize(weight).dequantize()
    alone = lowbit.higgs.quantize(weight[2:3]).dequantize()
    assert torch.equal(dense[2], alone[0])


def test_large_matrices_are_worked_on_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = _matrix("gauss", 40, 128)
    whole = lowbit.higgs.quantize(weight, "p2n64")
    monkeypatch.setattr("lowbit.higgs.CHUNK", 1000)
    parts = lowbit.higgs.quantize(weight, "p2n64")
    assert torch.equal(whole.codes, parts.codes)
    assert torch.equal(whole.dequantize(), parts.dequantize())


def test_seed_draws_the_rotation() -> None:
    weight = _matrix("gauss", 4, 64)
    one, two = lowbit.higgs.quantize(weight, seed=1), lowbit.higgs.quantize(weight, seed=2)
    assert not torch.equal(one.codes, two.codes)
    wrong = type(one)(one.codes, one.scales, one.shape, one.grid, one.group_size, 2)
    assert wrong.relative_error(weight) > 0.5


def test_group_size_is_obeyed() -> None:
    packed = lowbit.higgs.quantize(_matrix("gauss", 4, 256), group_size=64)
    assert packed.scales.shape == (4, 4)
    for bad in (48, 512, 8, 0):
        with pytest.raises(LowbitError, match="group_size"):
            lowbit.higgs.quantize(_matrix("gauss", 4, 256), group_size=bad)


def test_padding_is_said(caplog: pytest.LogCaptureFixture) -> None:
    packed = lowbit.higgs.quantize(_matrix("gauss", 4, 100), name="mlp.weight")
    assert packed.padded_width == 112
    assert "mlp.weight" in caplog.text
    assert "112" in caplog.text


@pytest.mark.parametrize("recipe", ["higgs-4bit", "higgs-p2n88", "int8", "ternary"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_zero_rows_stay_zero(recipe: str, dtype: torch.dtype) -> None:
    weight = _matrix("gauss", 6, 48)
    weight[3] = 0
    weight = weight.to(dtype)
    spec = recipes.spec_of(recipe, (6, 48), None, "layer")
    assert spec is not None
    packed = recipes.pack(weight, spec, 0, "layer.weight")
    assert not packed.dequantize()[3].any()
    assert packed.spec() == spec
    packed.check("layer.weight")
    assert lowbit.higgs.quantize(torch.zeros(2, 16)).relative_error(torch.zeros(2, 16)) == 0


@pytest.mark.parametrize(
    "quantize", [lowbit.higgs.quantize, lowbit.ternary.quantize, lowbit.uniform.quantize]
)
def test_bad_input_names_the_tensor(quantize) -> None:  # type: ignore[no-untyped-def]
    for value in (math.nan, math.inf):
        weight = _matrix("gauss", 4, 32)
        weight[1, 2] = value
        with pytest.raises(LowbitError, match=r"layers\.7.*NaN"):
            quantize(weight, name="layers.7.weight")
    with pytest.raises(LowbitError, match=r"layers\.7.*int8"):
        quantize(torch.ones(4, 32, dtype=torch.int8), name="layers.7.weight")
    for shape in ((32,), (2, 4, 16), (0, 16)):
        with pytest.raises(LowbitError, match="shape"):
            quantize(torch.ones(shape), name="x")
    with pytest.raises(LowbitError, match="float16"):
        quantize(torch.full((2, 16), 1e9), name="x")


@pytest.mark.parametrize(("level", "expected"), [("absmean", 0.2634), ("lsq", 0.2130), ("lloyd", 0.190174)])
@pytest.mark.parametrize("per", ["row", "tensor"])
def test_ternary_error_on_gaussian_weights(level: str, expected: float, per: str) -> None:
    weight = _matrix("gauss", 256, 2048)
    packed = lowbit.ternary.quantize(weight, level, per)  # type: ignore[arg-type]
    assert packed.relative_error(weight) == pytest.approx(expected, rel=0.01)
    assert packed.spec()["per"] == per
    assert packed.bits_per_weight == pytest.approx(1.6, abs=0.01)


def test_ternary_absmean_is_bitnets() -> None:
    weight = _matrix("gauss", 8, 40)
    packed = lowbit.ternary.quantize(weight, "absmean")
    gamma = weight.abs().mean()
    assert torch.equal(packed.trits.float(), (weight / gamma).round().clamp(-1, 1))
    assert packed.scales.tolist() == [float(gamma.half())]


def test_least_squares_level_cannot_be_bettered() -> None:
    weight = _matrix("gauss", 1, 64)
    packed = lowbit.ternary.quantize(weight, "lsq", "tensor")
    best = packed.relative_error(weight)
    for factor in (0.97, 1.03):
        other = type(packed)(packed.codes, packed.scales * factor, packed.shape, "lsq")
        assert other.relative_error(weight) > best


@settings(max_examples=20)
@given(st.lists(st.floats(-4, 4, width=32), min_size=2, max_size=7))
def test_lloyd_level_is_the_optimum_over_all_codes(values: list[float]) -> None:
    weight = torch.tensor([values])
    best = min(
        float((weight - codes * ((weight * codes).sum() / codes.abs().sum().clamp(min=1))).square().sum())
        for codes in torch.cartesian_prod(*[torch.tensor([-1.0, 0.0, 1.0])] * len(values))
    )
    found = lowbit.ternary.quantize(weight, "lloyd").dequantize()
    assert float((weight - found).square().sum()) <= best + 1e-3 * float(weight.square().sum()) + 1e-9


def test_ternary_refuses_unknown_levels() -> None:
    with pytest.raises(LowbitError, match="lsq, absmean, lloyd"):
        lowbit.ternary.quantize(torch.ones(2, 5), "median")


def test_int8_error_and_bits() -> None:
    weight = _matrix("gauss", 64, 2048)
    packed = lowbit.uniform.quantize(weight)
    assert packed.relative_error(weight) < 1e-4
    assert packed.bits_per_weight == 8 + 16 / 2048
    assert (packed.dequantize() - weight).abs().amax(1).le(packed.scales.float() * 0.5001 + 1e-3).all()
    with pytest.raises(LowbitError, match="built: 8"):
        lowbit.uniform.quantize(weight, bits=5)


def test_damaged_codes_are_found() -> None:
    weight = _matrix("gauss", 4, 32)
    ternary = lowbit.ternary.quantize(weight)
    ternary.codes[1, 1] = 250
    higgs = lowbit.higgs.quantize(weight, "p2n88")
    higgs.codes[0, :] = 255
    scaled = lowbit.higgs.quantize(weight)
    scaled.scales[0, 0] = math.inf
    for packed in (ternary, higgs, scaled):
        with pytest.raises(LowbitError, match=r"layers\.3.*damaged"):
            packed.check("layers.3.weight")
