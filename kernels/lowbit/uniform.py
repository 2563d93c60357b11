"""Uniform 8-bit weights: symmetric, one step per row, w ~ step * code with code in [-127, 127].

The step is max|w| / 127 of the row, so nothing clips; kernels for int8 exist everywhere. On Gaussian rows
the relative error is about 7e-5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from lowbit.errors import LowbitError
from lowbit.weight import Layout, PackedWeight, checked, half

LARGEST_CODE = 127


@dataclass(frozen=True, eq=False)
class UniformWeight(PackedWeight):
    """Codes int8 (out, in), scales float16 (out,): the step of each row."""

    kind: ClassVar[str] = "uniform"

    def spec(self) -> dict[str, Any]:
        return {"kind": self.kind, "shape": list(self.shape), "bits": 8}

    @classmethod
    def layout(cls, spec: dict[str, Any]) -> Layout:
        out_features, in_features = spec["shape"]
        if spec.get("bits") != 8:
            raise LowbitError(f"uniform weights of {spec.get('bits')} bits are not built; built: 8")
        return {
            "codes": ((out_features, in_features), torch.int8),
            "scales": ((out_features,), torch.float16),
        }

    def dequantize(self) -> torch.Tensor:
        return self.codes.float() * self.scales.float()[:, None]

    def check_codes(self, name: str) -> None:
        if int(self.codes.min()) < -LARGEST_CODE:
            raise LowbitError(f"{name}: code -128 is never written; the checkpoint is damaged")


def quantize(weight: torch.Tensor, bits: int = 8, name: str = "weight") -> UniformWeight:
    """Quantise a matrix (out, in) to `bits` (8 is built). `name` stands in errors.

    Raises `LowbitError` on NaN, infinity, integers, or another number of bits.
    """
    weight = checked(weight, name).float()
    if bits != 8:
        raise LowbitError(f"{name}: uniform weights of {bits} bits are not built; built: 8")
    step = half(torch.maximum(weight.amax(1), -weight.amin(1)) / LARGEST_CODE, name)
    divisor = torch.where(step > 0, step, 1).float()
    # float16 may round the step down, and then the row's largest weight would be 127.06 steps.
    codes = (weight / divisor[:, None]).round_().clamp_(-LARGEST_CODE, LARGEST_CODE)
    return UniformWeight(codes.to(torch.int8), step, (weight.shape[0], weight.shape[1]))
