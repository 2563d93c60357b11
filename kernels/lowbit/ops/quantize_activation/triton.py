"""One program a token: the maximum, then the codes, which read the token again from the L1 cache."""

# Arguments of kernels have no types.
# mypy: allow-untyped-defs, disable-error-code="assignment"

from __future__ import annotations

import torch
import triton
import triton.language as tl

from lowbit.ops import common
from lowbit.ops.common import Config
from lowbit.ops.quantize_activation.reference import SMALLEST_PEAK


@triton.jit
def kernel(
    x_ptr, codes_ptr, scales_ptr, K, W, stride_x, SMALLEST: tl.constexpr, B: tl.constexpr
):  # fmt: skip
    """x (M, K) with row stride `stride_x` -> codes (M, W) contiguous, scales (M,)."""
    row = tl.program_id(0).to(tl.int64)
    lane = tl.arange(0, B)
    peaks = tl.zeros((B,), tl.float32)
    strange = tl.zeros((B,), tl.int32)
    for start in range(0, K, B):
        k = start + lane
        x = tl.load(x_ptr + row * stride_x + k, mask=k < K, other=0).to(tl.float32)
        peaks = tl.maximum(peaks, tl.abs(x))
        # Comparisons with NaN are false; a maximum would drop it.
        strange = tl.where(tl.abs(x) < float("inf"), strange, 1)
    peak = tl.maximum(tl.max(peaks, axis=0), SMALLEST)
    finite = tl.max(strange, axis=0) == 0
    factor = tl.div_rn(127.0, tl.where(finite, peak, 1.0))
    for start in range(0, W, B):
        k = start + lane
        x = tl.load(x_ptr + row * stride_x + k, mask=k < K, other=0).to(tl.float32)
        # Adding 1.5 * 2^23 leaves no digits after the point: rounding half to even by the adder itself.
        codes = (x * factor + 12582912.0) - 12582912.0
        codes = tl.minimum(tl.maximum(codes, -127.0), 127.0)
        codes = tl.where(finite, codes, 0.0)
        tl.store(codes_ptr + row * W + k, codes.to(tl.int8), mask=k < W)
    tl.store(scales_ptr + row, tl.where(finite, tl.div_rn(peak, 127.0), float("nan")))


def launch(
    x: torch.Tensor,
    width: int,
    entry: Config,
    out: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """`quantize_activation` with one configuration; `x` has contiguous rows. `out` takes the results when it
    is given.
    """
    tokens = x.shape[0]
    codes, scales = out or (
        x.new_empty(tokens, width, dtype=torch.int8),
        x.new_empty(tokens, dtype=torch.float32),
    )
    if tokens:
        # Contracting x * factor + constant into one rounding would change ties: no fusion here.
        common.start(
            kernel, (tokens,),
            x, codes, scales, x.shape[1], width, x.stride(0),
            SMALLEST=SMALLEST_PEAK, **entry.launch(fuse=False),
        )  # fmt: skip
    return codes, scales
