"""GPU kernels in Triton, one folder an operation: `reference.py` says what is computed, `triton.py` computes.

| operation | computes |
|---|---|
| `rotate` | signs and blocked Walsh-Hadamard transform of activations |
| `higgs_matmul` | y = x_rot W_q^T from packed HIGGS indices |
| `quantize_activation` | int8 per token by the absolute maximum |
| `ternary_matmul` | y = (x_q W_q^T) * scales from ternary weights in 2 bits |

Every operation is a `torch.library.custom_op` of the namespace `lowbit`: the reference runs on the CPU, the
kernel on CUDA and ROCm, and `torch.compile` traces through it. Neither torch nor Triton is imported before
an operation is used. M is the number of tokens, N the outputs, K the inputs of a layer.
"""

from __future__ import annotations

import importlib
from typing import Any

OPERATIONS = ("higgs_matmul", "quantize_activation", "rotate", "ternary_matmul")


def __getattr__(name: str) -> Any:
    if name in OPERATIONS:
        return importlib.import_module(f"lowbit.ops.{name}")
    raise AttributeError(f"module `lowbit.ops` has no attribute `{name}`")
