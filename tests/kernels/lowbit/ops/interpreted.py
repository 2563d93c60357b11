"""What the interpreter's cases share: hostile inputs and outputs, and how close a kernel has to come."""

from __future__ import annotations

import torch

# The interpreter rounds towards zero when it makes a bfloat16: a whole unit in the last place.
UNITS = {torch.float16: 2.0**-10, torch.bfloat16: 2.0**-7}


def strided(rows: int, columns: int, dtype: torch.dtype, seed: int = 0) -> torch.Tensor:
    """Normal numbers with rows that are not contiguous to each other, surrounded by NaN."""
    generator = torch.Generator().manual_seed(seed)
    around = torch.full((rows, columns + 24), torch.nan, dtype=dtype)
    around[:, 8 : 8 + columns] = torch.randn(rows, columns, generator=generator).to(dtype)
    return around[:, 8 : 8 + columns]


def poisoned(rows: int, columns: int, dtype: torch.dtype) -> torch.Tensor:
    """An output that shows what is never written."""
    return torch.full((rows, columns), torch.nan, dtype=dtype)


def agree(found: torch.Tensor, expected: torch.Tensor, dtype: torch.dtype, slack: float = 1e-5) -> None:
    """`found` is `expected` (float64) rounded to its dtype once, with room for the sum's own rounding:
    `slack` of the outputs' root mean square.
    """
    assert found.shape == expected.shape
    assert found.dtype == dtype
    if not expected.numel():
        return
    room = UNITS[dtype] * expected.abs() + slack * expected.double().square().mean().sqrt()
    excess = (found.double() - expected).abs() - room
    assert not bool(torch.isnan(excess).any()), "an output was not written"
    assert float(excess.max()) <= 0, f"off by {float(excess.max()):.3g} more than rounding"
