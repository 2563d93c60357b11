"""Run by test_lowbit_ops_interpreter.py: activation quantisation against its reference, bit for bit."""

from __future__ import annotations

import pytest
import torch
from lowbit.ops import quantize_activation
from lowbit.ops.common import config
from lowbit.ops.quantize_activation import reference
from lowbit.ops.quantize_activation.triton import launch

from tests.kernels.lowbit.ops.interpreted import strided


def _poisoned(tokens: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.full((tokens, width), 77, dtype=torch.int8), torch.full((tokens,), torch.nan)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    ("tokens", "inputs", "width", "step"),
    [(0, 64, 64, 64), (1, 1, 64, 64), (3, 100, 128, 64), (17, 333, 384, 512), (3, 2000, 2048, 1024)],
)
def test_kernel_equals_reference(dtype: torch.dtype, tokens: int, inputs: int, width: int, step: int) -> None:
    x = strided(tokens, inputs, dtype)
    codes, scales = launch(x, width, config(4, B=step), out=_poisoned(tokens, width))
    expected_codes, expected_scales = reference(x, width)
    assert torch.equal(codes, expected_codes)
    assert torch.equal(scales, expected_scales)


def test_ties_go_to_even_and_tiny_tokens_to_zero() -> None:
    x = torch.zeros(3, 8, dtype=torch.float16)
    x[0, :5] = torch.tensor([127.0, 0.5, 1.5, 2.5, -2.5])
    x[1, :2] = torch.tensor([6e-8, -6e-8])
    codes, scales = launch(x, 64, quantize_activation.configs()[0], out=_poisoned(3, 64))
    assert codes[0, :5].tolist() == [127, 0, 2, 2, -2]
    assert codes[1, :2].tolist() == [1, -1]
    assert torch.equal(codes, reference(x, 64)[0])
    assert bool((scales > 0).all())


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_bad_token_spoils_itself_alone(bad: float) -> None:
    x = strided(3, 70, torch.bfloat16).clone()
    x[1, 69] = bad
    codes, scales = launch(x, 128, config(4, B=64), out=_poisoned(3, 128))
    assert scales.isnan().tolist() == [False, True, False]
    assert torch.equal(codes, reference(x, 128)[0])
    assert int(codes[1].abs().max()) == 0
