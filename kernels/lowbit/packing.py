"""Indices packed little-endian in a whole number of bits each, and ternary codes five or four to a byte.

Layout of `pack`: index j of a row takes bits j*b .. j*b + b - 1 of the row's bit string; bit i of the
string is bit i % 8 (the lowest is 0) of byte i // 8. A row ends on a whole byte, filled up with zeros.
Layout of `pack_trits`: byte k of a row is sum_i 3^i t[5k + i] with digits t = code + 1 in {0, 1, 2}; 3^5 =
243 <= 256, so 1.6 bits a weight. A row is filled up with code 0. On disk.
Layout of `pack_fours`: byte k of a row is sum_i 4^i t[4k + i] with the same digits: 2 bits a weight, taken
apart by shifts and masks alone. A row is filled up with code 0. At run time.
Layout of `pack_quarters` (Transformers' BitNet): byte (r, j) is sum_i 4^i t[r + i out / 4, j], so the rows
are cut into four contiguous quarters that share bytes.
"""

from __future__ import annotations

import torch

from lowbit.errors import LowbitError

TRITS_PER_BYTE = 5
TRIT_BYTES = 3**TRITS_PER_BYTE  # bytes of this value and above cannot occur
FOUR = 4  # ternary codes to a byte at two bits each


def packed_bytes(count: int, bits: int) -> int:
    """Bytes that a row of `count` indices takes."""
    return (count * bits + 7) // 8


def pack(indices: torch.Tensor, bits: int) -> torch.Tensor:
    """Integers (rows, count) in [0, 2^bits) -> uint8 (rows, ceil(count * bits / 8)); 1 <= bits <= 16."""
    if bits == 8:
        return indices.to(torch.uint8)
    rows, count = indices.shape
    width = packed_bytes(count, bits)
    spread = (
        indices.to(torch.int32)[..., None] >> torch.arange(bits, device=indices.device, dtype=torch.int32)
    ) & 1
    string = torch.zeros(rows, width * 8, dtype=torch.uint8, device=indices.device)
    string[:, : count * bits] = spread.reshape(rows, count * bits).to(torch.uint8)
    weights = 2 ** torch.arange(8, device=indices.device, dtype=torch.uint8)
    return (string.view(rows, width, 8) * weights).sum(-1, dtype=torch.uint8)


def unpack(packed: torch.Tensor, bits: int, count: int) -> torch.Tensor:
    """uint8 (rows, bytes) -> int32 (rows, count): the inverse of `pack`."""
    if bits == 8:
        return packed[:, :count].to(torch.int32)
    rows = packed.shape[0]
    if 8 % bits == 0:
        shifts = torch.arange(0, 8, bits, device=packed.device, dtype=torch.uint8)
        fields = (packed[..., None] >> shifts) & (2**bits - 1)
        return fields.reshape(rows, -1)[:, :count].to(torch.int32)
    string = (packed[..., None] >> torch.arange(8, device=packed.device, dtype=torch.uint8)) & 1
    fields = string.reshape(rows, -1)[:, : count * bits].reshape(rows, count, bits).to(torch.int32)
    weights = 2 ** torch.arange(bits, device=packed.device, dtype=torch.int32)
    return (fields * weights).sum(-1, dtype=torch.int32)


def pack_trits(codes: torch.Tensor) -> torch.Tensor:
    """Codes -1, 0, 1 (rows, count) -> uint8 (rows, ceil(count / 5))."""
    rows, count = codes.shape
    width = -(-count // TRITS_PER_BYTE)
    digits = torch.ones(rows, width * TRITS_PER_BYTE, dtype=torch.uint8, device=codes.device)
    digits[:, :count] = (codes + 1).to(torch.uint8)
    return (digits.view(rows, width, TRITS_PER_BYTE) * _powers(codes.device)).sum(-1, dtype=torch.uint8)


def unpack_trits(packed: torch.Tensor, count: int) -> torch.Tensor:
    """uint8 (rows, bytes) -> int8 codes (rows, count): the inverse of `pack_trits`."""
    digits = (packed[..., None] // _powers(packed.device)) % 3
    return digits.reshape(packed.shape[0], -1)[:, :count].to(torch.int8) - 1


def pack_fours(codes: torch.Tensor) -> torch.Tensor:
    """Codes -1, 0, 1 (rows, count) -> uint8 (rows, ceil(count / 4)); any number of rows, none included."""
    rows, count = codes.shape
    width = -(-count // FOUR)
    digits = torch.ones(rows, width * FOUR, dtype=torch.uint8, device=codes.device)
    digits[:, :count] = (codes + 1).to(torch.uint8)
    return (digits.view(rows, width, FOUR) << _shifts(codes.device)).sum(-1, dtype=torch.uint8)


def unpack_fours(packed: torch.Tensor, count: int) -> torch.Tensor:
    """uint8 (rows, bytes) -> int8 codes (rows, count): the inverse of `pack_fours`."""
    digits = (packed[..., None] >> _shifts(packed.device)) & 3
    return digits.flatten(1)[:, :count].to(torch.int8) - 1


def pack_quarters(codes: torch.Tensor, name: str = "weight") -> torch.Tensor:
    """Codes -1, 0, 1 (out, in) -> uint8 (out / 4, in). Raises `LowbitError` naming the tensor when 4 does
    not divide out.
    """
    out_features, in_features = codes.shape
    if out_features % FOUR:
        raise LowbitError(f"{name}: {out_features} rows cannot be cut into four quarters, as BitNet does")
    quarters = (codes + 1).to(torch.uint8).view(FOUR, out_features // FOUR, in_features)
    return (quarters << _shifts(codes.device)[:, None, None]).sum(0, dtype=torch.uint8)


def unpack_quarters(packed: torch.Tensor, name: str = "weight") -> torch.Tensor:
    """uint8 (out / 4, in) -> int8 codes (out, in): the inverse of `pack_quarters`. Raises `LowbitError`
    naming the tensor where two bits are 3, which stand for no code.
    """
    digits = (packed[None] >> _shifts(packed.device)[:, None, None]) & 3
    if bool((digits == 3).any()):
        raise LowbitError(f"{name}: two bits are 3, which stand for no ternary code; the tensor is damaged")
    return digits.flatten(0, 1).to(torch.int8) - 1


def _shifts(device: torch.device) -> torch.Tensor:
    return torch.arange(0, 2 * FOUR, 2, device=device, dtype=torch.uint8)


def _powers(device: torch.device) -> torch.Tensor:
    return 3 ** torch.arange(TRITS_PER_BYTE, device=device, dtype=torch.uint8)
