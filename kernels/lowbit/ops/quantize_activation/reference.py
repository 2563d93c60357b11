"""What `quantize_activation` computes, in float32."""

from __future__ import annotations

import torch

SMALLEST_PEAK = 1e-5  # BitNet's clamp of max|x|
LARGEST_CODE = 127


def quantize_activation(x: torch.Tensor, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """x (M, K) -> codes int8 (M, width), scales float32 (M,); see the operation."""
    values = torch.nn.functional.pad(x.float(), (0, width - x.shape[1]))
    peak = values.abs().amax(1) if width else values.new_zeros(len(values))
    peak = peak.clamp(min=SMALLEST_PEAK)
    finite = torch.isfinite(peak)
    # `127 / tensor` would be a reciprocal times 127 in torch, rounded twice.
    factor = torch.full_like(peak, LARGEST_CODE).div(torch.where(finite, peak, 1))
    scaled = values * factor[:, None]
    codes = torch.round(scaled).clamp(-LARGEST_CODE, LARGEST_CODE)
    codes = torch.where(finite[:, None], codes, 0).to(torch.int8)
    return codes, torch.where(finite, peak / LARGEST_CODE, torch.nan)
