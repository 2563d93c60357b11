"""The run-time form of a ternary weight: 2 bits a code, in chunks of 64 inputs that are 16 bytes.

A field holds code + 1. Byte b of a chunk (b = 0 ... 15) holds inputs b, 16 + b, 32 + b, 48 + b of the chunk
at bits 0, 2, 4, 6. So the fields of one position in 16 neighbouring bytes are 16 neighbouring inputs, whether
bytes are unpacked one by one (tensor cores) or four at a time in 32-bit words (the GEMV's integers).
On disk it is base 3, five codes a byte; 2 bits cost a quarter more and unpack with a shift and a mask.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from lowbit.ternary import TernaryWeight
from lowbit.weight import Shape

CHUNK = 64
CHUNK_BYTES = 16
FIELDS = 4
ROWS = 1 << 23  # weights that are worked on at a time, which bounds the memory of repacking


@dataclass(frozen=True, eq=False)
class TernaryOperand:
    """A weight (N, W) for `ternary_matmul`: `fields` uint8 (N, W / 4), `levels` float16 (N,) or (1,). W is
    the input width, or the next multiple of 64.
    """

    fields: torch.Tensor
    levels: torch.Tensor
    shape: Shape

    @property
    def bytes(self) -> int:
        """What a product with this weight has to read."""
        return sum(part.numel() * part.element_size() for part in (self.fields, self.levels))


def prepare(weight: TernaryWeight) -> TernaryOperand:
    """`weight` for products with int8 activations, on the device of its codes."""
    outputs, inputs = weight.shape
    width = -(-inputs // CHUNK) * CHUNK
    fields = torch.empty(outputs, width // FIELDS, dtype=torch.uint8, device=weight.codes.device)
    rows = max(1, ROWS // width)
    for start in range(0, outputs, rows):
        part = TernaryWeight(
            weight.codes[start : start + rows], weight.scales, (len(fields[start : start + rows]), inputs), ""
        )
        fields[start : start + rows] = pack_fields(part.trits, width)
    return TernaryOperand(fields, weight.scales, (outputs, width))


def pack_fields(codes: torch.Tensor, width: int) -> torch.Tensor:
    """Codes -1, 0, 1 (rows, K) -> uint8 (rows, width / 4), `width` a multiple of 64; padded with code 0."""
    digits = torch.nn.functional.pad(codes, (0, width - codes.shape[1])).add(1).to(torch.uint8)
    chunks = digits.view(len(codes), -1, FIELDS, CHUNK_BYTES)
    packed = torch.zeros_like(chunks[:, :, 0])
    for field in range(FIELDS):
        packed |= chunks[:, :, field] << (2 * field)
    return packed.reshape(len(codes), -1)


def unpack_fields(fields: torch.Tensor) -> torch.Tensor:
    """The inverse of `pack_fields`: int8 codes (rows, width)."""
    shifts = torch.arange(0, 2 * FIELDS, 2, dtype=torch.uint8, device=fields.device)
    chunks = fields.view(len(fields), -1, 1, CHUNK_BYTES)
    return ((chunks >> shifts[:, None]) & 3).reshape(len(fields), -1).to(torch.int8) - 1
