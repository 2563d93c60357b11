"""Run by test_lowbit_ops_interpreter.py: HIGGS products against the reference and the dequantised weight."""

from __future__ import annotations

import pytest
import torch
from lowbit import higgs
from lowbit.ops import higgs_matmul, rotate
from lowbit.ops.common import Config, config
from lowbit.ops.higgs_matmul import HiggsOperand, prepare, reference
from lowbit.ops.higgs_matmul.triton import constants, launch

from tests.kernels.lowbit.ops.interpreted import UNITS, agree, poisoned, strided


def _operand(outputs: int, inputs: int, grid: str, group: int | None, dtype: torch.dtype) -> HiggsOperand:
    weight = torch.randn(outputs, inputs, generator=torch.Generator().manual_seed(1))
    return prepare(higgs.quantize(weight, grid, group), dtype)


def _check(
    tokens: int, outputs: int, inputs: int, grid: str, group: int | None, dtype: torch.dtype, entry: Config,
    with_bias: bool = False,
) -> None:  # fmt: skip
    operand = _operand(outputs, inputs, grid, group, dtype)
    bias = torch.randn(outputs, generator=torch.Generator().manual_seed(2)).to(dtype) if with_bias else None
    x = strided(tokens, operand.shape[1], dtype)
    y = launch(x, operand, bias, entry, out=poisoned(tokens, outputs, dtype))
    parts = (operand.words, operand.table, operand.scales, bias)
    expected = reference(x, *parts, operand.group, operand.bits, operand.step, work=torch.float64)
    # FINE tensor-core tiles round weight * scale to the format of x; else only grid points are rounded.
    fine = tokens > higgs_matmul.GEMV_TOKENS and constants(x, operand, False, entry)["FINE"]
    agree(y, expected, dtype, UNITS[dtype] if fine else 1e-5)


GEMV = config(4, BN=4, BW=32, COPIES=2, SPLIT=1)
MATMUL = config(4, BN=16, BW=16, COPIES=1, SPLIT=1)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("tokens", [0, 1, 3, 17])
@pytest.mark.parametrize(("outputs", "inputs", "group"), [(1, 16, None), (7, 176, None), (18, 768, None)])
@pytest.mark.parametrize("grid", ["p2n256", "p1n16"])
def test_odd_shapes(
    dtype: torch.dtype, tokens: int, outputs: int, inputs: int, group: int | None, grid: str
) -> None:
    entry = GEMV if tokens <= higgs_matmul.GEMV_TOKENS else MATMUL
    _check(tokens, outputs, inputs, grid, group, dtype, entry, with_bias=outputs == 18)


@pytest.mark.parametrize(
    "grid", ["p1n4", "p1n8", "p1n32", "p1n256", "p2n16", "p2n64", "p2n88", "p2n1024", "p4n256"]
)
@pytest.mark.parametrize(("tokens", "entry"), [(2, GEMV), (17, MATMUL)])
@pytest.mark.parametrize("group", [16, 256])
def test_every_grid(grid: str, tokens: int, entry: Config, group: int) -> None:
    _check(tokens, 3, 512, grid, group, torch.float16, entry, with_bias=True)


@pytest.mark.parametrize(("tokens", "copies", "split"), [(5, 0, 4), (5, 8, 1), (33, 1, 2), (130, 4, 4)])
def test_tables_and_splits(copies: int, split: int, tokens: int) -> None:
    entry = config(4, 3, BN=32, BW=32, COPIES=copies, SPLIT=split)
    _check(tokens, 45, 1024, "p2n256", 512, torch.bfloat16, entry, with_bias=True)


@pytest.mark.parametrize("tokens", [1, 4])
def test_every_listed_gemv(tokens: int) -> None:
    for entry in higgs_matmul.configs(higgs_matmul.tile_of(tokens)):
        _check(tokens, 3, 1024, "p2n256", None, torch.bfloat16, entry)


@pytest.mark.parametrize("tokens", [1, 9])
def test_rotation_and_product_are_the_layer(tokens: int) -> None:
    weight = torch.randn(21, 330, generator=torch.Generator().manual_seed(5))
    packed = higgs.quantize(weight, "p2n256", seed=7)
    x = strided(tokens, 330, torch.float16)
    signs = rotate.signs_on(7, packed.padded_width, torch.device("cpu"))
    from lowbit.ops.rotate.triton import launch as turn

    turned = turn(x, signs, packed.group_size, rotate.configs(packed.group_size)[0])
    operand = prepare(packed, torch.float16)
    entry = GEMV if tokens == 1 else MATMUL
    y = launch(turned, operand, None, entry).double()
    expected = x.double() @ packed.dequantize().double().T
    assert float((y - expected).norm() / expected.norm()) < 1e-3
