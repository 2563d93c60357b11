"""The two kernels of `ternary_matmul`, see README.md."""

# Triton's compiler knows no star in a tuple; kernels' arguments have no types.
# ruff: noqa: RUF005
# mypy: allow-untyped-defs, disable-error-code="assignment"

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from lowbit.ops import common
from lowbit.ops.common import Config
from lowbit.ops.ternary_matmul import GEMV_TOKENS, tile_of
from lowbit.ops.ternary_matmul.layout import TernaryOperand
from lowbit.ops.tiles import combine, filled, grouped, write

GROUPED_TILES = 8
COMBINE_COLUMNS = 512


@triton.jit
def scaled(acc, scales_ptr, levels_ptr, m, n, M, N, stride_levels):
    """Integers (tile of M, tile of N) -> float32 outputs without bias."""
    token = tl.load(scales_ptr + m, mask=m < M, other=0)
    level = tl.load(levels_ptr + n * stride_levels, mask=n < N, other=0).to(tl.float32)
    return acc.to(tl.float32) * (token[:, None] * level[None, :])


@triton.jit(do_not_specialize=["M"])
def gemv(
    x_ptr, words_ptr, scales_ptr, levels_ptr, bias_ptr, y_ptr,
    M, N, words, stride_x, stride_words, stride_levels, stride_y,
    BM: tl.constexpr, HAS_BIAS: tl.constexpr, BN: tl.constexpr, BW: tl.constexpr, SPLIT: tl.constexpr,  # noqa: ARG001
):  # fmt: skip
    """BN outputs of all (at most BM) tokens with the whole of K. x and the weights come as 32-bit words of 4
    and 16 numbers; a multiplication of such words makes two products and their sum.
    """
    n = tl.program_id(0).to(tl.int64) * BN + tl.arange(0, BN)
    acc = filled(BM, BN, BW, tl.int32)
    sums = filled(BM, 1, BW, tl.int32)
    for start in range(0, words, BW):
        word = start + tl.arange(0, BW)[None, :]
        fields = tl.load(
            words_ptr + n[:, None] * stride_words + word,
            mask=(n < N)[:, None] & (word < words), other=0, eviction_policy="evict_first",
        )  # fmt: skip
        part = filled(BM, BN, BW, tl.int32)
        for field in tl.static_range(4):
            k = (word // 4) * 16 + field * 4 + word % 4
            fields_02 = (fields >> (2 * field)) & 0x00030003
            fields_13 = (fields >> (2 * field + 8)) & 0x00030003
            new = ()
            new_sums = ()
            for m in tl.static_range(BM):
                there = (word < words) & (m < M)
                x = tl.load(x_ptr + m * stride_x + k, mask=there, other=0, eviction_policy="evict_last")
                x0, x1, x2, x3 = (x << 24) >> 24, (x << 16) >> 24, (x << 8) >> 24, x >> 24
                new_sums = new_sums + (sums[m] + (x0 + x1) + (x2 + x3),)
                # (a 2^16 + b)(c 2^16 + d) modulo 2^32 holds a d + b c above b d.
                pairs = part[m] + ((x0 << 16) + x2) * fields_02
                new = new + (pairs + ((x1 << 16) + x3) * fields_13,)
            part = new
            sums = new_sums
        new = ()
        for m in tl.static_range(BM):
            # 8 products of at most 128 * 2 stay within 16 signed bits, so what b d carried upwards is known.
            low = (part[m] << 16) >> 16
            new = new + (acc[m] + ((part[m] - low) >> 16),)
        acc = new
    for m in tl.static_range(BM):
        # The fields are code + 1.
        integers = (tl.sum(acc[m], axis=1) - tl.sum(tl.sum(sums[m], axis=1), axis=0))[None, :]
        token = m + tl.arange(0, 1)
        y = scaled(integers, scales_ptr, levels_ptr, token, n, M, N, stride_levels)
        write(y_ptr, y, token, n, M, N, stride_y, bias_ptr, HAS_BIAS)


@triton.jit(do_not_specialize=["M"])
def matmul(
    x_ptr, fields_ptr, scales_ptr, levels_ptr, bias_ptr, y_ptr,
    M, N, width, stride_x, stride_fields, stride_levels, stride_y,
    BM: tl.constexpr, HAS_BIAS: tl.constexpr, GROUP: tl.constexpr,
    BN: tl.constexpr, BB: tl.constexpr, SPLIT: tl.constexpr,
):  # fmt: skip
    """A tile (BM, BN) on tensor cores, the four fields of BB bytes one after the other. With SPLIT > 1, y is
    int32 (SPLIT, M, N).
    """
    tile_m, tile_n = grouped(tl.program_id(0), M, N, BM, BN, GROUP)
    split = tl.program_id(1)
    m = tile_m * BM + tl.arange(0, BM)
    n = tile_n.to(tl.int64) * BN + tl.arange(0, BN)
    x_rows = x_ptr + m.to(tl.int64)[:, None] * stride_x
    acc = tl.zeros((BM, BN), tl.int32)
    for start in range(split * BB, width, SPLIT * BB):
        byte = start + tl.arange(0, BB)
        fields = tl.load(
            fields_ptr + n[:, None] * stride_fields + byte[None, :],
            mask=(n < N)[:, None] & (byte < width)[None, :], other=0,
        )  # fmt: skip
        there = (m < M)[:, None] & (byte < width)[None, :]
        for field in tl.static_range(4):
            codes = ((fields >> (2 * field)) & 3).to(tl.int8) - 1
            k = (byte // 16) * 64 + field * 16 + byte % 16
            x = tl.load(x_rows + k[None, :], mask=there, other=0)
            acc = tl.dot(x, tl.trans(codes), acc, out_dtype=tl.int32)
    if SPLIT == 1:
        y = scaled(acc, scales_ptr, levels_ptr, m, n, M, N, stride_levels)
        write(y_ptr, y, m, n, M, N, stride_y, bias_ptr, HAS_BIAS)
    else:
        write(y_ptr + split.to(tl.int64) * M * N, acc, m, n, M, N, stride_y, None, False)


def constants(tokens: int, has_bias: bool) -> dict[str, Any]:
    """Compile-time constants of the kernel for this number of tokens, apart from those of a configuration."""
    fixed: dict[str, Any] = {"BM": tile_of(tokens), "HAS_BIAS": has_bias}
    return fixed if tokens <= GEMV_TOKENS else {**fixed, "GROUP": GROUPED_TILES}


def launch(
    codes: torch.Tensor,
    scales: torch.Tensor,
    weight: TernaryOperand,
    bias: torch.Tensor | None,
    dtype: torch.dtype,
    entry: Config,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """`ternary_matmul` with one configuration; `codes` has contiguous rows of 16-byte alignment. `out` takes
    the result when it is given.
    """
    tokens, outputs = codes.shape[0], weight.shape[0]
    y = codes.new_empty(tokens, outputs, dtype=dtype) if out is None else out
    if not tokens or not outputs:
        return y
    split, by_row = entry["SPLIT"], int(weight.levels.numel() > 1)
    target = y if split == 1 else codes.new_empty(split, tokens, outputs, dtype=torch.int32)
    own_bias = bias if split == 1 else None
    if tokens <= GEMV_TOKENS:
        kernel, x, fields = gemv, codes.contiguous().view(torch.int32), weight.fields.view(torch.int32)
        tiles = triton.cdiv(outputs, entry["BN"])
    else:
        kernel, x, fields = matmul, codes, weight.fields
        tiles = triton.cdiv(tokens, tile_of(tokens)) * triton.cdiv(outputs, entry["BN"])
    common.start(
        kernel, (tiles, split),
        x, fields, scales, weight.levels, own_bias, target,
        tokens, outputs, fields.shape[1], x.stride(0), fields.stride(0), by_row, outputs,
        **constants(tokens, own_bias is not None), **entry.launch(),
    )  # fmt: skip
    if split > 1:
        common.start(
            combine, (tokens, triton.cdiv(outputs, COMBINE_COLUMNS)),
            target, scales, weight.levels, bias, y, tokens, outputs, y.stride(0), by_row,
            BN=COMBINE_COLUMNS, SPLIT=split, SCALED=True, HAS_BIAS=bias is not None,
            num_warps=4, enable_fp_fusion=True,
        )  # fmt: skip
    return y
