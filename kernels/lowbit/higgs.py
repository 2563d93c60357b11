"""HIGGS: data-free vector quantisation on MSE-optimal Gaussian grids (Malinovskii et al., arXiv 2411.17525,
section 4).

A row is cut into blocks of g inputs. With signs d in {-1, 1}^g, the Sylvester-Hadamard matrix H and the
block's RMS s = |w| / sqrt(g), the vector z = H (d * w) / (sqrt(g) s) is close to N(0, I_g) whatever the
weights were. Its p-vectors are rounded to the nearest of n grid points, so that the relative error of the
layer is the grid's constant t2. What is stored: ceil(log2 n) bits per p weights, s in float16 per block,
the seed of d once per model.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from lowbit import grids, packing
from lowbit.errors import LowbitError
from lowbit.hadamard import LARGEST_BLOCK, SMALLEST_BLOCK, block_size, padded_width, rotate, rotate_back
from lowbit.rounding import nearest
from lowbit.weight import Layout, PackedWeight, Shape, checked, half

log = logging.getLogger("lowbit")

CHUNK = 1 << 20  # weights that are worked on at a time, which bounds the memory beside the matrix itself


@dataclass(frozen=True, eq=False)
class HiggsWeight(PackedWeight):
    """Codes uint8 (out, bytes of a row), scales float16 (out, blocks of a row)."""

    kind: ClassVar[str] = "higgs"

    grid: str
    group_size: int
    seed: int

    @property
    def padded_width(self) -> int:
        """Inputs that are stored: the width, or the next multiple of 16 when no power of two >= 16 divides
        it.
        """
        return padded_width(self.shape[1])

    def spec(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "shape": list(self.shape),
            "grid": self.grid,
            "group_size": self.group_size,
        }

    @classmethod
    def layout(cls, spec: dict[str, Any]) -> Layout:
        out_features, in_features = spec["shape"]
        grid, width = grids.load(spec["grid"]), padded_width(in_features)
        _check_group(spec["group_size"], in_features, "group_size of the checkpoint")
        row = packing.packed_bytes(width // grid.p, grid.index_bits)
        return {
            "codes": ((out_features, row), torch.uint8),
            "scales": ((out_features, width // spec["group_size"]), torch.float16),
        }

    def dequantize(self) -> torch.Tensor:
        rows = max(1, CHUNK // self.padded_width)
        dense = torch.empty(self.shape, dtype=torch.float32, device=self.codes.device)
        for start in range(0, self.shape[0], rows):
            part = slice(start, start + rows)
            dense[part] = self._rows(self.codes[part], self.scales[part])
        return dense

    def _rows(self, codes: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
        grid, width = grids.load(self.grid), self.padded_width
        index = packing.unpack(codes, grid.index_bits, width // grid.p)
        turned = grid.points.to(codes.device)[index.long()].view(len(codes), -1, self.group_size)
        turned = (turned * scales.float()[..., None]).view(len(codes), width)
        return rotate_back(turned, self.group_size, self.seed)[:, : self.shape[1]]

    def check_codes(self, name: str) -> None:
        grid = grids.load(self.grid)
        if grid.n == 1 << grid.index_bits:
            return
        rows = max(1, CHUNK // self.padded_width)
        for part in self.codes.split(rows):
            largest = int(packing.unpack(part, grid.index_bits, self.padded_width // grid.p).max())
            if largest >= grid.n:
                raise LowbitError(
                    f"{name}: index {largest} of a grid of {grid.n} points; the checkpoint is damaged"
                )


def quantize(
    weight: torch.Tensor,
    grid: str = "p2n256",
    group_size: int | None = None,
    seed: int = 0,
    name: str = "weight",
) -> HiggsWeight:
    """Quantise a matrix (out, in) of any floating dtype on its own device.

    `group_size` is the block of the rotation and of the scale: a power of two from 16 to 1024 that divides
    the (padded) input width; None takes the largest. A width that no power of two >= 16 divides is padded
    with zeros to the next multiple of 16, which is logged and counted in `bits_per_weight`. `seed` draws
    the signs. `name` stands in errors. Raises `LowbitError` on NaN, infinity, integers, an unknown grid or
    an impossible group size.
    """
    weight, points = checked(weight, name), grids.load(grid)
    out_features, in_features = weight.shape
    group = block_size(in_features) if group_size is None else group_size
    _check_group(group, in_features, f"{name}: group_size")
    width = padded_width(in_features)
    if width != in_features:
        log.warning("%s: input width %d is padded with zeros to %d", name, in_features, width)
    codes, scales = [], []
    for part in weight.split(max(1, CHUNK // width)):
        rows = torch.nn.functional.pad(part.float(), (0, width - in_features))
        blocks = rotate(rows, group, seed).view(-1, group)
        # The rotation keeps the norm, so the RMS is that of the weights themselves.
        scale = half(blocks.square().mean(1).sqrt(), name)
        # Rounding divides by the scale as it is stored; a zero block has index of the point nearest to 0
        # and scale 0.
        divisor = torch.where(scale > 0, scale, 1).float()
        index = nearest((blocks / divisor[:, None]).view(-1, points.p), points)
        codes.append(packing.pack(index.view(len(part), -1), points.index_bits))
        scales.append(scale.view(len(part), -1))
    shape: Shape = (out_features, in_features)
    return HiggsWeight(torch.cat(codes), torch.cat(scales), shape, grid, group, seed)


def _check_group(group: int, in_features: int, what: str) -> None:
    width = padded_width(in_features)
    power_of_two = isinstance(group, int) and group > 0 and group & (group - 1) == 0
    if not power_of_two or not SMALLEST_BLOCK <= group <= LARGEST_BLOCK or width % group:
        raise LowbitError(
            f"{what} {group!r} does not fit the input width {in_features}; give a power of two "
            f"from {SMALLEST_BLOCK} to {block_size(in_features)}, or leave it out"
        )
