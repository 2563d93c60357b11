"""Four-bit formats of other libraries: the same numbers as they give, stored bits, bad input."""

from __future__ import annotations

import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lowbit import blockwise, recipes
from lowbit.errors import LowbitError


def _matrix(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=30)
@given(st.integers(1, 5), st.integers(1, 300), st.floats(1e-3, 1e3))
def test_round_to_nearest_is_within_half_a_step(rows: int, columns: int, size: float) -> None:
    weight = _matrix(rows, columns, columns) * size
    packed = blockwise.quantize(weight, "int4-rtn")
    packed.check("layer")
    steps = packed.scales.float().repeat_interleave(128, 1)[:, :columns]
    assert packed.shape == (rows, columns)
    assert bool(((packed.dequantize() - weight).abs() <= 0.502 * steps).all())


def test_round_to_nearest_has_its_known_error_and_size() -> None:
    weight = _matrix(256, 2048)
    packed = blockwise.quantize(weight, "int4-rtn")
    assert packed.relative_error(weight) == pytest.approx(0.0138, rel=0.01)
    assert packed.bits_per_weight == 4 + 16 / 128


@pytest.mark.parametrize(("format", "bits"), [("nf4", 4.25), ("hqq-4bit", 4.5), ("int4-rtn", 4.125)])
def test_stored_bits_follow_from_the_layout(format: str, bits: float) -> None:  # noqa: A002
    layout = blockwise.BlockWeight.layout({"shape": [8, 256], "format": format})
    stored = sum(torch.empty(shape, dtype=dtype).nbytes for shape, dtype in layout.values())
    assert 8 * stored / (8 * 256) == bits


def test_nf4_is_that_of_bitsandbytes() -> None:
    functional = pytest.importorskip("bitsandbytes.functional", reason="bitsandbytes is not installed")
    weight = _matrix(8, 192)
    ours = blockwise.quantize(weight, "nf4").dequantize()
    theirs = functional.dequantize_4bit(*functional.quantize_4bit(weight, blocksize=64, quant_type="nf4"))
    # Only the scale's rounding to float16 lies between them.
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=0)


def test_hqq_is_that_of_hqq() -> None:
    quantizer = pytest.importorskip("hqq.core.quantize", reason="hqq is not installed").Quantizer
    weight = _matrix(8, 192)
    ours = blockwise.quantize(weight, "hqq-4bit").dequantize()
    codes, about = quantizer.quantize(
        weight, nbits=4, group_size=64, axis=1, bitpack=False, compute_dtype=torch.float32, device="cpu"
    )
    theirs = ((codes - about["zero"]) * about["scale"]).view(weight.shape)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0.02)
    assert (ours - weight).square().sum() < 0.008 * weight.square().sum()


@pytest.mark.parametrize(("format", "package"), list(blockwise.LIBRARIES.items()))
def test_a_library_that_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch,
    format: str,  # noqa: A002
    package: str,
) -> None:
    for module in (package, "bitsandbytes.functional", "hqq.core.quantize"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(LowbitError, match=f"layer: recipe `{format}` needs {package}; run `make"):
        recipes.pack(_matrix(2, 64), recipes.spec_of(format, (2, 64), None, "layer") or {}, 0, "layer")


def test_bad_input_is_refused() -> None:
    with pytest.raises(LowbitError, match="four-bit format `fp4` is not known; known: nf4"):
        blockwise.quantize(_matrix(2, 64), "fp4")
    with pytest.raises(LowbitError, match="layer: holds NaN"):
        blockwise.quantize(torch.full((2, 64), float("nan")), "int4-rtn", "layer")
    packed = blockwise.quantize(_matrix(2, 128), "int4-rtn")
    packed.codes[0, 0] = 0
    with pytest.raises(LowbitError, match="layer: code -8 is never written"):
        packed.check("layer")
