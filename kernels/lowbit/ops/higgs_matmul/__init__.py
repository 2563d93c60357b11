"""y = x_rot W_q^T from packed HIGGS indices: a GEMV for few tokens, tensor cores for more."""

from __future__ import annotations

import torch

from lowbit.ops import common
from lowbit.ops.common import Config, config, next_power
from lowbit.ops.higgs_matmul.layout import HiggsOperand, prepare
from lowbit.ops.higgs_matmul.reference import higgs_matmul as reference

__all__ = ["HiggsOperand", "configs", "higgs_matmul", "prepare", "product", "reference", "tile_of"]

NAME = "higgs_matmul"
GEMV_TOKENS = 4  # up to here CUDA cores keep up with the memory; beyond it tensor cores waste no rows


def tile_of(tokens: int) -> int:
    """Rows of the kernel's tile of M: 1, 2 or 4 for the GEMV, 16 to 128 for the tensor cores."""
    if tokens <= GEMV_TOKENS:
        return next_power(tokens)
    return min(128, max(16, next_power(tokens)))


def configs(rows: int) -> tuple[Config, ...]:
    """What the autotuner may choose from for a tile of `rows` tokens.

    BN: outputs, BW: words of a row at a time; COPIES: copies of the table in shared memory (0: the table is
    read through the L1 cache); SPLIT: parts of K that are summed up by a second kernel.
    """
    if rows <= GEMV_TOKENS:
        return _gemv_configs(rows)
    choices: tuple[tuple[int, ...], ...]
    if rows <= 32:
        choices = (
            *((32, 16, 1, 4, 4, 3), (32, 32, 1, 4, 4, 3), (64, 16, 1, 4, 4, 3), (64, 32, 1, 8, 4, 3)),
            *((32, 32, 0, 4, 4, 3), (64, 16, 4, 4, 4, 3)),
        )
    elif rows <= 64:
        choices = (
            *((64, 16, 1, 1, 4, 3), (64, 32, 1, 1, 4, 3), (128, 16, 1, 1, 8, 3)),
            *((64, 32, 0, 1, 4, 3), (64, 32, 1, 2, 4, 3)),
        )
    else:
        # Wider tiles of K spill registers here (docs/results/kernels_sm90.json is how one knows).
        choices = ((64, 16, 1, 1, 4, 3), (128, 16, 1, 1, 8, 3), (64, 16, 1, 2, 4, 3))
    return tuple(
        config(warps, stages, BN=columns, BW=words, COPIES=copies, SPLIT=split)
        for columns, words, copies, split, warps, stages in choices
    )


def _gemv_configs(rows: int) -> tuple[Config, ...]:
    # With 128 words a warp, four to a thread, activations and weights lie in the same threads.
    shapes: tuple[tuple[int, ...], ...]
    if rows == 1:
        shapes = ((4, 4, 4), (2, 4, 4), (4, 4, 1), (4, 4, 0), (4, 2, 4), (2, 4, 8))
    else:
        shapes = ((2, 4, 4), (2, 4, 1), (2, 4, 0), (2, 2, 2), (1, 4, 4))
    return tuple(
        config(warps, 1, BN=columns, BW=128 * warps, COPIES=copies, SPLIT=1)
        for columns, warps, copies in shapes
    )


SCHEMA = (
    "(Tensor x, Tensor words, Tensor table, Tensor scales, Tensor? bias, int group, int bits, int step)"
    " -> Tensor"
)


@torch.library.custom_op("lowbit::higgs_matmul", mutates_args=(), device_types="cpu", schema=SCHEMA)
def higgs_matmul(
    x: torch.Tensor,
    words: torch.Tensor,
    table: torch.Tensor,
    scales: torch.Tensor,
    bias: torch.Tensor | None,
    group: int,
    bits: int,
    step: int,
) -> torch.Tensor:
    """x (M, W) float16 or bfloat16, rotated -> x W_q^T + bias (M, N) in the dtype of x.

    `words`, `table`, `scales`, `group`, `bits` and `step` are those of a `HiggsOperand` that was prepared for
    the dtype of x; `bias` (N,) any floating dtype. Products are summed up in float32, in an order that
    depends on shapes and configuration alone. Raises `LowbitError` naming the tensor.
    """
    _check(x, words, table, scales, bias, group, bits, step)
    return reference(x, words, table, scales, bias, group, bits, step).to(x.dtype)


@higgs_matmul.register_kernel("cuda")
def _(
    x: torch.Tensor,
    words: torch.Tensor,
    table: torch.Tensor,
    scales: torch.Tensor,
    bias: torch.Tensor | None,
    group: int,
    bits: int,
    step: int,
) -> torch.Tensor:
    _check(x, words, table, scales, bias, group, bits, step)
    from lowbit.ops.higgs_matmul.triton import launch

    x = common.rows_contiguous(x)
    weight = HiggsOperand(words, table, scales, (len(words), x.shape[1]), group, bits, step)
    variants = configs(tile_of(len(x)))
    shape = f"M={common.bucket(len(x))} N={len(words)} K={x.shape[1]}"
    key = f"{NAME} {len(table)}x{step} g={group} {shape} {x.dtype}"
    with torch.cuda.device_of(x):
        chosen = common.choose(key, variants, x.device, lambda entry: launch(x, weight, bias, entry))
        return launch(x, weight, bias, chosen)


@higgs_matmul.register_fake
def _(
    x: torch.Tensor,
    words: torch.Tensor,
    table: torch.Tensor,  # noqa: ARG001
    scales: torch.Tensor,  # noqa: ARG001
    bias: torch.Tensor | None,  # noqa: ARG001
    group: int,  # noqa: ARG001
    bits: int,  # noqa: ARG001
    step: int,  # noqa: ARG001
) -> torch.Tensor:
    return x.new_empty(x.shape[0], words.shape[0])


def product(x: torch.Tensor, weight: HiggsOperand, bias: torch.Tensor | None = None) -> torch.Tensor:
    """`higgs_matmul` of rotated activations and a prepared weight."""
    parts = (weight.words, weight.table, weight.scales)
    return higgs_matmul(x, *parts, bias, weight.group, weight.bits, weight.step)


def _check(
    x: torch.Tensor,
    words: torch.Tensor,
    table: torch.Tensor,
    scales: torch.Tensor,
    bias: torch.Tensor | None,
    group: int,
    bits: int,
    step: int,
) -> None:
    known = bits in (8, 16) and step in (1, 2, 4) and group >= 16 and group & (group - 1) == 0
    common.check(known, NAME, "weight", f"has codes of {bits} bits for {step} weights and scales of {group}")
    common.check(scales.dim() == 2, NAME, "scales", f"have shape {tuple(scales.shape)}; give (N, W / group)")
    common.check_activations(x, NAME, scales.shape[1] * group)
    codes = x.shape[1] // step
    needed = (len(scales), -(-codes // (128 // bits)) * 4)
    fits = words.dtype == torch.int32 and tuple(words.shape) == needed and words.is_contiguous()
    common.check(fits, NAME, "words", f"must be contiguous int32 {needed}, not {tuple(words.shape)}")
    fits = table.dtype == torch.int32 and table.is_contiguous() and table.shape[1:] == (max(1, step // 2),)
    common.check(fits, NAME, "table", f"must be contiguous int32 (entries, {max(1, step // 2)})")
    common.check(scales.is_contiguous(), NAME, "scales", "must be contiguous")
    if bias is not None:
        common.check(tuple(bias.shape) == needed[:1], NAME, "bias", f"must be ({needed[0]},)")
