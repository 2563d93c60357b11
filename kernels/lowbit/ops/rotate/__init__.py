"""Rotation of activations: signs, then the Walsh-Hadamard transform of every block of g, over sqrt(g)."""

from __future__ import annotations

import functools

import torch

from lowbit import hadamard
from lowbit.ops import common
from lowbit.ops.common import Config, config
from lowbit.ops.rotate.reference import rotate as reference

__all__ = ["configs", "factors", "reference", "rotate", "signs_on"]

NAME = "rotate"


def configs(block: int) -> tuple[Config, ...]:
    """What the autotuner may choose from: T tiles of 256 to 1024 numbers per program."""
    if block <= 256:
        return config(1, T=1), config(1, T=4), config(4, T=8), config(4, T=16)
    return config(1, T=1), config(2, T=1), config(4, T=1), config(4, T=4)


def factors(block: int) -> tuple[int, int, int]:
    """(rows S and columns B of a tile, order a of the transform along rows): H_g = H_a (x) H_B, g = a B.

    Matrix units want at least 16 x 16; for g < 256 a tile of 16 rows holds 16 / a blocks. g = 16 is a
    transform of a row alone.
    """
    columns = 32 if block >= 512 else 16
    order = max(1, block // columns)
    return max(16, order), columns, order


@functools.cache
def signs_on(seed: int, width: int, device: torch.device) -> torch.Tensor:
    """The signs of `hadamard.signs` as int8 (width,) on `device`: one tensor for all layers of that width."""
    return hadamard.signs(seed, width).to(device=device, dtype=torch.int8)


@torch.library.custom_op(
    "lowbit::rotate",
    mutates_args=(),
    device_types="cpu",
    schema="(Tensor x, Tensor signs, int block) -> Tensor",
)
def rotate(x: torch.Tensor, signs: torch.Tensor, block: int) -> torch.Tensor:
    """x (M, K) float16 or bfloat16 -> (M, W) = H_g (signs * x) / sqrt(g) for every block of g = `block`.

    `signs` (W,) int8 of -1 and 1 gives the width: W is K, or K padded with zeros. g is a power of two from 16
    to 1024 that divides W. Accumulates in float32. Raises `LowbitError` naming the tensor. arXiv 2411.17525,
    section 4: W_q x is computed as (rotated W_q) . (rotated x).
    """
    _check(x, signs, block)
    return reference(x, signs, block)


@rotate.register_kernel("cuda")
def _(x: torch.Tensor, signs: torch.Tensor, block: int) -> torch.Tensor:
    _check(x, signs, block)
    from lowbit.ops.rotate.triton import launch

    x, variants = common.rows_contiguous(x), configs(block)
    key = f"{NAME} g={block} M={common.bucket(len(x))} K={signs.numel()} {x.dtype}"
    with torch.cuda.device_of(x):
        chosen = common.choose(key, variants, x.device, lambda entry: launch(x, signs, block, entry))
        return launch(x, signs, block, chosen)


@rotate.register_fake
def _(x: torch.Tensor, signs: torch.Tensor, block: int) -> torch.Tensor:  # noqa: ARG001
    return x.new_empty(x.shape[0], signs.shape[0])


def _check(x: torch.Tensor, signs: torch.Tensor, block: int) -> None:
    common.check_activations(x, NAME)
    power = 16 <= block <= 1024 and block & (block - 1) == 0
    common.check(power, NAME, "block", f"is {block}; give a power of two from 16 to 1024")
    whole = signs.dtype == torch.int8 and signs.dim() == 1 and signs.numel() % block == 0
    common.check(whole, NAME, "signs", f"must be int8 (W,) with {block} dividing W, not {tuple(signs.shape)}")
    fits = f"has {x.shape[1]} columns, more than the {signs.numel()} signs"
    common.check(x.shape[1] <= signs.numel(), NAME, "x", fits)
