"""The rotation as two small matrix products per tile, see README.md."""

# Arguments of kernels have no types.
# mypy: allow-untyped-defs, disable-error-code="assignment"

from __future__ import annotations

import torch
import triton
import triton.language as tl

from lowbit.ops import common
from lowbit.ops.common import Config
from lowbit.ops.rotate import factors
from lowbit.ops.tiles import product


@triton.jit
def hadamard_matrix(SIZE: tl.constexpr, ORDER: tl.constexpr):
    """I (x) H_ORDER, (SIZE, SIZE) float32: entry (i, j) of H is -1 to the number of ones in i & j."""
    i = tl.arange(0, SIZE)[:, None]
    j = tl.arange(0, SIZE)[None, :]
    ones = i & j & (ORDER - 1)
    ones ^= ones >> 4
    ones ^= ones >> 2
    ones ^= ones >> 1
    return tl.where(i // ORDER == j // ORDER, 1 - 2 * (ones & 1), 0).to(tl.float32)


@triton.jit(do_not_specialize=["tiles"])
def kernel(
    x_ptr, signs_ptr, y_ptr, tiles, K, W, stride_x,
    T: tl.constexpr, S: tl.constexpr, B: tl.constexpr, ORDER: tl.constexpr, SCALE: tl.constexpr,
    WIDEN: tl.constexpr,
):  # fmt: skip
    """T tiles of S x B numbers that lie one after the other in a row of x (M, K); y (M, W) is contiguous."""
    per_row = tl.cdiv(W, S * B)
    line = tl.arange(0, T * S)
    tile = tl.program_id(0).to(tl.int64) * T + line // S
    row = tile // per_row
    column = ((tile % per_row) * (S * B) + (line % S) * B)[:, None] + tl.arange(0, B)[None, :]
    there = (tile < tiles)[:, None]
    x = tl.load(x_ptr + row[:, None] * stride_x + column, mask=there & (column < K), other=0)
    signs = tl.load(signs_ptr + column, mask=there & (column < W), other=0)
    # Exact: a sign changes no digit of x, and products with 1 and -1 are exact in any format.
    x = (x.to(tl.float32) * signs.to(tl.float32)).to(x_ptr.dtype.element_ty)
    right = hadamard_matrix(B, B).to(x.dtype)
    acc = product(x, right, tl.zeros((T * S, B), tl.float32), WIDEN)
    if ORDER > 1:
        acc = tl.reshape(tl.permute(tl.reshape(acc, (T, S, B)), (0, 2, 1)), (T * B, S))
        # Two bfloat16 numbers hold 16 digits of the float32 one: what is lost is far below the output's own
        # rounding, and the range is that of float32.
        high = acc.to(tl.bfloat16)
        low = (acc - high.to(tl.float32)).to(tl.bfloat16)
        left = hadamard_matrix(S, ORDER).to(tl.bfloat16)
        acc = product(high, left, tl.zeros((T * B, S), tl.float32), WIDEN)
        acc = product(low, left, acc, WIDEN)
        acc = tl.reshape(tl.permute(tl.reshape(acc, (T, B, S)), (0, 2, 1)), (T * S, B))
    y = (acc * SCALE).to(y_ptr.dtype.element_ty)
    tl.store(y_ptr + row[:, None] * W + column, y, mask=there & (column < W))


def launch(
    x: torch.Tensor, signs: torch.Tensor, block: int, entry: Config, out: torch.Tensor | None = None
) -> torch.Tensor:
    """`rotate` with one configuration; `x` has contiguous rows. `out` takes the result when it is given."""
    width = signs.numel()
    y = x.new_empty(x.shape[0], width) if out is None else out
    rows, columns, order = factors(block)
    tiles = x.shape[0] * triton.cdiv(width, rows * columns)
    if tiles:
        common.start(
            kernel, (triton.cdiv(tiles, entry["T"]),),
            x, signs, y, tiles, x.shape[1], width, x.stride(0),
            S=rows, B=columns, ORDER=order, SCALE=block**-0.5,
            WIDEN=common.interpreting(), **entry.launch(),
        )  # fmt: skip
    return y
