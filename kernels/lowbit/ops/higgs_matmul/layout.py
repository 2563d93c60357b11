"""The run-time form of a HIGGS weight: codes in 32-bit words in the order in which threads take them.

Stored indices of p weights are merged until a *code* stands for V = 1, 2 or 4 weights in 8 bits (16 for grids
of more than 256 points): a byte of p1n16 holds two indices of 4 bits, so it is an index into a table of 256
pairs, and the same kernel serves it and p2n256. `table` holds the V weights of every code, two to an int32.

Words: P = 32 / bits codes each, in chunks of 4 words. Code k of a row lies in chunk k // 4P, word k % 4 of
the chunk, plane (k % 4P) // 4 (bits plane * bits and up): a thread that loads 16 bytes finds, plane by
plane, codes whose activations are 16 contiguous bytes as well.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from lowbit import grids, packing
from lowbit.higgs import HiggsWeight
from lowbit.weight import Shape

WORD_BITS = 32
CHUNK_WORDS = 4
LARGEST_STEP = 4  # weights that one code stands for, at most
ROWS = 1 << 22  # codes that are worked on at a time, which bounds the memory of repacking


@dataclass(frozen=True, eq=False)
class HiggsOperand:
    """A weight (N, W) for `higgs_matmul`: `words` int32 (N, words), `table` int32 (entries, V / 2, at least
    1), `scales` float16 (N, W / group). `step` is V, `bits` those of a code, `group` the inputs of a scale.
    """

    words: torch.Tensor
    table: torch.Tensor
    scales: torch.Tensor
    shape: Shape
    group: int
    bits: int
    step: int

    @property
    def codes(self) -> int:
        """Codes of a row, without the padding of the last chunk."""
        return self.shape[1] // self.step

    @property
    def bytes(self) -> int:
        """What a product with this weight has to read."""
        return sum(part.numel() * part.element_size() for part in (self.words, self.table, self.scales))


def merged(p: int, index_bits: int) -> int:
    """How many stored indices of `index_bits` bits for p weights make one code."""
    count = 1
    while 2 * count * index_bits <= 8 and 2 * count * p <= LARGEST_STEP:
        count *= 2
    return count


def prepare(weight: HiggsWeight, dtype: torch.dtype) -> HiggsOperand:
    """`weight` for products with activations of `dtype` (float16 or bfloat16), on the device of its codes.

    Grid points are rounded to `dtype`, as tensor cores take both operands in one format: relative error 2^-9
    (bfloat16) at most, far below the grid's own.
    """
    grid = grids.load(weight.grid)
    count = merged(grid.p, grid.index_bits)
    bits = 8 if count * grid.index_bits <= 8 else 16
    indices = weight.padded_width // grid.p
    parts = []
    for rows in weight.codes.split(max(1, ROWS // indices)):
        index = packing.unpack(rows, grid.index_bits, indices).view(len(rows), -1, count)
        shifts = torch.arange(count, device=index.device) * grid.index_bits
        parts.append(pack_words((index << shifts).sum(-1, dtype=torch.int32), bits))
    table = code_table(grid.points, grid.index_bits, count, dtype).to(weight.codes.device)
    shape = (weight.shape[0], weight.padded_width)
    step = grid.p * count
    return HiggsOperand(torch.cat(parts), table, weight.scales, shape, weight.group_size, bits, step)


def code_table(points: torch.Tensor, index_bits: int, count: int, dtype: torch.dtype) -> torch.Tensor:
    """The weights of every code, (2^(index_bits * count), max(1, V / 2)) int32: two numbers of `dtype` each,
    the first in the low half. Indices beyond the grid give zeros.
    """
    entries = torch.arange(1 << (index_bits * count))
    full = torch.zeros(1 << index_bits, points.shape[1])
    full[: len(points)] = points
    taken = [full[(entries >> (number * index_bits)) & (len(full) - 1)] for number in range(count)]
    values = torch.cat(taken, dim=1).to(dtype)
    if values.shape[1] == 1:
        values = torch.cat([values, torch.zeros_like(values)], dim=1)
    return values.contiguous().view(torch.int32)


def pack_words(codes: torch.Tensor, bits: int) -> torch.Tensor:
    """Codes (rows, count) -> int32 (rows, words), a whole number of chunks; padded with code 0."""
    planes = WORD_BITS // bits
    chunks = -(-codes.shape[1] // (planes * CHUNK_WORDS))
    padded = torch.zeros(len(codes), chunks * planes * CHUNK_WORDS, dtype=torch.int32, device=codes.device)
    padded[:, : codes.shape[1]] = codes
    fields = padded.view(len(codes), chunks, planes, CHUNK_WORDS)
    words = torch.zeros(len(codes), chunks, CHUNK_WORDS, dtype=torch.int32, device=codes.device)
    for plane in range(planes):
        words |= fields[:, :, plane] << (plane * bits)
    return words.view(len(codes), -1)


def unpack_words(words: torch.Tensor, bits: int, count: int) -> torch.Tensor:
    """The inverse of `pack_words`: int64 (rows, count)."""
    planes = WORD_BITS // bits
    shifts = torch.arange(planes, device=words.device)[:, None] * bits
    chunks = words.long().view(len(words), -1, 1, CHUNK_WORDS)
    return ((chunks >> shifts) & ((1 << bits) - 1)).reshape(len(words), -1)[:, :count]
