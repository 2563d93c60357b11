"""Ternary weights: codes -1, 0, 1 times one level per row or per matrix, five codes to a byte.

`TernaryWeight` is a weight alone; `BitWeight` is that of a BitNet layer, whose activations are int8 too.

Levels: `absmean` is BitNet b1.58 (arXiv 2402.17764, equations 1-3): gamma = mean|W|, codes clip(round(W /
gamma), -1, 1), level gamma. `lsq` keeps these codes and refits the level by least squares, a = <W, c> / <c,
c>. `lloyd` is the optimum over codes and level together: with |w| in descending order and partial sums S_k,
the error of giving the k largest the level S_k / k is |w|^2 - S_k^2 / k, so the best k is found exactly by
one sort.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch

from lowbit import activations, packing
from lowbit.errors import LowbitError
from lowbit.weight import Layout, PackedWeight, checked, half

LEVELS = ("lsq", "absmean", "lloyd")
SMALLEST_GAMMA = 1e-5  # BitNet's clamp of mean|W|


@dataclass(frozen=True, eq=False)
class TernaryWeight(PackedWeight):
    """Codes uint8 (out, ceil(in / 5)) in base 3; scales float16 (out,), or (1,) when the whole matrix
    shares one.
    """

    kind: ClassVar[str] = "ternary"

    level: str

    def spec(self) -> dict[str, Any]:
        per = "row" if self.scales.numel() == self.shape[0] and self.shape[0] > 1 else "tensor"
        return {"kind": self.kind, "shape": list(self.shape), "level": self.level, "per": per}

    @classmethod
    def layout(cls, spec: dict[str, Any]) -> Layout:
        out_features, in_features = spec["shape"]
        row = -(-in_features // packing.TRITS_PER_BYTE)
        return {
            "codes": ((out_features, row), torch.uint8),
            "scales": ((out_features if spec["per"] == "row" else 1,), torch.float16),
        }

    @property
    def trits(self) -> torch.Tensor:
        """The codes -1, 0, 1 as int8 (out, in)."""
        return packing.unpack_trits(self.codes, self.shape[1])

    @property
    def fours(self) -> torch.Tensor:
        """The codes as they lie in memory at run time: uint8 (out, ceil(in / 4)), `packing.pack_fours`."""
        return packing.pack_fours(self.trits)

    def dequantize(self) -> torch.Tensor:
        return self.trits.float() * self.scales.float().view(-1, 1)

    def check_codes(self, name: str) -> None:
        largest = int(self.codes.max())
        if largest >= packing.TRIT_BYTES:
            raise LowbitError(
                f"{name}: byte {largest} does not stand for five trits; the checkpoint is damaged"
            )


@dataclass(frozen=True, eq=False)
class BitWeight(TernaryWeight):
    """The weight of a BitNet layer: inputs pass an RMS norm when `norm_eps` is given (its weight is a
    tensor of its own) and become int8 codes, one scale a token (`lowbit.activations`).

    Scales are float32 (1,) or (out,): the level of training is kept to the bit.
    """

    kind: ClassVar[str] = "bitlinear"

    norm_eps: float | None = None

    def spec(self) -> dict[str, Any]:
        norm = {} if self.norm_eps is None else {"norm_eps": self.norm_eps}
        return {**super().spec(), "activation_bits": activations.BITS, **norm}

    @classmethod
    def layout(cls, spec: dict[str, Any]) -> Layout:
        unknown = set(spec) - {"kind", "shape", "level", "per", "activation_bits", "norm_eps"}
        if unknown:
            raise LowbitError(f"bitlinear weights have no key `{min(unknown)}`; update lowbit")
        if spec["activation_bits"] != activations.BITS:
            raise LowbitError(
                f"activations of {spec['activation_bits']} bits are not built; built: {activations.BITS}"
            )
        eps = spec.get("norm_eps")
        if eps is not None and not (isinstance(eps, float) and math.isfinite(eps) and eps >= 0):
            raise LowbitError(f"norm_eps {eps!r} is no small number; the checkpoint is damaged")
        parts = super().layout(spec)
        return {"codes": parts["codes"], "scales": (parts["scales"][0], torch.float32)}


def quantize(
    weight: torch.Tensor,
    level: str = "lsq",
    per: Literal["row", "tensor"] | None = None,
    name: str = "weight",
) -> TernaryWeight:
    """Quantise a matrix (out, in). `level` is `lsq`, `absmean` or `lloyd`, see above.

    `per` says what shares one level (for `lsq`, also gamma): a row, or the whole matrix. None takes the
    matrix for `absmean`, as BitNet does, and the row else, which costs 16 / in bits a weight and follows
    rows of unequal size. `name` stands in errors. Raises `LowbitError` on NaN, infinity, integers, or an
    unknown level.
    """
    weight = checked(weight, name).float()
    per = per or ("tensor" if level == "absmean" else "row")
    codes, levels = fit(grouped(weight, per), level)
    packed = packing.pack_trits(codes.view(weight.shape))
    return TernaryWeight(packed, half(levels, name), (weight.shape[0], weight.shape[1]), level)


def grouped(weight: torch.Tensor, per: str) -> torch.Tensor:
    """`weight` (out, in) as (groups, weights of a group), where a group shares one level. Raises
    `LowbitError` when `per` is neither `row` nor `tensor`.
    """
    if per not in ("row", "tensor"):
        raise LowbitError(f"ternary levels are per `row` or per `tensor`, not per `{per}`")
    return weight if per == "row" else weight.reshape(1, -1)


def fit(groups: torch.Tensor, level: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes (groups, weights) and levels (groups,) of `groups` (groups, weights), all float32. Raises
    `LowbitError` for an unknown level.
    """
    if level not in LEVELS:
        raise LowbitError(f"ternary level `{level}` is not known; known: {', '.join(LEVELS)}")
    return _lloyd(groups) if level == "lloyd" else _absmean(groups, refit=level == "lsq")


def _absmean(groups: torch.Tensor, refit: bool) -> tuple[torch.Tensor, torch.Tensor]:
    # BitNet's clamp would empty rows of tiny weights; a refitted level needs no protection but that of the
    # division.
    gamma = groups.abs().mean(1).clamp(min=torch.finfo(torch.float32).tiny if refit else SMALLEST_GAMMA)
    codes = torch.round(groups / gamma[:, None]).clamp(-1, 1)
    if not refit:
        return codes, gamma
    used = codes.abs().sum(1).clamp(min=1)
    return codes, (groups * codes).sum(1) / used


def _lloyd(groups: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    size = groups.shape[1]
    ordered, order = groups.abs().sort(dim=1, descending=True, stable=True)
    sums = ordered.double().cumsum(1)
    counts = torch.arange(1, size + 1, device=groups.device, dtype=torch.float64)
    best = (sums.square() / counts).argmax(1, keepdim=True)
    kept = torch.arange(size, device=groups.device) <= best
    codes = torch.zeros_like(groups).scatter_(1, order, kept.to(groups.dtype)) * groups.sign()
    return codes, (sums.gather(1, best)[:, 0] / (best[:, 0] + 1)).float()
