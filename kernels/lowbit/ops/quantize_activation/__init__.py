"""Activations to int8, one scale per token: the input of `ternary_matmul`."""

from __future__ import annotations

import torch

from lowbit.ops import common
from lowbit.ops.common import Config, config
from lowbit.ops.quantize_activation.reference import SMALLEST_PEAK
from lowbit.ops.quantize_activation.reference import quantize_activation as reference

__all__ = ["SMALLEST_PEAK", "configs", "quantize_activation", "reference"]

NAME = "quantize_activation"


def configs() -> tuple[Config, ...]:
    """What the autotuner may choose from: B inputs of a token at a time."""
    return config(4, B=1024), config(8, B=4096), config(16, B=8192)


@torch.library.custom_op(
    "lowbit::quantize_activation",
    mutates_args=(),
    device_types="cpu",
    schema="(Tensor x, int width) -> (Tensor, Tensor)",
)
def quantize_activation(x: torch.Tensor, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """x (M, K) float16 or bfloat16 -> codes int8 (M, `width`), zero beyond K, and scales float32 (M,).

    x is about codes * scale with scale = max|x| / 127 of the token (max|x| at least 1e-5) and codes rounded
    half to even: BitNet b1.58, arXiv 2402.17764, as its code quantises activations. A token that holds NaN or
    infinity gets scale NaN, which reaches the output of its token and no other. Raises `LowbitError`.
    """
    _check(x, width)
    return reference(x, width)


@quantize_activation.register_kernel("cuda")
def _(x: torch.Tensor, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    _check(x, width)
    from lowbit.ops.quantize_activation.triton import launch

    x = common.rows_contiguous(x)
    key = f"{NAME} M={common.bucket(len(x))} K={x.shape[1]} {x.dtype}"
    with torch.cuda.device_of(x):
        chosen = common.choose(key, configs(), x.device, lambda entry: launch(x, width, entry)[0])
        return launch(x, width, chosen)


@quantize_activation.register_fake
def _(x: torch.Tensor, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    codes = x.new_empty(x.shape[0], width, dtype=torch.int8)
    return codes, x.new_empty(x.shape[0], dtype=torch.float32)


def _check(x: torch.Tensor, width: int) -> None:
    common.check_activations(x, NAME)
    common.check(x.shape[1] <= width, NAME, "x", f"has {x.shape[1]} columns, more than the width {width}")
