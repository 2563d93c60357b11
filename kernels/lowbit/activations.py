"""Activations of BitNet b1.58: RMS norm, int8 codes per token, and the product with ternary codes.

Legend: K inputs, N outputs, `...` tokens. A token x gets (arXiv 2402.17764, section 2, and the authors'
note "Training Tips, Code and FAQ")

    s = 127 / max|x|,    a = clip(round(s x), -128, 127),    y = (a . C^T) level / s

with ternary codes C (N, K). The sums are of whole numbers and stay exact in float32 up to 131 072 inputs,
so y has the same bits whatever the order of summation: with any number of threads, on any device.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional as F

BITS = 8
LARGEST, SMALLEST = 2 ** (BITS - 1) - 1, -(2 ** (BITS - 1))
SMALLEST_PEAK = 1e-5  # BitNet's clamp of max|x|
# Codes enter the product as fractions of this power of two: exact in every dtype, and no float16 overflows.
UNIT = 2.0 ** (BITS - 1)


class _StraightThrough(torch.autograd.Function):
    """The value of the second argument, the gradient of the first (arXiv 1308.3432, section 4)."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, value: torch.Tensor) -> torch.Tensor:  # noqa: ARG004
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:  # noqa: ARG004
        return gradients[0], None


def straight_through(x: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """`value` to the bit, with the gradient of `x`, which has its shape and dtype: x + sg(value - x)
    without the rounding error of that sum.
    """
    return _StraightThrough.apply(x, value)


def blended(x: torch.Tensor, value: torch.Tensor, amount: float) -> torch.Tensor:
    """x + amount * sg(value - x): from x (amount 0) to `value` (amount 1), always with the gradient of x."""
    return straight_through(x, torch.lerp(x.detach(), value, amount))


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """x / sqrt(mean(x^2) + eps) * weight over the last dimension; x (..., K), weight (K,) -> float32."""
    x = x.float()
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * weight.float()


def quantize_tokens(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """x (..., K) -> codes (..., K), whole numbers in float32, and s (..., 1) float32: x is about codes / s.

    The codes pass gradients straight through, as s x with s held constant; s passes none.
    """
    x = x.float()
    fixed = x.detach()
    scale = LARGEST / fixed.abs().amax(-1, keepdim=True).clamp(min=SMALLEST_PEAK)
    codes = (fixed * scale).round().clamp(SMALLEST, LARGEST)
    return straight_through(x * scale, codes), scale


def product(
    codes: torch.Tensor,
    scale: torch.Tensor,
    ternary: torch.Tensor,
    level: torch.Tensor,
    bias: torch.Tensor | None,
    dtype: torch.dtype,
) -> torch.Tensor:
    """y (..., N) of token codes (..., K) with their `scale` (..., 1), and ternary codes (N, K) with their
    `level` (N,) or (1,).

    Multiplied in `dtype` (or that of autocast), rescaled and biased in float32, returned in the dtype of
    the product.
    """
    sums = F.linear((codes / UNIT).to(dtype), ternary.to(dtype))
    y = sums.float() * (level.float() * UNIT / scale)
    return (y if bias is None else y + bias.float()).to(sums.dtype)
