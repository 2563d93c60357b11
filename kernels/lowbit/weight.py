"""What every packed weight has in common: stored tensors, a JSON specification, dequantisation and honest
accounting.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self

import torch

from lowbit.errors import LowbitError

Shape = tuple[int, int]
Layout = dict[str, tuple[tuple[int, ...], torch.dtype]]
COMPARED = 1 << 22  # weights that are looked at at a time, which bounds the memory beside the matrices


@dataclass(frozen=True, eq=False)
class PackedWeight(ABC):
    """A quantised weight matrix of `shape` (out, in).

    `codes` and `scales` are all that is stored for it; `scales` is float16, or float32 where `layout` says
    so. `spec` and `layout` say the rest.
    """

    kind: ClassVar[str]

    codes: torch.Tensor
    scales: torch.Tensor
    shape: Shape

    @abstractmethod
    def spec(self) -> dict[str, Any]:
        """What a checkpoint's configuration says of this weight, as JSON values."""

    @classmethod
    @abstractmethod
    def layout(cls, spec: dict[str, Any]) -> Layout:
        """Shape and dtype of `codes` and `scales` of a weight with this `spec`."""

    @classmethod
    def restore(cls, codes: torch.Tensor, scales: torch.Tensor, spec: dict[str, Any], seed: int) -> Self:
        """The weight from its stored tensors; nothing is copied. Fields of a kind's own are in its `spec`."""
        out_features, in_features = spec["shape"]
        known = {**spec, "seed": seed}
        own = [field.name for field in fields(cls) if field.name not in ("codes", "scales", "shape")]
        values = {name: known[name] for name in own if name in known}
        return cls(codes, scales, (out_features, in_features), **values)

    @abstractmethod
    def dequantize(self) -> torch.Tensor:
        """The matrix (out, in) in float32, in its original orientation."""

    @abstractmethod
    def check_codes(self, name: str) -> None:
        """Raise `LowbitError` when a stored byte stands for no value."""

    def check(self, name: str) -> None:
        """Raise `LowbitError`, naming the tensor, when the stored tensors cannot have been written by
        `quantize`.
        """
        for part, (shape, dtype) in self.layout(self.spec()).items():
            tensor = getattr(self, part)
            if tuple(tensor.shape) != shape or tensor.dtype != dtype:
                raise LowbitError(
                    f"{name}: stored {part} are {tuple(tensor.shape)} {tensor.dtype} where {shape} {dtype} "
                    "are declared; the checkpoint is damaged"
                )
        if not bool(torch.isfinite(self.scales).all()):
            raise LowbitError(f"{name}: stored scales hold NaN or infinity; the checkpoint is damaged")
        self.check_codes(name)

    @property
    def bits_per_weight(self) -> float:
        """All stored bits (codes, scales, padding) over the number of weights."""
        stored = sum(part.numel() * part.element_size() for part in (self.codes, self.scales))
        return 8 * stored / (self.shape[0] * self.shape[1])

    def relative_error(self, weight: torch.Tensor) -> float:
        """|W_q - W|_F^2 / |W|_F^2 against the original `weight`; 0 when both are zero."""
        if tuple(weight.shape) != self.shape:
            raise LowbitError(
                f"the quantised weight is {self.shape}, the one to compare with {tuple(weight.shape)}"
            )
        lost = size = 0.0
        rows = max(1, COMPARED // self.shape[1])
        for ours, part in zip(self.dequantize().split(rows), weight.detach().split(rows), strict=True):
            reference = part.to(device=ours.device, dtype=torch.float32)
            lost += float((ours - reference).square().sum(dtype=torch.float64))
            size += float(reference.square().sum(dtype=torch.float64))
        return lost / size if size else 0.0 if lost == 0 else float("inf")


def checked(weight: torch.Tensor, name: str) -> torch.Tensor:
    """`weight` without its graph, when it is a finite floating matrix. Raises `LowbitError` naming the
    tensor.
    """
    if not weight.is_floating_point():
        raise LowbitError(f"{name}: {weight.dtype} weights cannot be quantised; give floating-point ones")
    if weight.dim() != 2 or weight.numel() == 0:
        raise LowbitError(
            f"{name}: shape {tuple(weight.shape)}; a matrix (out, in) with at least one weight is needed"
        )
    if not finite(weight):
        raise LowbitError(f"{name}: holds NaN or infinity; mend the checkpoint before quantising it")
    return weight.detach()


def finite(tensor: torch.Tensor) -> bool:
    """Whether it holds neither NaN nor infinity; `torch.isfinite` takes several times its memory."""
    return all(bool(torch.isfinite(part).all()) for part in tensor.flatten().split(COMPARED))


def half(scales: torch.Tensor, name: str) -> torch.Tensor:
    """`scales` as float16. Raises `LowbitError` when one is too large for it."""
    stored = scales.to(torch.float16)
    if bool(torch.isinf(stored).any()):
        raise LowbitError(
            f"{name}: a scale of {float(scales.max()):.3g} is beyond float16; rescale the weights"
        )
    return stored
