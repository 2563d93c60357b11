"""The student before it learns: every second layer of the teacher, or a checkpoint of its own."""

from __future__ import annotations

import re
from typing import Any

from stages.common.checkpoint import FAMILIES
from stages.common.errors import UserError

LAYER = re.compile(r"^model\.layers\.(\d+)\.(.+)$")


def every_second_layer(teacher: Any) -> Any:
    """A new model of layers 0, 2, 4, ... of `teacher`, with its embeddings, final norm and head.

    Layers may have widths of their own. Raises `UserError` when the teacher has one layer, is quantised, or
    is of another family.
    """
    from lowbit import layerwise
    from transformers import AutoModelForCausalLM

    layers = teacher.config.num_hidden_layers
    if teacher.config.model_type.removeprefix(layerwise.PREFIX) not in FAMILIES:
        raise UserError(
            f"distill: every second layer of a `{teacher.config.model_type}` teacher cannot be taken; name a "
            "student folder in `distill.student`"
        )
    if getattr(teacher.config, "quantization_config", None) is not None:
        raise UserError(
            "distill: the teacher is quantised, so none of its layers can learn; name a student folder in "
            "`distill.student`"
        )
    if layers < 2:
        raise UserError("distill: the teacher has one layer, none to leave out; name a student folder")
    kept = range(0, layers, 2)
    config = layerwise.with_layers(teacher.config, kept)
    student = AutoModelForCausalLM.from_config(config, dtype=teacher.dtype)
    # Where answers end may be a token of the chat template, which the configuration does not name.
    student.generation_config.eos_token_id = teacher.generation_config.eos_token_id
    student.load_state_dict(_renumbered(teacher.state_dict(), {old: new for new, old in enumerate(kept)}))
    return student


def _renumbered(weights: dict[str, Any], places: dict[int, int]) -> dict[str, Any]:
    found = {}
    for name, value in weights.items():
        match = LAYER.match(name)
        if match is None:
            found[name] = value
        elif (old := int(match[1])) in places:
            found[f"model.layers.{places[old]}.{match[2]}"] = value
    return found
