"""Methods `random`, `magnitude`, `wanda`, `minitron`: score the units, cut the model, then train LoRA on it."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.adapt.adaptation import Adaptation, AdaptContext, Finished
from stages.common.atomic import write_json
from stages.common.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from stages.adapt.shrink.budget import Choice
    from stages.adapt.shrink.units import Scores, Units
    from stages.common.training.sampler import Batch

KEPT = "kept.json"  # beside the adapter, which fits the cut model only
PROBE_ROWS, PROBE_TOKENS = 2, 64  # random tokens on which masked and cut model must agree


class Pruned(Adaptation):
    """LoRA on a model that is cut already; `notes` say what was cut."""

    def __init__(self, lora: Adaptation, context: AdaptContext, notes: dict[str, Any]) -> None:
        super().__init__(lora.model)
        self._lora, self._context, self._notes = lora, context, notes

    def save_adapter(self, folder: Path) -> None:
        """The LoRA in peft's form, and the units of the base that it was trained beside."""
        from stages.adapt import adapters

        self._lora.save_adapter(folder)
        adapters.describe(folder, self._context)
        write_json(folder / KEPT, self._notes["kept"])

    def finish(self) -> Finished:
        """The smaller model with the LoRA in its weights."""
        return Finished(self._lora.finish().model, self._notes)


def wrap(model: Any, context: AdaptContext) -> Adaptation:
    """Cut `model` by the scores of `context.block.method` and put LoRA beside what is left.

    Raises `UserError` for a model or a share that cannot be cut, calibration without text, and a cut model
    that does not give what the masked one gives.
    """
    from stages.adapt import family
    from stages.adapt.shrink.budget import choose
    from stages.adapt.shrink.slicing import cut, verify
    from stages.adapt.shrink.units import Units

    shrink, units = context.block.shrink, Units.of(model.config)
    if shrink is None:
        raise UserError(f"params.yaml: method `{context.block.method}` needs `adapt.shrink`")
    choice = choose(units, score(model, units, context), shrink)
    small = cut(model, choice.kept)
    verify(_masked(model, choice), small, _probe(model, context.seed))
    notes = _notes(model, small, units, choice)
    beside = context.block.model_copy(update={"method": "lora", "shrink": None})
    return Pruned(family.wrap(small, replace(context, block=beside)), context, notes)


def score(model: Any, units: Units, context: AdaptContext) -> Scores:
    """What the units are worth by the method of `context.block`."""
    from stages.adapt.prune import calibration, scores

    method = context.block.method
    if method == "random":
        return scores.random(units, context.seed)
    if method == "magnitude":
        return scores.magnitude(model, units)
    activations = calibration.collect(model, _text(context), context.device)
    return {"wanda": scores.wanda, "minitron": scores.minitron}[method](model, units, activations)


def _text(context: AdaptContext) -> list[Batch]:
    """The calibration text: shards of the mix that LoRA is trained on afterwards."""
    from stages.adapt.prune.calibration import sample

    block, shrink = context.block, context.block.shrink
    if context.shards is None or block.mix is None:
        raise UserError(
            f"params.yaml: adapt.method `{block.method}` measures activations on the text of `adapt.mix`, which "
            "is null; give a mix of shards, or take `magnitude`, which reads no text"
        )
    if shrink is None or shrink.calibration_tokens is None:
        raise UserError(f"params.yaml: method `{block.method}` needs `adapt.shrink.calibration_tokens`")
    tokens = shrink.calibration_tokens
    return sample(context.shards, block.mix, block.training, tokens, context.seed, "adapt.mix")


def _masked(model: Any, choice: Choice) -> Any:
    from stages.adapt.shrink.slicing import apply_mask

    masked = copy.deepcopy(model)
    apply_mask(masked, choice.kept)
    return masked


def _probe(model: Any, seed: int) -> Tensor:
    import torch

    generator = torch.Generator().manual_seed(seed)
    shape = (PROBE_ROWS, min(PROBE_TOKENS, model.config.max_position_embeddings))
    return torch.randint(model.config.vocab_size, shape, generator=generator)


def _notes(model: Any, small: Any, units: Units, choice: Choice) -> dict[str, Any]:
    """What the manifest says of the cut; shares are of the gateable parameters."""
    return {
        "removed": {
            "asked": choice.asked,
            "before_rounding": choice.before_rounding,
            "after_rounding": choice.after_rounding,
            "gateable_parameters": units.gateable,
            "removed_parameters": units.removed(choice.kept),
            "parameters_before": model.num_parameters(),
            "parameters_after": small.num_parameters(),
        },
        "kept": choice.kept.to_json(),
    }
