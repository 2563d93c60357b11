"""AdamW with decay on matrices only, and the learning rate as a pure function of the step."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from stages.common.params.training import Optimisation

BETAS = (0.9, 0.98)
EPSILON = 1e-8


def steps_of(settings: Optimisation) -> int:
    """Optimiser steps that the token budget buys, at least one; the last step may exceed the budget."""
    return max(1, math.ceil(settings.tokens / (settings.batch_size * settings.sequence_length)))


def learning_rate(settings: Optimisation, step: int) -> float:
    """Rate of `step` (from 0): linear warm-up to the peak, then linear or cosine decay to final_lr_share of
    it.
    """
    steps = steps_of(settings)
    warmup = round(settings.warmup_share * steps)
    if step < warmup:
        return settings.learning_rate * (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    fall = progress if settings.schedule == "linear" else (1 - math.cos(math.pi * progress)) / 2
    return settings.learning_rate * (1 - (1 - settings.final_lr_share) * fall)


def named_trainable(model: Any) -> dict[str, torch.nn.Parameter]:
    """Parameters that take a gradient, by name, in the model's order."""
    return {name: value for name, value in model.named_parameters() if value.requires_grad}


def make_optimiser(model: Any, settings: Optimisation) -> torch.optim.AdamW:
    """AdamW over the trainable parameters; vectors (norms, biases) are not decayed."""
    import torch

    trainable = list(named_trainable(model).values())
    groups = [
        {"params": [value for value in trainable if value.ndim >= 2], "weight_decay": settings.weight_decay},
        {"params": [value for value in trainable if value.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=BETAS, eps=EPSILON, fused=True)
