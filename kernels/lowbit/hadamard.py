"""The randomised Walsh-Hadamard rotation of blocks of inputs: signs, then H_g / sqrt(g), Sylvester order."""

from __future__ import annotations

import functools
import hashlib

import torch

SIGNS = "sha256-counter"  # the name of the generator below, written into every checkpoint
SMALLEST_BLOCK = 16
LARGEST_BLOCK = 1024
CACHED = 1 << 16  # numbers that are transformed at a time on a CPU


def padded_width(width: int) -> int:
    """The width that is rotated: `width`, or the next multiple of 16 when 16 does not divide it."""
    return -(-width // SMALLEST_BLOCK) * SMALLEST_BLOCK


def block_size(width: int) -> int:
    """The largest power of two up to 1024 that divides the padded width."""
    padded = padded_width(width)
    return min(padded & -padded, LARGEST_BLOCK)


@functools.cache
def signs(seed: int, width: int) -> torch.Tensor:
    """Random signs (width,) float32 in {-1, 1} on the CPU; one vector serves every layer of that padded
    width.

    Sign k is -1 where bit k (lowest bit of the first byte first) of the stream SHA-256("lowbit signs <seed>
    <width> 0"), SHA-256("lowbit signs <seed> <width> 1"), ... is set, so that any language can draw them
    again.
    """
    stream = bytearray()
    for counter in range(-(-width // 256)):
        stream += hashlib.sha256(f"lowbit signs {seed} {width} {counter}".encode()).digest()
    octets = torch.frombuffer(stream, dtype=torch.uint8)
    bits = (octets[:, None] >> torch.arange(8, dtype=torch.uint8)) & 1
    return 1.0 - 2.0 * bits.reshape(-1)[:width].to(torch.float32)


def fwht(x_BG: torch.Tensor) -> torch.Tensor:
    """H_G x of every row, unnormalised, Sylvester (natural) order, in the dtype of x; G is a power of two.

    Pass k adds and subtracts the pairs of positions that differ in bit k. Only additions and subtractions of
    two numbers in a fixed order occur: the result is bit-equal on every device and with any number of
    threads.
    """
    rows, size = x_BG.shape
    # Some rows at a time stay in the cache of a core; a GPU would only wait for the launches.
    step = max(1, CACHED // size) if x_BG.device.type == "cpu" else max(1, rows)
    out = torch.empty_like(x_BG, memory_format=torch.contiguous_format)
    for first in range(0, rows, step):
        # Positions come first, so that every pass runs along memory.
        source_GB = x_BG[first : first + step].t().contiguous()
        spare_GB = torch.empty_like(source_GB)
        for bit in range(size.bit_length() - 1):
            pairs, to = (part.view(-1, 2, (1 << bit) * part.shape[1]) for part in (source_GB, spare_GB))
            torch.add(pairs[:, 0], pairs[:, 1], out=to[:, 0])
            torch.sub(pairs[:, 0], pairs[:, 1], out=to[:, 1])
            source_GB, spare_GB = spare_GB, source_GB
        out[first : first + step] = source_GB.t()
    return out


def rotate(x_RW: torch.Tensor, block: int, seed: int) -> torch.Tensor:
    """Rows x of width W -> H_block (signs * x) / sqrt(block) for every block of inputs; float32."""
    rows, width = x_RW.shape
    flipped = x_RW.float() * signs(seed, width).to(x_RW.device)
    return fwht(flipped.view(-1, block)).mul_(block**-0.5).view(rows, width)


def rotate_back(x_RW: torch.Tensor, block: int, seed: int) -> torch.Tensor:
    """The inverse of `rotate`: H_block is symmetric and H_block^2 = block * I."""
    rows, width = x_RW.shape
    turned = fwht(x_RW.reshape(-1, block)).mul_(block**-0.5).view(rows, width)
    return turned.mul_(signs(seed, width).to(x_RW.device))
