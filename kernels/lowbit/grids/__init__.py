"""MSE-optimal grids of the standard normal distribution, shipped as small data files.

A name says it all: `p2n256` has n = 256 points in p = 2 dimensions, log2(256) / 2 = 4 bits a weight.
`python -m lowbit.grids.build` computes the files.
"""

from __future__ import annotations

import functools
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lowbit.errors import LowbitError

if TYPE_CHECKING:
    import torch

DATA = Path(__file__).with_name("data")
NAMES = (
    *("p1n4", "p1n8", "p1n16", "p1n32", "p1n64", "p1n256"),
    *("p2n16", "p2n64", "p2n88", "p2n256", "p2n1024", "p4n256"),
)


@dataclass(frozen=True, eq=False)
class Grid:
    """`points` (n, p) float32, and `t2`: the mean squared error per coordinate on N(0, I_p)."""

    name: str
    points: torch.Tensor
    t2: float

    @property
    def n(self) -> int:
        """Number of points."""
        return int(self.points.shape[0])

    @property
    def p(self) -> int:
        """Weights that share one index."""
        return int(self.points.shape[1])

    @property
    def index_bits(self) -> int:
        """Bits that one index takes in storage: ceil(log2 n)."""
        return (self.n - 1).bit_length()


def shape_of(name: str) -> tuple[int, int]:
    """(p, n) of a grid's name."""
    match = re.fullmatch(r"p(\d+)n(\d+)", name)
    if match is None:
        raise LowbitError(f"grid `{name}` is not known; known: {', '.join(NAMES)}")
    return int(match[1]), int(match[2])


@functools.cache
def load(name: str) -> Grid:
    """The grid `name`. Raises `LowbitError`, listing the known ones, when there is no such grid."""
    if name not in NAMES:
        raise LowbitError(f"grid `{name}` is not known; known: {', '.join(NAMES)}")
    import torch

    value = json.loads((DATA / f"{name}.json").read_text(encoding="utf-8"))
    points = torch.tensor(value["points"], dtype=torch.float32)
    if tuple(points.shape) != (value["n"], value["p"]):
        raise LowbitError(
            f"{DATA / name}.json: {tuple(points.shape)} points where {value['n']}x{value['p']} are declared"
        )
    return Grid(name, points, float(value["t2"]))
