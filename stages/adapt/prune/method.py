"""Methods `random`, `magnitude`, `wanda`, `minitron`: score, cut the model, train LoRA on what stays."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.adapt import adapters, family
from stages.adapt.adaptation import Adaptation, AdaptContext, Finished
from stages.adapt.prune import calibration, scores
from stages.adapt.shrink.budget import choose
from stages.adapt.shrink.notes import notes
from stages.adapt.shrink.slicing import apply_mask, cut, probe, require_dense, verify
from stages.adapt.shrink.units import Scores, Units
from stages.common.atomic import write_json
from stages.common.errors import UserError

if TYPE_CHECKING:
    from stages.adapt.prune.calibration import Activations
    from stages.common.training.sampler import Batch

KEPT = "kept.json"  # beside the adapter, which fits the cut model only
FROM_ACTIVATIONS = {"wanda": scores.wanda, "minitron": scores.minitron}


class Pruned(Adaptation):
    """LoRA on a model that is cut already; `about` says for the manifest what was cut."""

    def __init__(self, lora: Adaptation, context: AdaptContext, about: dict[str, Any]) -> None:
        super().__init__(lora.model)
        self._lora, self._context, self._about = lora, context, about

    def save_adapter(self, folder: Path) -> None:
        """The LoRA in peft's form, and the units of the base that it was trained beside."""
        self._lora.save_adapter(folder)
        adapters.describe(folder, self._context)
        write_json(folder / KEPT, self._about["kept"])

    def finish(self) -> Finished:
        """The smaller model with the LoRA in its weights."""
        return Finished(self._lora.finish().model, self._about)


def wrap(model: Any, context: AdaptContext) -> Adaptation:
    """Cut `model` by the scores of `context.block.method` and put LoRA beside what is left.

    Raises `UserError` for a quantised model, a family or a share that cannot be cut, and calibration without
    text.
    """
    require_dense(model, context.base)
    units = Units.of(model.config)
    choice = choose(units, score(model, units, context), context.shrink)
    small, masked = cut(model, choice.kept), copy.deepcopy(model)
    apply_mask(masked, choice.kept)
    verify(masked, small, probe(model.config))
    about = notes(model, small, units, choice)
    beside = context.block.model_copy(update={"method": "lora", "shrink": None})
    return Pruned(family.wrap(small, replace(context, block=beside)), context, about)


def score(model: Any, units: Units, context: AdaptContext) -> Scores:
    """What the units are worth by the method of `context.block`."""
    method = context.block.method
    if method == "random":
        return scores.random(units, context.seed)
    if method == "magnitude":
        return scores.magnitude(model, units)
    return FROM_ACTIVATIONS[method](model, units, activations(model, context))


def activations(model: Any, context: AdaptContext) -> Activations:
    """What `model` shows on the calibration text. Raises `UserError` where the mix names no shards."""
    return calibration.collect(model, _text(context), context.device)


def _text(context: AdaptContext) -> list[Batch]:
    """Windows of the mix that is trained on afterwards."""
    block, tokens = context.block, context.shrink.calibration_tokens
    if context.shards is None or not block.replay:
        raise UserError(
            f"params.yaml: adapt.shrink.calibration_tokens: `{block.method}` measures activations on the "
            "text of `adapt.mix`, which names no shards; give it some, or choose what reads no text: "
            "`magnitude`, or `finegates` without calibration_tokens"
        )
    if tokens is None:
        raise UserError(f"params.yaml: method `{block.method}` needs `adapt.shrink.calibration_tokens`")
    return calibration.sample(context.shards, block.replay, block.training, tokens, context.seed, "adapt.mix")
