"""A packed weight as the kernels run it: rotation and product for HIGGS, quantised input and product for
ternary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from lowbit.errors import LowbitError
from lowbit.higgs import HiggsWeight
from lowbit.ops import higgs_matmul, quantize_activation, rotate, ternary_matmul
from lowbit.ops.higgs_matmul import HiggsOperand
from lowbit.ops.ternary_matmul import TernaryOperand
from lowbit.ternary import TernaryWeight
from lowbit.weight import PackedWeight

KERNEL_KINDS = (HiggsWeight.kind, TernaryWeight.kind)


@dataclass(frozen=True, eq=False)
class Operand:
    """A weight for activations of `dtype`; `signs` int8 (W,) belong to the rotation of HIGGS."""

    weight: HiggsOperand | TernaryOperand
    dtype: torch.dtype
    signs: torch.Tensor | None = None


def prepare(packed: PackedWeight, dtype: torch.dtype) -> Operand:
    """`packed` for products with activations of `dtype` (float16 or bfloat16), on its own device."""
    if isinstance(packed, HiggsWeight):
        signs = rotate.signs_on(packed.seed, packed.padded_width, packed.codes.device)
        return Operand(higgs_matmul.prepare(packed, dtype), dtype, signs)
    if isinstance(packed, TernaryWeight):
        return Operand(ternary_matmul.prepare(packed), dtype)
    raise LowbitError(f"weights of kind `{packed.kind}` have no kernel; use mode `packed`")


def run(x: torch.Tensor, operand: Operand, bias: torch.Tensor | None) -> torch.Tensor:
    """x (..., in) -> x W^T + bias (..., out), in the dtype of x."""
    flat = x.reshape(-1, x.shape[-1])
    weight = operand.weight
    if isinstance(weight, HiggsOperand):
        assert operand.signs is not None
        turned = rotate.rotate(flat, operand.signs, weight.group)
        y = higgs_matmul.product(turned, weight, bias)
    else:
        codes, scales = quantize_activation.quantize_activation(flat, weight.shape[1])
        y = ternary_matmul.product(codes, scales, weight, x.dtype, bias)
    return y.view(*x.shape[:-1], weight.shape[0])
