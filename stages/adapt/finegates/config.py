"""The peft configuration of FineGates."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from peft import PeftConfig

from stages.common.errors import UserError

FINEGATES = "FINEGATES"
PREFIX = "finegates_"
MODES = ("global", "uniform", "faithful")
BIASES = ("none", "all")
MOST = 0.9


@dataclass
class FineGatesConfig(PeftConfig):
    """Gates over frozen weights, and optionally low-rank matrices beside them.

    `mode`: `global` holds one budget over the model, `uniform` one per layer and part, `faithful` is the
    paper's own (free row and column gates, penalty, no ramp). In `global` and `uniform` a gate is one FFN
    neuron (on `down_proj`) or one KV group with its query heads (on `o_proj`).

    `target_modules`, `exclude_modules`, `modules_to_save` are peft's; the default targets are `o_proj` and
    `down_proj`, in `faithful` every linear layer of the decoder.

    `share`: of the gateable parameters that goes, in `faithful` of each gate vector. `ramp`: share of the
    steps over which the removed share grows from 0. `sigma`: standard deviation of the gates' noise. Both
    are unused in `faithful`, whose noise is fixed.

    `ffn_multiple`, `group_multiple`: of the widths that `uniform` will be cut to; other modes learn nothing
    of them.

    `r`: rank of the matrices beside the gates on all target modules, 0 for none; `lora_alpha` / `r` scales
    them. `bias`: `none`, or `all` to train those biases that the architecture has. `seed`: of noise and
    matrices.

    Raises `UserError` for values out of range.
    """

    target_modules: list[str] | set[str] | str | None = field(default=None)
    exclude_modules: list[str] | set[str] | str | None = field(default=None)
    modules_to_save: list[str] | None = field(default=None)
    mode: str = field(default="global")
    share: float = field(default=0.3)
    ramp: float = field(default=0.5)
    sigma: float = field(default=0.5)
    ffn_multiple: int = field(default=1)
    group_multiple: int = field(default=1)
    r: int = field(default=0)
    lora_alpha: float = field(default=1.0)
    bias: str = field(default="none")
    seed: int = field(default=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = FINEGATES
        for name in ("target_modules", "exclude_modules"):
            if isinstance(value := getattr(self, name), list):
                setattr(self, name, set(value))
        for name, among in (("mode", MODES), ("bias", BIASES)):
            if getattr(self, name) not in among:
                raise UserError(f"FineGates: {name} `{getattr(self, name)}` is not one of {', '.join(among)}")
        for name, low, high in (
            ("share", 0, MOST),
            ("ramp", 0.01, 1),
            ("sigma", 0.01, 10),
            ("ffn_multiple", 1, math.inf),
            ("group_multiple", 1, math.inf),
            ("r", 0, math.inf),
            ("lora_alpha", 0, math.inf),
        ):
            if not low <= getattr(self, name) <= high:
                raise UserError(f"FineGates: {name} {getattr(self, name)} is not within {low} and {high}")
