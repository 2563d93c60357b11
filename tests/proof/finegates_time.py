"""Claim `finegates`: what a step of the gates costs beside one of LoRA, paired in one run."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

PAIRS, STEPS, WARMUP = 30, 4, 3
LEARNING = 0.3  # of the steps
THREADS = 1  # a busy neighbour spoils one thread's ratio less than that of two
ROUNDS = 2000
LAYERS = ["o_proj", "down_proj"]
LORA = {"method": "lora", "rank": 8, "alpha": 16.0, "target_modules": LAYERS}
KINDS: dict[str, dict[str, Any]] = {
    "gates": {},
    "gates and rank 8 beside": {"rank": 8, "alpha": 16.0, "target_modules": LAYERS},
}
REFERENCE = "lora, rank 8"


def times(adaptation: Callable[..., Any], batches: Callable[[Any], Any]) -> dict[str, Any]:
    """Milliseconds a step, and the ratio of every kind to rank-8 LoRA on `o_proj` and `down_proj`.

    A pair is STEPS steps of each kind, in an order that is reversed from pair to pair. The gates are past
    their ramp and have not settled, so that every step draws and solves for the threshold.
    """
    import numpy as np
    import torch

    torch.set_num_threads(THREADS)
    steppers = {REFERENCE: _stepper(adaptation(0.3, 1, **LORA), batches)}
    steppers |= {kind: _stepper(adaptation(0.3, 1, **changes), batches) for kind, changes in KINDS.items()}
    for step in steppers.values():
        for _ in range(WARMUP):
            step()
    taken: dict[str, list[float]] = {kind: [] for kind in steppers}
    for pair in range(PAIRS):
        order = list(steppers) if pair % 2 else list(reversed(steppers))
        for kind in order:
            begin = time.perf_counter()
            for _ in range(STEPS):
                steppers[kind]()
            taken[kind].append((time.perf_counter() - begin) / STEPS)
    draws = np.random.default_rng(1).integers(0, PAIRS, (ROUNDS, PAIRS))
    values = {kind: np.asarray(seconds) for kind, seconds in taken.items()}
    found: dict[str, Any] = {
        "layers": LAYERS,
        "pairs": PAIRS,
        "threads": THREADS,
        "milliseconds": {kind: 1000 * float(np.median(seconds)) for kind, seconds in values.items()},
        "ratio": {},
    }
    for kind in KINDS:
        ratios = values[kind] / values[REFERENCE]
        medians = np.median(ratios[draws], axis=1)
        low, high = (float(end) for end in np.quantile(medians, (0.025, 0.975)))
        found["ratio"][kind] = {"value": float(np.median(ratios)), "low": low, "high": high}
    return found


def _stepper(adaptation: Any, batches: Callable[[Any], Any]) -> Callable[[], None]:
    """One optimiser step, as the loop takes it."""
    import torch

    from stages.common.training.losses import cross_entropy
    from stages.common.training.optimiser import make_optimiser, named_trainable

    model, context = adaptation.model.train(), adaptation.context
    loss, sampler = adaptation.loss(cross_entropy), batches(adaptation)
    optimiser = make_optimiser(model, context.block.training, adaptation.rates())
    parameters = list(named_trainable(model).values())
    number = 0

    def step() -> None:
        nonlocal number
        adaptation.before(model, LEARNING)
        loss(model, sampler.batch(number)).backward()
        torch.nn.utils.clip_grad_norm_(parameters, context.block.training.clip)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        number += 1

    return step
