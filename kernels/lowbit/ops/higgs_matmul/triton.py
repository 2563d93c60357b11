"""The two kernels of `higgs_matmul`, see README.md. Pointers to pairs are int32: two numbers of the dtype of
x, the first in the low half.
"""

# Triton's compiler reads on after a return, so alternatives need their `else`, and knows no star in a tuple.
# Kernels' arguments have no types.
# ruff: noqa: RET505, RUF005, SIM300
# mypy: allow-untyped-defs, disable-error-code="assignment"

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from lowbit.ops import common
from lowbit.ops.common import Config
from lowbit.ops.higgs_matmul import GEMV_TOKENS, tile_of
from lowbit.ops.higgs_matmul.layout import CHUNK_WORDS, WORD_BITS, HiggsOperand
from lowbit.ops.tiles import combine, filled, grouped, product, write

GROUPED_TILES = 8
COMBINE_COLUMNS = 512


@triton.jit
def low_half(pair, DTYPE: tl.constexpr):
    """The first number of every pair."""
    return (pair & 0xFFFF).to(tl.int16).to(DTYPE, bitcast=True)


@triton.jit
def high_half(pair, DTYPE: tl.constexpr):
    """The second number of every pair."""
    return (pair >> 16).to(tl.int16).to(DTYPE, bitcast=True)


@triton.jit
def floats(pair, DTYPE: tl.constexpr):
    """Both numbers of every pair in float32. A bfloat16 is the upper half of a float32: one instruction."""
    if DTYPE == tl.bfloat16:
        return (pair << 16).to(tl.float32, bitcast=True), (pair & -65536).to(tl.float32, bitcast=True)
    else:
        return low_half(pair, DTYPE).to(tl.float32), high_half(pair, DTYPE).to(tl.float32)


@triton.jit
def copied_table(table_ptr, ENTRIES: tl.constexpr, COPIES: tl.constexpr):
    """(ENTRIES * COPIES,) with the copies of an entry next to each other, that is in different banks of
    shared memory; one element when the table is to be read from global memory.
    """
    if COPIES == 0:
        return tl.zeros((1,), tl.int32)
    else:
        entries = tl.load(table_ptr + tl.arange(0, ENTRIES))
        return tl.reshape(tl.broadcast_to(entries[:, None], (ENTRIES, COPIES)), (ENTRIES * COPIES,))


