"""Run by test_lowbit_ops_interpreter.py: ternary products against the reference; the integers are exact."""

from __future__ import annotations

import pytest
import torch
from lowbit import ternary
from lowbit.ops import ternary_matmul
from lowbit.ops.common import Config, config
from lowbit.ops.ternary_matmul import prepare, reference
from lowbit.ops.ternary_matmul.triton import launch

from tests.kernels.lowbit.ops.interpreted import agree, poisoned

GEMV = config(1, BN=4, BW=32, SPLIT=1)
MATMUL = config(4, BN=16, BB=32, SPLIT=1)


def _check(
    tokens: int, outputs: int, inputs: int, per: str, dtype: torch.dtype, entry: Config, extreme: bool = False
) -> None:
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(outputs, inputs, generator=generator)
    operand = prepare(ternary.quantize(weight, per=per))  # type: ignore[arg-type]
    around = torch.full((tokens, operand.shape[1] + 32), 99, dtype=torch.int8)
    codes = around[:, 16:-16]
    low = -128 if extreme else -127
    codes[:, :inputs] = torch.randint(low, 128, (tokens, inputs), generator=generator).to(torch.int8)
    if extreme:
        codes[:, :inputs] = -128
    codes[:, inputs:] = 0
    scales = torch.rand(tokens, generator=generator) + 0.5
    bias = torch.randn(outputs, generator=generator).to(dtype) if outputs > 7 else None
    y = launch(codes, scales, operand, bias, dtype, entry, out=poisoned(tokens, outputs, dtype))
    expected = reference(codes, scales, operand.fields, operand.levels, bias)
    agree(y, expected.double(), dtype)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("tokens", [0, 1, 3, 17])
@pytest.mark.parametrize(("outputs", "inputs", "per"), [(1, 3, "row"), (7, 176, "tensor"), (18, 600, "row")])
def test_odd_shapes(dtype: torch.dtype, tokens: int, outputs: int, inputs: int, per: str) -> None:
    entry = GEMV if tokens <= ternary_matmul.GEMV_TOKENS else MATMUL
    _check(tokens, outputs, inputs, per, dtype, entry)


@pytest.mark.parametrize("tokens", [1, 4, 16, 40])
def test_every_listed_configuration(tokens: int) -> None:
    for entry in ternary_matmul.configs(ternary_matmul.tile_of(tokens)):
        _check(tokens, 5, 1000, "row", torch.bfloat16, entry)


@pytest.mark.parametrize(("tokens", "entry"), [(1, GEMV), (16, MATMUL)])
def test_the_largest_codes_do_not_overflow(tokens: int, entry: Config) -> None:
    _check(tokens, 4, 4096, "row", torch.bfloat16, entry, extreme=True)
