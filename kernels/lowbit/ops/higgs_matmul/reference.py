"""What `higgs_matmul` computes, in float32 or float64, from the same packed operand."""

from __future__ import annotations

import torch

from lowbit.ops.higgs_matmul.layout import unpack_words


def dense(
    words: torch.Tensor,
    table: torch.Tensor,
    scales: torch.Tensor,
    group: int,
    bits: int,
    step: int,
    dtype: torch.dtype,
    work: torch.dtype = torch.float32,
) -> torch.Tensor:
    """The rotated weight (N, W) in `work`; `dtype` is that of the grid points in `table`."""
    width = scales.shape[1] * group
    codes = unpack_words(words, bits, width // step)
    values = table.contiguous().view(dtype)[:, :step]
    points = values.to(work)[codes].view(len(words), -1, group)
    return (points * scales.to(work)[..., None]).view(len(words), width)


def higgs_matmul(
    x: torch.Tensor,
    words: torch.Tensor,
    table: torch.Tensor,
    scales: torch.Tensor,
    bias: torch.Tensor | None,
    group: int,
    bits: int,
    step: int,
    work: torch.dtype = torch.float32,
) -> torch.Tensor:
    """x (M, W) -> x W_q^T + bias (M, N) in `work`."""
    y = x.to(work) @ dense(words, table, scales, group, bits, step, x.dtype, work).T
    return y if bias is None else y + bias.to(work)
