"""What `ternary_matmul` computes: exact integers (float64 holds them), then the scales in float32."""

from __future__ import annotations

import torch

from lowbit.ops.ternary_matmul.layout import unpack_fields


def ternary_matmul(
    codes: torch.Tensor,
    scales: torch.Tensor,
    fields: torch.Tensor,
    levels: torch.Tensor,
    bias: torch.Tensor | None,
) -> torch.Tensor:
    """int8 (M, W) and scales (M,) -> (codes W^T) * scales * levels + bias, float32 (M, N)."""
    integers = (codes.double() @ unpack_fields(fields).double().T).float()
    y = integers * (scales[:, None] * levels.float())
    return y if bias is None else y + bias.float()
