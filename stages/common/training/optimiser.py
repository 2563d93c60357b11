"""AdamW with decay on matrices only, and the learning rate as a pure function of the step."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from stages.common.params.training import Optimisation

BETAS = (0.9, 0.98)
EPSILON = 1e-8
SECOND_PEAK = 2 / 3


def steps_of(settings: Optimisation) -> int:
    """Optimiser steps that the token budget buys, at least one; the last step may exceed the budget."""
    return max(1, math.ceil(settings.tokens / (settings.batch_size * settings.sequence_length)))


def learning_rate(settings: Optimisation, step: int) -> float:
    """Rate of `step` (from 0): linear warm-up to the peak, then linear or cosine decay to final_lr_share of
    it.

    `two-stage` decays linearly too, in the second half of the steps from a peak of SECOND_PEAK times the
    first (arXiv 2402.17764's note "Training Tips, Code and FAQ", stage two).
    """
    steps = steps_of(settings)
    warmup = round(settings.warmup_share * steps)
    if step < warmup:
        return settings.learning_rate * (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    fall = (1 - math.cos(math.pi * progress)) / 2 if settings.schedule == "cosine" else progress
    peak = SECOND_PEAK if _second_stage(settings, step) else 1.0
    return settings.learning_rate * peak * (1 - (1 - settings.final_lr_share) * fall)


def weight_decay(settings: Optimisation, step: int) -> float:
    """Decay of matrices at `step`: none in the second stage of `two-stage`, where latent weights settle."""
    return 0.0 if _second_stage(settings, step) else settings.weight_decay


def _second_stage(settings: Optimisation, step: int) -> bool:
    return settings.schedule == "two-stage" and 2 * step >= steps_of(settings)


def named_trainable(model: Any) -> dict[str, torch.nn.Parameter]:
    """Parameters that take a gradient, by name, in the model's order."""
    return {name: value for name, value in model.named_parameters() if value.requires_grad}


def make_optimiser(
    model: Any,
    settings: Optimisation,
    rates: Mapping[str, float] | None = None,
    undecayed: Sequence[str] = (),
) -> torch.optim.AdamW:
    """AdamW over the trainable parameters; vectors (norms, biases) are not decayed, nor is what has one of
    the fragments `undecayed` in its name.

    `rates`: peak learning rates other than the one of `settings`, by a fragment of the parameter's name; the
    first that fits counts. A group's `scale` is its peak over that of `settings`. Raises `ValueError` for a
    fragment that no trainable parameter's name contains.
    """
    import torch

    trainable = named_trainable(model)
    fragments = dict(rates or {})
    for fragment in fragments:
        if not any(fragment in name for name in trainable):
            raise ValueError(
                f"a learning rate is given for `{fragment}`, which no trainable parameter is called"
            )
    peaks = {name: _peak(name, fragments, settings.learning_rate) for name in trainable}
    matrices = {
        name
        for name, value in trainable.items()
        if value.ndim >= 2 and not any(fragment in name for fragment in undecayed)
    }
    groups = [
        {
            "params": [
                value
                for name, value in trainable.items()
                if peaks[name] == peak and (name in matrices) == decays
            ],
            "weight_decay": settings.weight_decay if decays else 0.0,
            "decays": decays,
            "scale": peak / settings.learning_rate,
        }
        for peak in dict.fromkeys([settings.learning_rate, *fragments.values()])
        for decays in (True, False)
    ]
    groups = [group for group in groups if group["params"]]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=BETAS, eps=EPSILON, fused=True)


def _peak(name: str, rates: Mapping[str, float], default: float) -> float:
    return next((rate for fragment, rate in rates.items() if fragment in name), default)
