"""The training loop of every stage: deterministic, resumable to the byte, stopped when it diverges."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.common.atomic import write_json
from stages.common.errors import UserError
from stages.common.progress import progress
from stages.common.training.optimiser import (
    learning_rate,
    make_optimiser,
    named_trainable,
    steps_of,
    weight_decay,
)
from stages.common.training.resume import Resume, State

if TYPE_CHECKING:
    from stages.common.params.training import Optimisation
    from stages.common.training.losses import Loss
    from stages.common.training.sampler import Batch, Batches

SMOOTHING = 0.95
SPIKE_NATS = 3.0
CURVE_POINTS = 1000

Evaluate = Callable[[Any], dict[str, float]]
Before = Callable[[Any, float], object]
Observe = Callable[[Any], dict[str, Any]]


@dataclass(frozen=True)
class Trained:
    """What a finished run knows: tokens consumed per subset, evaluation points, loss of every step."""

    steps: int
    tokens: dict[str, int]
    points: list[dict[str, Any]]
    losses: list[float]

    def write(self, path: Path) -> None:
        """Write training.json: `points` and `curve`, the mean loss of every `curve.every` steps. No times."""
        every = math.ceil(len(self.losses) / CURVE_POINTS) if self.losses else 1
        groups = [self.losses[first : first + every] for first in range(0, len(self.losses), every)]
        curve = {"every": every, "loss": [round(sum(group) / len(group), 6) for group in groups]}
        write_json(path, {"steps": self.steps, "tokens": self.tokens, "points": self.points, "curve": curve})


def train(
    model: Any,
    loss: Loss,
    sampler: Batches,
    settings: Optimisation,
    seed: int,
    device: str,
    resume: Resume | None = None,
    evaluate: Evaluate | None = None,
    evaluations: int = 0,
    label: str = "training",
    before: Before | None = None,
    observe: Observe | None = None,
    rates: Mapping[str, float] | None = None,
    undecayed: Sequence[str] = (),
    rate_keys: Sequence[str] = (),
) -> Trained:
    """Train `model` in place on `settings.tokens` tokens.

    `loss(model, batch)` is a mean per token, a scalar. `evaluate(model)` gives bits per character by
    language; it is called before the first step and after each of `evaluations` equal parts, and so is
    `observe(model)`, whose JSON becomes `observed` of the point. `before(model, share)` is called before
    every step with the share of the steps that are done, and with it before an evaluation. `rates` and
    `undecayed` are those of `make_optimiser`, `rate_keys` the keys of params.yaml that set the rates. Raises
    `UserError` when the loss or the gradient is not finite or the loss climbs 3 nats above its best; the last
    saved state stays in `resume`.
    """
    import torch

    torch.manual_seed(seed)
    model.to(device).train()
    optimiser = make_optimiser(model, settings, rates, undecayed)
    state = resume.load(model, optimiser) if resume else None
    run = _Run(model, loss, sampler, settings, device, optimiser, state or State(), resume, label, rate_keys)
    steps = steps_of(settings)
    stops = _evaluation_steps(steps, evaluations) if evaluate and evaluations else set()
    with progress(steps, label, "steps") as bar:
        bar.advance(run.state.step, "resumed" if run.state.step else "")
        while True:
            if before:
                before(model, run.state.step / steps)
            if run.state.step in stops and not run.evaluated():
                run.point(evaluate, observe)
            if run.state.step == steps:
                break
            if (
                resume
                and run.state.step
                and run.state.step % settings.checkpoint_steps == 0
                and not run.saved
            ):
                run.save()
            note = run.step()
            bar.advance(1, note)
    if resume and not run.saved:
        run.save()
    model.eval()
    return Trained(steps, run.state.tokens, run.state.points, run.state.losses)


def _evaluation_steps(steps: int, evaluations: int) -> set[int]:
    return {round(steps * part / evaluations) for part in range(evaluations + 1)}


class _Run:
    """The moving parts of one run; `state` is all that must survive a kill besides tensors."""

    def __init__(
        self,
        model: Any,
        loss: Loss,
        sampler: Batches,
        settings: Optimisation,
        device: str,
        optimiser: Any,
        state: State,
        resume: Resume | None,
        label: str,
        rate_keys: Sequence[str] = (),
    ) -> None:
        self.model, self.loss, self.sampler, self.settings = model, loss, sampler, settings
        self.device, self.optimiser, self.state, self.resume, self.label = (
            device,
            optimiser,
            state,
            resume,
            label,
        )
        self.rate = " or ".join(rate_keys) or "its learning_rate"
        self.parameters = list(named_trainable(model).values())
        self.saved = state.step > 0

    def step(self) -> str:
        """One optimiser step; the note for the progress bar."""
        import torch

        number = self.state.step
        rate = learning_rate(self.settings, number)
        decay = weight_decay(self.settings, number)
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["scale"]
            if group["decays"]:
                group["weight_decay"] = decay
        batch = self.sampler.batch(number)
        mean = self._backward(batch)
        norm = float(torch.nn.utils.clip_grad_norm_(self.parameters, self.settings.clip))
        self._check(number, mean, norm)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        for subset, count in batch.subset_tokens.items():
            self.state.tokens[subset] = self.state.tokens.get(subset, 0) + count
        self.state.losses.append(mean)
        self.state.step += 1
        self.saved = False
        return f"loss {self.state.level:.3f}"

    def _backward(self, batch: Batch) -> float:
        """Gradients of the mean loss of `batch`, computed in `accumulate` parts; that loss in nats."""
        mean = 0.0
        for part in batch.to(self.device).split(self.settings.accumulate):
            with self._precision():
                value = self.loss(self.model, part) / self.settings.accumulate
            value.backward()
            mean += value.item()
        return mean

    def _precision(self) -> AbstractContextManager[Any]:
        import torch

        return (
            torch.autocast(self.device, torch.bfloat16)
            if self.settings.precision == "bf16"
            else nullcontext()
        )

    def _check(self, number: int, mean: float, norm: float) -> None:
        """Stop a diverging run before it spoils weights or the saved state."""
        state, kept = (
            self.state,
            f"; the state before it is kept in {self.resume.folder}" if self.resume else "",
        )
        advice = f"lower {self.rate} in params.yaml or look at the data{kept}"
        if not (math.isfinite(mean) and math.isfinite(norm)):
            raise UserError(f"{self.label}: loss {mean}, gradient norm {norm} at step {number}; {advice}")
        state.level = mean if state.level is None else SMOOTHING * state.level + (1 - SMOOTHING) * mean
        state.best = state.level if state.best is None else min(state.best, state.level)
        if state.level > state.best + SPIKE_NATS:
            raise UserError(
                f"{self.label}: the loss diverges, {state.level:.2f} at step {number} after "
                f"{state.best:.2f}; {advice}"
            )

    def evaluated(self) -> bool:
        """Whether the point of the present step is already recorded (a resumed run may stand on one)."""
        return any(point["step"] == self.state.step for point in self.state.points)

    def point(self, evaluate: Evaluate | None, observe: Observe | None) -> None:
        """Record an evaluation point: loss since the last one, learning rate of the last step, bits per
        character, and what `observe` says.
        """
        state = self.state
        since = state.losses[state.points[-1]["step"] if state.points else 0 :]
        state.points.append(
            {
                "step": state.step,
                "tokens": sum(state.tokens.values()),
                "loss": _mean(since),
                "learning_rate": learning_rate(self.settings, state.step - 1) if state.step else None,
                "bpc": evaluate(self.model) if evaluate else {},
                **({"observed": observe(self.model)} if observe else {}),
            }
        )
        self.saved = False

    def save(self) -> None:
        """Write the resume state."""
        if self.resume:
            self.resume.save(self.state, self.model, self.optimiser)
            self.saved = True


def _mean(values: Iterable[float]) -> float | None:
    kept = list(values)
    return math.fsum(kept) / len(kept) if kept else None
