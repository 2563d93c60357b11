"""FineGates as a method of the stage `adapt`: gates learn, the budget picks units, the model is cut."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from stages.adapt import adapters
from stages.adapt.adaptation import Adaptation, AdaptContext, Finished
from stages.adapt.finegates.config import FineGatesConfig
from stages.adapt.finegates.objective import Objective
from stages.adapt.finegates.picking import OWNERS, block_units
from stages.adapt.finegates.register import register
from stages.adapt.prune import scores
from stages.adapt.prune.method import activations
from stages.adapt.shrink.budget import Choice
from stages.adapt.shrink.notes import notes
from stages.adapt.shrink.slicing import (
    TOLERANCE,
    agree,
    apply_mask,
    cut,
    logits,
    probe,
    require_dense,
    verify,
)
from stages.adapt.shrink.units import Units, family_of
from stages.adapt.targets import targets
from stages.common.errors import UserError

if TYPE_CHECKING:
    from stages.common.training.losses import Loss
    from stages.common.training.sampler import Batch

# W x + s B (A x) against (W + s B A) x: a digit more of fp32 goes than by a sum in another order.
FOLDED = 1e-4


class FineGates(Adaptation):
    """A model whose gates are trained, and cut at the end."""

    def __init__(self, model: Any, context: AdaptContext) -> None:
        super().__init__(model)
        self.context, self.shrink = context, context.shrink

    @property
    def objective(self) -> Objective:
        """What the gates obey."""
        found: Objective = self.model.base_model.objective()
        return found

    @property
    def units(self) -> Units:
        """The units that the gates can remove."""
        return self.objective.removable()

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
            self._fixed(self.model.base_model.pick)

    def rates(self) -> Mapping[str, float]:
        """The gates have a rate of their own."""
        rate = self.shrink.gate_learning_rate
        if rate is None:
            raise UserError("params.yaml: method `finegates` needs `adapt.shrink.gate_learning_rate`")
        kinds = ("column", "row") if self.objective.config.mode == "faithful" else ("mu",)
        return {f"finegates_{kind}": rate for kind in kinds}

    def settle(self) -> Choice:
        """Pick what stays by the gates' scores; from then on every gate is 1 or 0. Again does nothing."""
        return self._fixed(self.model.base_model.settle)

    def _fixed(self, fix: Callable[..., Choice]) -> Choice:
        return fix(self.shrink.share, self.shrink.multiples, self.shrink.layers)

    def save_adapter(self, folder: Path) -> None:
        """Peft's folder, with gates of 0 and 1: on the base it is the function of the smaller model."""
        self.settle()
        adapters.save(self.model, folder, self.context)

    def finish(self) -> Finished:
        """Fold gates and matrices into the weights, cut, and check that the smaller model is the function of
        the masked one, and that of the base with its gates, which is the saved adapter.
        """
        choice, units = self.settle(), self.units
        tokens = probe(self.model.config)
        gated = logits(self.model.eval(), tokens)
        masked = self.model.merge_and_unload()
        apply_mask(masked, choice.kept)
        small = cut(masked, choice.kept)
        verify(masked, small, tokens)
        agree(gated, logits(small, tokens), TOLERANCE if self.context.block.rank is None else FOLDED)
        return Finished(small, notes(masked, small, units, choice))


def wrap(model: Any, context: AdaptContext) -> Adaptation:
    """`model` with gates on its units, and where `adapt.rank` is given low-rank matrices beside its layers.

    Raises `UserError` for a family without slicing rules, a quantised base, and target modules that the model
    does not have or that cannot be gated.
    """
    register()
    block, shrink = context.block, context.shrink
    require_dense(model, context.base)
    family_of(model.config)
    faithful, named = shrink.mode == "faithful", block.target_modules or []
    if named:
        targets(model, named)
    units = block_units(model.config, block)
    # Measured before the gates are there.
    start = scores.wanda(model, units, activations(model, context)) if shrink.calibration_tokens else None
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
    adaptation = FineGates(adapters.attach(model, config, context.name), context)
    if start is not None:
        adaptation.objective.begin(start)
    return adaptation
