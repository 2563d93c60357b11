"""lowbit: compact checkpoints that plain Transformers loads.

`import lowbit` makes `AutoModelForCausalLM.from_pretrained` understand `quant_method: lowbit`. Everything
else loads when it is first used: `lowbit.higgs.quantize`, `lowbit.ternary.quantize`,
`lowbit.uniform.quantize`, `lowbit.grids.load`, `lowbit.quantize_folder`, `lowbit.quantize_model`,
`lowbit.sensitivity.estimate`, `lowbit.allocate`, `lowbit.hybrid`, `lowbit.set_mode`, `lowbit.bitlinear`
(training) and `lowbit.bitnet` (checkpoints of Transformers' BitNet).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from lowbit import registration
from lowbit.errors import LowbitError

if TYPE_CHECKING:
    from lowbit import bitlinear, bitnet, grids, higgs, sensitivity, ternary, uniform
    from lowbit.allocation import Plan, allocate, hybrid
    from lowbit.folder import quantize_folder
    from lowbit.integration import LowbitConfig, quantize_model
    from lowbit.linear import LowbitLinear, set_mode

__all__ = [
    "LowbitConfig",
    "LowbitError",
    "LowbitLinear",
    "Plan",
    "allocate",
    "bitlinear",
    "bitnet",
    "grids",
    "higgs",
    "hybrid",
    "quantize_folder",
    "quantize_model",
    "sensitivity",
    "set_mode",
    "ternary",
    "uniform",
]

_MODULES = ("bitlinear", "bitnet", "grids", "higgs", "sensitivity", "ternary", "uniform")
_MEMBERS = {
    "LowbitConfig": "integration",
    "LowbitLinear": "linear",
    "Plan": "allocation",
    "allocate": "allocation",
    "hybrid": "allocation",
    "quantize_folder": "folder",
    "quantize_model": "integration",
    "set_mode": "linear",
}

registration.install()


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"lowbit.{name}")
    if name in _MEMBERS:
        return getattr(importlib.import_module(f"lowbit.{_MEMBERS[name]}"), name)
    raise AttributeError(f"module `lowbit` has no attribute `{name}`")
