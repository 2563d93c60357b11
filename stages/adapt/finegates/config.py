"""The peft configuration of FineGates."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from peft import PeftConfig

from stages.common.errors import UserError
from stages.common.params.adaptation import MOST

FINEGATES = "FINEGATES"
PREFIX = "finegates_"
MODES = ("global", "uniform", "faithful")
BIASES = ("none", "all")


@dataclass
class FineGatesConfig(PeftConfig):
    """Gates over frozen weights, and optionally low-rank matrices beside them.

    `mode`: `global` holds one budget over the model, `uniform` one per decoder layer, `faithful` is the
    paper's own (free row and column gates, penalty, no ramp). In `global` and `uniform` a gate is one FFN
    neuron (on `down_proj`) or one KV group with its query heads (on `o_proj`).

    `target_modules`, `exclude_modules`, `modules_to_save` are peft's; the default targets are `o_proj` and
    `down_proj`, in `faithful` every linear layer of the decoder.

    `share`: of the gateable parameters that goes, in `faithful` of each gate vector. `ramp`: share of the
    steps over which the removed share grows from 0. `sigma`: standard deviation of the gates' noise.
    `spread`: how far apart the gates of the least and the best unit begin, where the units have been scored
    beforehand. `settle`: share of the steps after which the units are picked, so that matrices beside the
    gates learn what stays; without matrices the gates learn to the end. `spread` is read by
    `Objective.begin` and `settle` by `Objective.settles`, which the stage `adapt` calls; a training loop of
    one's own that does not call them has neither. `faithful` has none of these: its share holds from the
    first step to the last and its noise is fixed.

    `r`: rank of the matrices beside the gates, 0 for none; `lora_alpha` / `r` scales them. `lora_modules`:
    the target modules that have them, by their last name; None for all.
    `bias`: `none`, or `all` to train those biases that the architecture has. `seed`: of noise and matrices.

    Raises `UserError` for values out of range.
    """

    target_modules: list[str] | set[str] | str | None = field(default=None)
    exclude_modules: list[str] | set[str] | str | None = field(default=None)
    modules_to_save: list[str] | None = field(default=None)
    mode: str = field(default="global")
    share: float = field(default=0.3)
    ramp: float = field(default=0.2)
    sigma: float = field(default=0.3)
    spread: float = field(default=2.0)
    settle: float = field(default=0.4)
    r: int = field(default=0)
    lora_alpha: float = field(default=1.0)
    lora_modules: list[str] | None = field(default=None)
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
            ("spread", 0, 100),
            ("settle", self.ramp, 1),
            ("r", 0, math.inf),
            ("lora_alpha", 0, math.inf),
        ):
            if not low <= getattr(self, name) <= high:
                raise UserError(f"FineGates: {name} {getattr(self, name)} is not within {low} and {high}")
        if self.lora_modules is not None and not self.r:
            raise UserError("FineGates: lora_modules are given without a rank (r)")

    def rank_of(self, name: str) -> int:
        """Rank of the matrices beside the module whose last name is `name`."""
        return self.r if self.lora_modules is None or name in self.lora_modules else 0
