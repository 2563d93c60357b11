"""Run by test_lowbit_ops_interpreter.py: the rotation in Triton's interpreter against its reference."""

from __future__ import annotations

import pytest
import torch
from lowbit import hadamard
from lowbit.ops import rotate
from lowbit.ops.common import config
from lowbit.ops.rotate import reference
from lowbit.ops.rotate.triton import launch

from tests.kernels.lowbit.ops.interpreted import agree, poisoned, strided

# Two bfloat16 halves that the interpreter rounds towards zero: 14 digits; devices have 16.
SLACK = 3e-4


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    ("tokens", "inputs", "block", "tiles"),
    [
        *((0, 64, 64, 1), (1, 16, 16, 1), (3, 40, 16, 4), (17, 96, 32, 4), (3, 448, 64, 1), (1, 896, 128, 8)),
        *((17, 768, 256, 16), (3, 1536, 512, 1), (1, 3584, 512, 4), (3, 1000, 1024, 1), (17, 2048, 1024, 4)),
    ],
)
def test_kernel_equals_reference(
    dtype: torch.dtype, tokens: int, inputs: int, block: int, tiles: int
) -> None:
    width = -(-inputs // block) * block
    x = strided(tokens, inputs, dtype)
    signs = hadamard.signs(3, width).to(torch.int8)
    y = launch(x, signs, block, config(4, T=tiles), out=poisoned(tokens, width, dtype))
    agree(y, reference(x.double(), signs, block), dtype, SLACK)


def test_every_listed_configuration(block: int = 1024) -> None:
    x = strided(2, 2048, torch.bfloat16)
    signs = hadamard.signs(0, 2048).to(torch.int8)
    expected = reference(x.double(), signs, block)
    for entry in rotate.configs(block):
        agree(launch(x, signs, block, entry, out=poisoned(2, 2048, x.dtype)), expected, x.dtype, SLACK)
