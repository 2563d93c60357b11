"""Pieces that several kernels are made of. Imports Triton: only `triton.py` modules import this one."""

# Triton's compiler reads on after a return, so alternatives need their `else`, and knows no star in a tuple.
# Kernels' arguments have no types.
# ruff: noqa: RET505, RUF005
# mypy: allow-untyped-defs, disable-error-code="assignment"

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def filled(COUNT: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, DTYPE: tl.constexpr = tl.float32):
    """A tuple of COUNT matrices of zeros."""
    zeros = ()
    for _ in tl.static_range(COUNT):
        zeros = zeros + (tl.zeros((ROWS, COLUMNS), DTYPE),)
    return zeros


@triton.jit
def grouped(pid, M, N, BM: tl.constexpr, BN: tl.constexpr, GROUP: tl.constexpr):
    """Number of a program -> (tile of M, tile of N), GROUP tiles of M running next to each other so that they
    find the weights of the same N in the L2 cache.
    """
    tiles_m = tl.cdiv(M, BM)
    tiles_n = tl.cdiv(N, BN)
    width = GROUP * tiles_n
    first = (pid // width) * GROUP
    size = tl.minimum(tiles_m - first, GROUP)
    return first + (pid % width) % size, (pid % width) // size


@triton.jit
def product(a, b, acc, WIDEN: tl.constexpr):
    """acc + a b. WIDEN multiplies in float32: Triton's interpreter cannot multiply bfloat16."""
    if WIDEN:
        return tl.dot(a.to(tl.float32), b.to(tl.float32), acc, input_precision="ieee")
    else:
        return tl.dot(a, b, acc, out_dtype=acc.dtype)


@triton.jit
def write(y_ptr, acc, m, n, M, N, stride_y, bias_ptr, HAS_BIAS: tl.constexpr):
    """Store acc (tile of M, tile of N) as y, with the bias added in float32."""
    if HAS_BIAS:
        acc += tl.load(bias_ptr + n, mask=n < N, other=0).to(tl.float32)[None, :]
    inside = (m < M)[:, None] & (n < N)[None, :]
    place = y_ptr + m.to(tl.int64)[:, None] * stride_y + n[None, :]
    tl.store(place, acc.to(y_ptr.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["M"])
def combine(
    parts_ptr, rows_ptr, columns_ptr, bias_ptr, y_ptr, M, N, stride_y, stride_columns,
    BN: tl.constexpr, SPLIT: tl.constexpr, SCALED: tl.constexpr, HAS_BIAS: tl.constexpr,
):  # fmt: skip
    """y = sum of SPLIT partial results (SPLIT, M, N), times rows (M,) and columns (N,) if SCALED, plus bias.

    Fixed order, so that splitting K changes no bit from one run to the next, as atomics would.
    """
    m = tl.program_id(0).to(tl.int64)
    n = tl.program_id(1).to(tl.int64) * BN + tl.arange(0, BN)
    acc = tl.zeros((BN,), parts_ptr.dtype.element_ty)
    for split in tl.static_range(SPLIT):
        acc += tl.load(parts_ptr + (split * M + m) * N + n, mask=n < N, other=0)
    y = acc.to(tl.float32)
    if SCALED:
        level = tl.load(columns_ptr + n * stride_columns, mask=n < N, other=0).to(tl.float32)
        y *= tl.load(rows_ptr + m) * level
    if HAS_BIAS:
        y += tl.load(bias_ptr + n, mask=n < N, other=0).to(tl.float32)
    tl.store(y_ptr + m * stride_y + n, y.to(y_ptr.dtype.element_ty), mask=n < N)