@triton.jit
def look_up(
    table_ptr, table, fields, BITS: tl.constexpr, PAIRS: tl.constexpr, COPIES: tl.constexpr
):  # fmt: skip
    """Pairs of all codes in `fields` (BN, BW): a tuple with entry plane * PAIRS + pair, (BN, BW) each.

    From shared memory all of them in one gather, as every gather writes the table there anew; neighbours of
    a row read different copies, that is different banks.
    """
    MASK: tl.constexpr = (1 << BITS) - 1
    if COPIES == 0:
        points = ()
        for plane in tl.static_range(32 // BITS):
            for pair in tl.static_range(PAIRS):
                code = (fields >> (plane * BITS)) & MASK
                points = points + (tl.load(table_ptr + code * PAIRS + pair),)
        return points
    else:
        codes = tl.join(fields & MASK, (fields >> BITS) & MASK)
        if BITS == 8:
            upper = tl.join((fields >> (2 * BITS)) & MASK, (fields >> (3 * BITS)) & MASK)
            codes = tl.join(codes, upper)
        if PAIRS == 2:
            codes = tl.join(codes * 2, codes * 2 + 1)
        PER_WORD: tl.constexpr = 32 // BITS * PAIRS
        WORDS: tl.constexpr = fields.shape[0] * fields.shape[1]
        flat = tl.reshape(codes, (WORDS * PER_WORD,))
        if COPIES > 1:
            # Four words of 16 bytes belong to one thread.
            flat = flat * COPIES + (tl.arange(0, WORDS * PER_WORD) // (4 * PER_WORD)) % COPIES
        found = tl.reshape(tl.gather(table, flat, 0), codes.shape)
        if PAIRS == 2:
            first, second = tl.split(found)
            return interleaved(unjoined(first, BITS), unjoined(second, BITS))
        else:
            return unjoined(found, BITS)


@triton.jit
def unjoined(joined, BITS: tl.constexpr):
    """What `look_up` joined, plane by plane."""
    if BITS == 8:
        lower, upper = tl.split(joined)
        plane_0, plane_1 = tl.split(lower)
        plane_2, plane_3 = tl.split(upper)
        return plane_0, plane_1, plane_2, plane_3
    else:
        plane_0, plane_1 = tl.split(joined)
        return plane_0, plane_1


@triton.jit
def interleaved(first, second):
    """Two tuples as one, taking turns."""
    both = ()
    for plane in tl.static_range(len(first)):
        both = both + (first[plane], second[plane])
    return both


@triton.jit(do_not_specialize=["M"])
def gemv(
    x_ptr, words_ptr, table_ptr, scales_ptr, bias_ptr, y_ptr,
    M, N, words, codes, stride_x, stride_words, stride_scales, stride_y, group_shift,
    BM: tl.constexpr, BITS: tl.constexpr, STEP: tl.constexpr, ENTRIES: tl.constexpr, FINE: tl.constexpr,
    DTYPE: tl.constexpr, HAS_BIAS: tl.constexpr,
    BN: tl.constexpr, BW: tl.constexpr, COPIES: tl.constexpr, SPLIT: tl.constexpr,  # noqa: ARG001
):  # fmt: skip
    """BN outputs of all (at most BM) tokens, with the whole of K: the warps of a program split it and meet in
    one sum, so there is no second pass and no atomic. x is (M, W) as pairs for STEP > 1. FINE: a chunk of 4
    words spans several scales.
    """
    PLANES: tl.constexpr = 32 // BITS
    PAIRS: tl.constexpr = STEP // 2 if STEP > 1 else 1
    n = tl.program_id(0).to(tl.int64) * BN + tl.arange(0, BN)
    rows = (n < N)[:, None]
    table = copied_table(table_ptr, ENTRIES * PAIRS, COPIES)
    # A tuple of matrices and not a tensor of rank 3: its layouts would be shuffled through shared memory.
    acc = filled(BM, BN, BW // 4)
    for start in range(0, words, BW):
        word = start + tl.arange(0, BW)[None, :]
        fields = tl.load(
            words_ptr + n[:, None] * stride_words + word,
            mask=rows & (word < words), other=0, eviction_policy="evict_first",
        )  # fmt: skip
        points = look_up(table_ptr, table, fields, BITS, PAIRS, COPIES)
        part = filled(BM, BN, BW)
        for plane in tl.static_range(PLANES):
            k = (word // 4) * (4 * PLANES) + plane * 4 + word % 4
            if FINE:
                place = scales_ptr + n[:, None] * stride_scales + ((k * STEP) >> group_shift)
                scale = tl.load(place, mask=rows & (k < codes), other=0).to(tl.float32)
            for pair in tl.static_range(PAIRS):
                first, second = floats(points[plane * PAIRS + pair], DTYPE)
                if FINE:
                    first *= scale
                    second *= scale
                new = ()
                for m in tl.static_range(BM):
                    x_row = x_ptr + m * stride_x + (k * PAIRS + pair)
                    x = tl.load(x_row, mask=(k < codes) & (m < M), other=0, eviction_policy="evict_last")
                    if STEP == 1:
                        new = new + (part[m] + first * x.to(tl.float32),)
                    else:
                        x_first, x_second = floats(x, DTYPE)
                        new = new + (part[m] + first * x_first + second * x_second,)
                part = new
        code_0 = (start // 4 + tl.arange(0, BW // 4))[None, :] * (4 * PLANES)
        scale = 1.0
        if not FINE:
            place = scales_ptr + n[:, None] * stride_scales + ((code_0 * STEP) >> group_shift)
            scale = tl.load(place, mask=rows & (code_0 < codes), other=0).to(tl.float32)
        new = ()
        for m in tl.static_range(BM):
            # The four words of a chunk belong to one thread: this sum moves no data.
            chunks = tl.sum(tl.reshape(part[m], (BN, BW // 4, 4)), axis=2)
            new = new + (acc[m] + chunks * scale,)
        acc = new
    for m in tl.static_range(BM):
        y = tl.sum(acc[m], axis=1)[None, :]
        write(y_ptr, y, m + tl.arange(0, 1), n, M, N, stride_y, bias_ptr, HAS_BIAS)


@triton.jit
def weights_of(points, plane: tl.constexpr, STEP: tl.constexpr, DTYPE: tl.constexpr):
    """The weights of a plane in the order of the inputs: (BN, BW * STEP)."""
    if STEP == 1:
        return low_half(points[plane], DTYPE)
    elif STEP == 2:
        return tl.interleave(low_half(points[plane], DTYPE), high_half(points[plane], DTYPE))
    else:
        head, tail = points[2 * plane], points[2 * plane + 1]
        even = tl.interleave(low_half(head, DTYPE), low_half(tail, DTYPE))
        odd = tl.interleave(high_half(head, DTYPE), high_half(tail, DTYPE))
        return tl.interleave(even, odd)


@triton.jit(do_not_specialize=["M"])
def matmul(
    x_ptr, words_ptr, table_ptr, scales_ptr, bias_ptr, y_ptr,
    M, N, words, codes, stride_x, stride_words, stride_scales, stride_y, group_shift,
    BM: tl.constexpr, BITS: tl.constexpr, STEP: tl.constexpr, ENTRIES: tl.constexpr, FINE: tl.constexpr,
    DTYPE: tl.constexpr, HAS_BIAS: tl.constexpr, WIDEN: tl.constexpr, GROUP: tl.constexpr,
    BN: tl.constexpr, BW: tl.constexpr, COPIES: tl.constexpr, SPLIT: tl.constexpr,
):  # fmt: skip
    """A tile (BM, BN) on tensor cores, plane by plane. FINE: BW words span several scales, which are then
    multiplied into the weights; else they multiply the float32 sums. With SPLIT > 1, y is (SPLIT, M, N).
    """
    PLANES: tl.constexpr = 32 // BITS
    tile_m, tile_n = grouped(tl.program_id(0), M, N, BM, BN, GROUP)
    split = tl.program_id(1)
    m = tile_m * BM + tl.arange(0, BM)
    n = tile_n.to(tl.int64) * BN + tl.arange(0, BN)
    rows = n < N
    PAIRS: tl.constexpr = STEP // 2 if STEP > 1 else 1
    table = copied_table(table_ptr, ENTRIES * PAIRS, COPIES)
    element = tl.arange(0, BW * STEP)
    in_chunks = (element // (4 * STEP)) * (4 * PLANES * STEP) + element % (4 * STEP)
    x_rows = x_ptr + m.to(tl.int64)[:, None] * stride_x
    acc = tl.zeros((BM, BN), tl.float32)
    for start in range(split * BW, words, SPLIT * BW):
        word = start + tl.arange(0, BW)
        fields = tl.load(
            words_ptr + n[:, None] * stride_words + word[None, :],
            mask=rows[:, None] & (word < words)[None, :], other=0,
        )  # fmt: skip
        points = look_up(table_ptr, table, fields, BITS, PAIRS, COPIES)
        part = tl.zeros((BM, BN), tl.float32)
        for plane in tl.static_range(PLANES):
            tile = weights_of(points, plane, STEP, DTYPE)
            k = start * (PLANES * STEP) + in_chunks + plane * (4 * STEP)
            if FINE:
                group = k >> group_shift
                scale = tl.load(
                    scales_ptr + n[:, None] * stride_scales + group[None, :],
                    mask=rows[:, None] & (k < codes * STEP)[None, :], other=0,
                )  # fmt: skip
                tile = (tile.to(tl.float32) * scale.to(tl.float32)).to(DTYPE)
            x = tl.load(x_rows + k[None, :], mask=(m < M)[:, None] & (k < codes * STEP)[None, :], other=0)
            part = product(x, tl.trans(tile), part, WIDEN)
        if not FINE:
            group = (start * (PLANES * STEP)) >> group_shift
            scale = tl.load(scales_ptr + n * stride_scales + group, mask=rows, other=0)
            part *= scale.to(tl.float32)[None, :]
        acc += part
    if SPLIT > 1:
        y_ptr += split.to(tl.int64) * M * N
    write(y_ptr, acc, m, n, M, N, stride_y, bias_ptr, HAS_BIAS)


def constants(x: torch.Tensor, weight: HiggsOperand, has_bias: bool, entry: Config) -> dict[str, Any]:
    """Compile-time constants of the kernel for these tokens, apart from those of `entry`."""
    rows = tile_of(x.shape[0])
    planes = WORD_BITS // weight.bits
    tensor_cores = rows > GEMV_TOKENS
    span = (entry["BW"] if tensor_cores else CHUNK_WORDS) * planes * weight.step
    fixed = {
        "BM": rows, "BITS": weight.bits, "STEP": weight.step, "ENTRIES": len(weight.table),
        "FINE": span > weight.group, "DTYPE": tl.float16 if x.dtype == torch.float16 else tl.bfloat16,
        "HAS_BIAS": has_bias,
    }  # fmt: skip
    return {**fixed, "WIDEN": common.interpreting(), "GROUP": GROUPED_TILES} if tensor_cores else fixed


def launch(
    x: torch.Tensor,
    weight: HiggsOperand,
    bias: torch.Tensor | None,
    entry: Config,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """`higgs_matmul` with one configuration; `x` has contiguous rows of 16-byte alignment. `out` takes the
    result when it is given.
    """
    tokens, outputs = x.shape[0], weight.shape[0]
    y = x.new_empty(tokens, outputs) if out is None else out
    if not tokens or not outputs:
        return y
    split = entry["SPLIT"]
    target = y if split == 1 else x.new_empty(split, tokens, outputs, dtype=torch.float32)
    kernel = gemv if tokens <= GEMV_TOKENS else matmul
    pairs = kernel is gemv and weight.step > 1
    source = x.contiguous().view(torch.int32) if pairs else x
    own_bias = bias if split == 1 else None
    rows = tile_of(tokens)
    tiles = (1 if kernel is gemv else triton.cdiv(tokens, rows)) * triton.cdiv(outputs, entry["BN"])
    common.start(
        kernel, (tiles, split),
        source, weight.words, weight.table, weight.scales, own_bias, target,
        tokens, outputs, weight.words.shape[1], weight.codes, source.stride(0),
        weight.words.stride(0), weight.scales.stride(0), outputs, weight.group.bit_length() - 1,
        **constants(x, weight, own_bias is not None, entry), **entry.launch(),
    )  # fmt: skip
    if split > 1:
        common.start(
            combine, (tokens, triton.cdiv(outputs, COMBINE_COLUMNS)),
            target, None, None, bias, y, tokens, outputs, y.stride(0), 0,
            BN=COMBINE_COLUMNS, SPLIT=split, SCALED=False, HAS_BIAS=bias is not None,
            num_warps=4, enable_fp_fusion=True,
        )  # fmt: skip
    return y
