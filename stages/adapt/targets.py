"""The linear layers that `adapt.target_modules` names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stages.common.trainable import check_targets


def targets(model: Any, names: Sequence[str]) -> dict[str, Any]:
    """The linear layers of the decoder whose name ends in one of `names`, by name, in the model's order.

    Raises `UserError` that lists those there are when one of `names` is not among them.
    """
    from torch import nn

    decoder = model.get_decoder()
    inside = {id(module) for module in decoder.modules()}
    layers = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and id(module) in inside
    }
    check_targets(names, layers)
    return {name: module for name, module in layers.items() if name.rpartition(".")[2] in names}
