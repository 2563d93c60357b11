"""The student before it learns: every second layer of the teacher, or a checkpoint of its own."""

from __future__ import annotations

import re
from typing import Any

from stages.common.checkpoint import FAMILIES
from stages.common.errors import UserError

LAYER = re.compile(r"^model\.layers\.(\d+)\.(.+)$")


def every_second_layer(teacher: Any) -> Any:
    """A new model of layers 0, 2, 4, ... of `teacher`, with its embeddings, final norm and head.

    Layers keep the widths that they have in the teacher. Raises `UserError` when the teacher has one layer or
    is of a family whose layers cannot be taken so.
    """
    from lowbit.layerwise import resized, widths_of
    from lowbit.registration import PREFIX
    from transformers import AutoModelForCausalLM

    layers = teacher.config.num_hidden_layers
    if teacher.config.model_type.removeprefix(PREFIX) not in FAMILIES:
        raise UserError(
            f"distill: every second layer of a `{teacher.config.model_type}` teacher cannot be taken; name a "
            "student folder in `distill.student`"
        )
    if layers < 2:
        raise UserError("distill: the teacher has one layer, none to leave out; name a student folder")
    kept = range(0, layers, 2)
    types = getattr(teacher.config, "layer_types", None)
    changed = {"layer_types": types[::2]} if types else {}
    config = resized(teacher.config, widths_of(teacher.config)[::2], **changed)
    student = AutoModelForCausalLM.from_config(config, dtype=teacher.dtype)
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
