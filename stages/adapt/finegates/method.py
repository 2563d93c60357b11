"""FineGates as a method of the stage `adapt`: gates learn, the budget picks units, the model is cut."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from stages.adapt import adapters
from stages.adapt.adaptation import Adaptation, AdaptContext, Finished
from stages.adapt.finegates.config import FineGatesConfig
from stages.adapt.finegates.model import OWNERS
from stages.adapt.finegates.objective import Objective
from stages.adapt.finegates.register import register
from stages.adapt.prune import scores
from stages.adapt.prune.method import activations
from stages.adapt.shrink.budget import Choice, choose
from stages.adapt.shrink.notes import notes
from stages.adapt.shrink.slicing import apply_mask, cut, probe, verify
from stages.adapt.shrink.units import PARTS, Scores, Units
from stages.adapt.targets import targets
from stages.common.errors import UserError

if TYPE_CHECKING:
    from stages.common.params.adaptation import ShrinkBlock
    from stages.common.training.losses import Loss
    from stages.common.training.sampler import Batch


class FineGates(Adaptation):
    """A model whose gates are trained, and cut at the end."""

    def __init__(self, model: Any, context: AdaptContext) -> None:
        super().__init__(model)
        self.context, self.shrink = context, _shrink(context)
        self._choice: Choice | None = None

    @property
    def objective(self) -> Objective:
        """What the gates obey."""
        found: Objective = self.model.base_model.objective()
        return found

    @property
    def units(self) -> Units:
        """The units that have gates."""
        found = Units.of(self.model.config)
        return Units(found.layers, self.objective.parts(), found.uniform_groups)

    def loss(self, inner: Loss) -> Loss:
        """`inner`; in mode `faithful` and the penalty."""
        tuner = self.model.base_model

        def penalised(model: Any, batch: Batch) -> Tensor:
            value = inner(model, batch)
            penalty = tuner.penalty()
            return value if penalty is None else value + penalty

        return penalised

    def before(self, model: Any, share: float) -> None:  # noqa: ARG002
        """Tell the gates which step it is. Once they settle, at the latest after the last step, the model is
        what will be cut; their parameters stay, so that a run that is killed then and resumed picks the same.
        """
        step, steps = round(share * self.context.steps), self.context.steps
        self.model.base_model.set_step(step, steps)
        if self.objective.settles(step, steps) and not self.objective.picked:
            self.objective.show(self._choose().kept)

    def rates(self) -> Mapping[str, float]:
        """The gates have a rate of their own."""
        rate = self.shrink.gate_learning_rate
        if rate is None:
            raise UserError("params.yaml: method `finegates` needs `adapt.shrink.gate_learning_rate`")
        kinds = ("column", "row") if self.objective.config.mode == "faithful" else ("mu",)
        return {f"finegates_{kind}": rate for kind in kinds}

    def settle(self) -> Choice:
        """Pick what stays by the gates' scores; from then on every gate is 1 or 0. Again does nothing."""
        if self._choice is None:
            self._choice = self._choose()
            self.objective.settle(self._choice.kept)
        return self._choice

    def _choose(self) -> Choice:
        pick = _uniform if self.shrink.mode == "uniform" else choose
        return pick(self.units, self.objective.scores(), self.shrink)

    def save_adapter(self, folder: Path) -> None:
        """Peft's folder, with gates of 0 and 1: on the base it is the function of the smaller model."""
        self.settle()
        adapters.save(self.model, folder, self.context)

    def finish(self) -> Finished:
        """Fold gates and matrices into the weights, cut, and check that the smaller model is the same
        function.
        """
        choice, units = self.settle(), self.units
        masked = self.model.eval().merge_and_unload()
        apply_mask(masked, choice.kept)
        small = cut(masked, choice.kept)
        verify(masked, small, probe(masked.config))
        return Finished(small, notes(masked, small, units, choice))


def wrap(model: Any, context: AdaptContext) -> Adaptation:
    """`model` with gates on its units, and where `adapt.rank` is given low-rank matrices beside its layers.

    Raises `UserError` for a family without slicing rules, a quantised base, and target modules that the model
    does not have or that cannot be gated.
    """
    import peft

    register()
    block, shrink = context.block, _shrink(context)
    if getattr(model.config, "quantization_config", None) is not None:
        raise UserError(f"{context.base}: quantised; gates that end in a cut need the dense weights")
    units = Units.of(model.config)
    if block.target_modules:
        targets(model, block.target_modules)
    # A budget that cannot be met is refused before the training, not after it.
    choose(units, _equal(units), shrink)
    # Measured before the gates are there.
    start = scores.wanda(model, units, activations(model, context)) if shrink.calibration_tokens else None
    faithful, named = shrink.mode == "faithful", block.target_modules or []
    config = FineGatesConfig(
        target_modules=named if faithful else sorted({*OWNERS, *named}),
        lora_modules=named if block.rank else None,
        mode=shrink.mode,
        share=shrink.share,
        r=block.rank or 0,
        lora_alpha=block.alpha or 1.0,
        seed=context.seed,
        task_type="CAUSAL_LM",
    )
    with warnings.catch_warnings():
        # peft 0.21 asks for an attribute that Transformers 5.23 has renamed.
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*")
        wrapped = peft.get_peft_model(model, config)
    wrapped.peft_config["default"].base_model_name_or_path = context.name
    adaptation = FineGates(wrapped, context)
    if start is not None:
        adaptation.objective.begin(start)
    return adaptation


def _shrink(context: AdaptContext) -> ShrinkBlock:
    if context.block.shrink is None:
        raise UserError(f"params.yaml: method `{context.block.method}` needs `adapt.shrink`")
    return context.block.shrink


def _equal(units: Units) -> Scores:
    """Scores that prefer no unit."""
    return Scores(*(tuple(torch.zeros(layer.count(part)) for layer in units.layers) for part in PARTS))


def _uniform(units: Units, scores: Scores, shrink: ShrinkBlock) -> Choice:
    """The choice of equal widths whose number of KV groups is nearest to what the gates keep on average.

    Raises `UserError` as `choose` does.
    """
    free = choose(units, scores, shrink.model_copy(update={"mode": "global"})).kept
    mean = sum(len(free.groups[at]) for at in free.layers) / len(free.layers)
    allowed = units.uniform_groups or range(1, min(layer.groups for layer in units.layers) + 1)
    failed = None
    for number in sorted(allowed, key=lambda number: (abs(number - mean), number)):
        try:
            return choose(replace(units, uniform_groups=frozenset({number})), scores, shrink)
        except UserError as error:
            failed = failed or error
    raise failed or UserError(
        "params.yaml: adapt.shrink.mode: uniform has no number of KV groups to choose from"
    )
