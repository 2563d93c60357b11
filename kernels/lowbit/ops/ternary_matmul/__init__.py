"""y = (x_q W_q^T) * scales from ternary weights in 2 bits and int8 activations, exact in integers."""

from __future__ import annotations

import torch

from lowbit.ops import common
from lowbit.ops.common import Config, config, next_power
from lowbit.ops.ternary_matmul.layout import FIELDS, TernaryOperand, prepare
from lowbit.ops.ternary_matmul.reference import ternary_matmul as reference

__all__ = ["TernaryOperand", "configs", "prepare", "product", "reference", "ternary_matmul", "tile_of"]

NAME = "ternary_matmul"
GEMV_TOKENS = 4  # as for HIGGS


def tile_of(tokens: int) -> int:
    """Rows of the kernel's tile of M: 1, 2 or 4 for the GEMV, 16 to 128 for the tensor cores."""
    if tokens <= GEMV_TOKENS:
        return next_power(tokens)
    return min(128, max(16, next_power(tokens)))


def configs(rows: int) -> tuple[Config, ...]:
    """What the autotuner may choose from for a tile of `rows` tokens.

    BN: outputs, BW: words of 16 weights of a row at a time (GEMV), BB: bytes of a row at a time (tensor
    cores), SPLIT: parts of K that a second kernel sums up.
    """
    if rows <= GEMV_TOKENS:
        # With 128 words a warp, four to a thread, activations and weights lie in the same threads.
        shapes = ((4, 2), (8, 2), (8, 1), (2, 2), (4, 4)) if rows == 1 else ((2, 2), (2, 1), (2, 4), (1, 2))
        return tuple(config(warps, 1, BN=columns, BW=128 * warps, SPLIT=1) for columns, warps in shapes)
    choices: tuple[tuple[int, ...], ...]
    if rows <= 32:
        choices = (
            (32, 64, 4, 4, 3),
            (64, 64, 4, 4, 3),
            (32, 128, 4, 4, 3),
            (64, 64, 8, 4, 3),
            (32, 32, 4, 4, 4),
        )
    else:
        choices = ((64, 32, 1, 4, 3), (128, 32, 1, 8, 3), (64, 64, 1, 4, 3), (128, 64, 1, 8, 3))
    return tuple(
        config(warps, stages, BN=columns, BB=width, SPLIT=split)
        for columns, width, split, warps, stages in choices
    )


SCHEMA = (
    "(Tensor codes, Tensor scales, Tensor fields, Tensor levels, Tensor? bias, ScalarType dtype) -> Tensor"
)


@torch.library.custom_op("lowbit::ternary_matmul", mutates_args=(), device_types="cpu", schema=SCHEMA)
def ternary_matmul(
    codes: torch.Tensor,
    scales: torch.Tensor,
    fields: torch.Tensor,
    levels: torch.Tensor,
    bias: torch.Tensor | None,
    dtype: torch.dtype,
) -> torch.Tensor:
    """codes int8 (M, W), scales float32 (M,) -> (codes W_q^T) * scales * levels + bias (M, N) in `dtype`.

    `fields` and `levels` are those of a `TernaryOperand`; `codes` and `scales` what `quantize_activation`
    gives for its width; `dtype` float16 or bfloat16. The integer sum is exact: every configuration gives the
    same bits. Raises `LowbitError` naming the tensor. arXiv 2402.17764.
    """
    _check(codes, scales, fields, levels, bias, dtype)
    return reference(codes, scales, fields, levels, bias).to(dtype)


@ternary_matmul.register_kernel("cuda")
def _(
    codes: torch.Tensor,
    scales: torch.Tensor,
    fields: torch.Tensor,
    levels: torch.Tensor,
    bias: torch.Tensor | None,
    dtype: torch.dtype,
) -> torch.Tensor:
    _check(codes, scales, fields, levels, bias, dtype)
    from lowbit.ops.ternary_matmul.triton import launch

    codes = common.rows_contiguous(codes)
    weight = TernaryOperand(fields, levels, (len(fields), codes.shape[1]))
    variants = configs(tile_of(len(codes)))
    key = f"{NAME} M={common.bucket(len(codes))} N={len(fields)} K={codes.shape[1]} {dtype}"
    with torch.cuda.device_of(codes):
        chosen = common.choose(
            key, variants, codes.device, lambda entry: launch(codes, scales, weight, bias, dtype, entry)
        )
        return launch(codes, scales, weight, bias, dtype, chosen)


@ternary_matmul.register_fake
def _(
    codes: torch.Tensor,
    scales: torch.Tensor,  # noqa: ARG001
    fields: torch.Tensor,
    levels: torch.Tensor,  # noqa: ARG001
    bias: torch.Tensor | None,  # noqa: ARG001
    dtype: torch.dtype,
) -> torch.Tensor:
    return codes.new_empty(codes.shape[0], fields.shape[0], dtype=dtype)


def product(
    codes: torch.Tensor,
    scales: torch.Tensor,
    weight: TernaryOperand,
    dtype: torch.dtype,
    bias: torch.Tensor | None = None,
) -> torch.Tensor:
    """`ternary_matmul` of quantised activations and a prepared weight."""
    return ternary_matmul(codes, scales, weight.fields, weight.levels, bias, dtype)


def _check(
    codes: torch.Tensor,
    scales: torch.Tensor,
    fields: torch.Tensor,
    levels: torch.Tensor,
    bias: torch.Tensor | None,
    dtype: torch.dtype,
) -> None:
    common.check(dtype in common.DTYPES, NAME, "dtype", f"is {dtype}; give float16 or bfloat16")
    whole = fields.dtype == torch.uint8 and fields.dim() == 2 and fields.shape[1] % 16 == 0
    common.check(
        whole and fields.is_contiguous(), NAME, "fields", "must be contiguous uint8 (N, W / 4), 64 dividing W"
    )
    outputs, width = fields.shape[0], fields.shape[1] * FIELDS
    fits = codes.dtype == torch.int8 and codes.dim() == 2 and codes.shape[1] == width
    common.check(fits, NAME, "codes", f"must be int8 (M, {width}), not {tuple(codes.shape)} {codes.dtype}")
    fits = scales.dtype == torch.float32 and tuple(scales.shape) == (len(codes),) and scales.is_contiguous()
    common.check(fits, NAME, "scales", f"must be contiguous float32 ({len(codes)},)")
    common.check(levels.numel() in (1, outputs), NAME, "levels", f"must be ({outputs},) or (1,)")
    if bias is not None:
        common.check(tuple(bias.shape) == (outputs,), NAME, "bias", f"must be ({outputs},)")
