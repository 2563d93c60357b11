"""Four bits a weight in blocks of one row, as other libraries store them: the baselines of HIGGS.

w ~ scale * level[code], or scale * (code - zero), with 16 levels and one scale a block:

    nf4        bitsandbytes: the levels of arXiv 2305.14314, appendix E, scale max|w|, blocks of 64
    hqq-4bit   hqq: codes 0..15 with a zero a block, both fitted to the weights, blocks of 64
    int4-rtn   round to nearest: levels -7..7, scale max|w| / 7, blocks of 128

The codes are made by the library that each format is named after, when it is installed (`make baselines`);
what is stored is read without it. Scales and zeros are stored in float16, which favours bitsandbytes: it
keeps float32.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch.nn import functional as F

from lowbit import packing
from lowbit.errors import LowbitError
from lowbit.weight import Layout, PackedWeight, checked, half

BITS = 4
GROUPS = {"nf4": 64, "hqq-4bit": 64, "int4-rtn": 128}
FORMATS = tuple(GROUPS)
LIBRARIES = {"nf4": "bitsandbytes", "hqq-4bit": "hqq"}
NF4 = (
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635),
    *(-0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725),
    *(0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941),
    *(0.7229568362236023, 1.0),
)
MIDDLE = 8  # the code of 0 in int4-rtn
LARGEST = 7


@dataclass(frozen=True, eq=False)
class BlockWeight(PackedWeight):
    """Codes uint8 (out, padded in / 2), the lower half of a byte first; scales float16 (out, blocks), or
    (out, blocks, 2) with the zeros of `hqq-4bit`. Rows are padded with zeros to whole blocks.
    """

    kind: ClassVar[str] = "block4"

    format: str

    def spec(self) -> dict[str, Any]:
        return {"kind": self.kind, "shape": list(self.shape), "format": self.format}

    @classmethod
    def layout(cls, spec: dict[str, Any]) -> Layout:
        out_features, in_features = spec["shape"]
        group = GROUPS[_known(spec.get("format"))]
        blocks = -(-in_features // group)
        zeros = (2,) if spec["format"] == "hqq-4bit" else ()
        return {
            "codes": ((out_features, packing.packed_bytes(blocks * group, BITS)), torch.uint8),
            "scales": ((out_features, blocks, *zeros), torch.float16),
        }

    def dequantize(self) -> torch.Tensor:
        rows, columns = self.shape
        group = GROUPS[self.format]
        index = packing.unpack(self.codes, BITS, self.codes.shape[1] * 8 // BITS).view(rows, -1, group)
        scales = self.scales.float()
        if self.format == "hqq-4bit":
            blocks = (index.float() - scales[..., 1:]) * scales[..., :1]
        elif self.format == "nf4":
            blocks = torch.tensor(NF4, device=index.device)[index] * scales[..., None]
        else:
            blocks = (index.float() - MIDDLE) * scales[..., None]
        return blocks.view(rows, -1)[:, :columns]

    def check_codes(self, name: str) -> None:
        """Every byte holds two codes, except that round to nearest never writes -8."""
        if self.format == "int4-rtn" and bool(((self.codes & 15 == 0) | (self.codes >> BITS == 0)).any()):
            raise LowbitError(f"{name}: code -8 is never written; the checkpoint is damaged")


def quantize(weight: torch.Tensor, format: str, name: str = "weight") -> BlockWeight:  # noqa: A002
    """Quantise a matrix (out, in) to one of `FORMATS`. `name` stands in errors.

    Raises `LowbitError` on NaN, infinity, integers, an unknown format, or when the library that makes it is
    not installed.
    """
    weight = checked(weight, name).float()
    group = GROUPS[_known(format)]
    rows, columns = weight.shape
    blocks = F.pad(weight, (0, -columns % group)).reshape(-1, group)
    make = {"nf4": _nf4, "hqq-4bit": _hqq, "int4-rtn": _round_to_nearest}[format]
    codes, scales = make(blocks, name)
    packed = packing.pack(codes.view(rows, -1), BITS)
    return BlockWeight(packed, scales.view(rows, -1, *scales.shape[1:]), (rows, columns), format)


def _known(format: Any) -> str:  # noqa: A002
    if format not in FORMATS:
        raise LowbitError(f"four-bit format `{format}` is not known; known: {', '.join(FORMATS)}")
    return str(format)


def _library(format: str, module: str, name: str) -> Any:  # noqa: A002
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = LIBRARIES[format]
        hint = f"run `make baselines` or pip install {package}"
        raise LowbitError(f"{name}: recipe `{format}` needs {package}; {hint}") from error


def _nf4(blocks: torch.Tensor, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    functional = _library("nf4", "bitsandbytes.functional", name)
    packed, state = functional.quantize_4bit(
        blocks.contiguous(), blocksize=blocks.shape[1], quant_type="nf4", compress_statistics=False
    )
    # bitsandbytes puts the first weight of a pair into the upper half of the byte.
    pairs = packed.view(torch.uint8).flatten()
    return torch.stack([pairs >> BITS, pairs & 15], 1).view(blocks.shape), half(state.absmax, name)


def _hqq(blocks: torch.Tensor, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    quantizer = _library("hqq-4bit", "hqq.core.quantize", name).Quantizer
    codes, about = quantizer.quantize(
        blocks,
        nbits=BITS,
        group_size=blocks.shape[1],
        axis=1,
        bitpack=False,
        compute_dtype=torch.float32,
        device=str(blocks.device),
    )
    scales = torch.cat([about["scale"], about["zero"]], 1)
    return codes.view(blocks.shape), half(scales, name)


def _round_to_nearest(blocks: torch.Tensor, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    scale = half(blocks.abs().amax(1) / LARGEST, name)
    divisor = torch.where(scale > 0, scale, 1).float()
    return (blocks / divisor[:, None]).round_().clamp_(-LARGEST, LARGEST) + MIDDLE, scale
