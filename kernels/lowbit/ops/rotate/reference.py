"""What `rotate` computes, in float32, or in float64 for float64 input."""

from __future__ import annotations

import torch

from lowbit.hadamard import fwht


def rotate(x: torch.Tensor, signs: torch.Tensor, block: int) -> torch.Tensor:
    """x (M, K) -> H_block (signs * x) / sqrt(block) of every block, (M, W) in the dtype of x."""
    tokens, width = x.shape[0], signs.numel()
    work = torch.float64 if x.dtype == torch.float64 else torch.float32
    padded = torch.nn.functional.pad(x.to(work), (0, width - x.shape[1])) * signs.to(work)
    if not padded.numel():
        return padded.to(x.dtype)
    return fwht(padded.view(-1, block)).mul_(block**-0.5).view(tokens, width).to(x.dtype)
