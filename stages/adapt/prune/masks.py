"""Masks that no engine turns into a smaller model here: unstructured and 2:4, as references of quality.

A mask keeps a weight where it is True. Shapes: O outputs and I inputs of a linear layer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from stages.common.errors import UserError
from stages.common.training.losses import body_and_head

if TYPE_CHECKING:
    from stages.adapt.prune.calibration import Activations

Score = Callable[[str, Tensor], Tensor]  # name and weight (O, I) of a layer -> importance of each weight
Pattern = Callable[[Tensor], Tensor]  # importance (O, I) -> mask (O, I)

OF = 4  # weights of a 2:4 block, along the input


def magnitude(name: str, weight_OI: Tensor) -> Tensor:  # noqa: ARG001
    """|W_ij|."""
    return weight_OI.detach().double().abs()


def wanda(activations: Activations) -> Score:
    """|W_ij| ||x_j||_2 (Sun et al. 2023, arXiv 2306.11695, eq. 1), by the inputs that `activations` saw."""

    def score(name: str, weight_OI: Tensor) -> Tensor:
        return magnitude(name, weight_OI) * activations.squares[name].sqrt().to(weight_OI.device)

    return score


def per_layer(share: float) -> Pattern:
    """The `share` of a layer's weights of least importance goes: magnitude pruning as Wanda's authors
    compare with it.
    """
    return lambda score_OI: _lowest(score_OI.flatten()[None], share).reshape(score_OI.shape)


def per_row(share: float) -> Pattern:
    """The `share` of each output's weights of least importance goes: Wanda's comparison group (section 3)."""
    return lambda score_OI: _lowest(score_OI, share)


def two_four(score_OI: Tensor) -> Tensor:
    """Keep the two most important of every four weights along the input.

    Raises `UserError` when the inputs cannot be divided into fours.
    """
    outputs, inputs = score_OI.shape
    if inputs % OF:
        raise UserError(f"2:4 masks need inputs in multiples of {OF}; a layer has {inputs}")
    return _lowest(score_OI.reshape(-1, OF), 0.5).reshape(outputs, inputs)


def apply(model: Any, score: Score, pattern: Pattern) -> float:
    """Zero the masked weights of the decoder's linear layers in place; the share of them that is zeroed.

    Embeddings and head stay, as in the papers.
    """
    body, _ = body_and_head(model)
    names = {module: name for name, module in model.named_modules()}
    zeroed = total = 0
    with torch.no_grad():
        for module in body.modules():
            if isinstance(module, nn.Linear):
                kept_OI = pattern(score(names[module], module.weight))
                module.weight *= kept_OI
                zeroed += int((~kept_OI).sum())
                total += kept_OI.numel()
    return zeroed / total


def _lowest(rows: Tensor, share: float) -> Tensor:
    """False at the `share` lowest of each row, rounded to whole entries; of equals the first ones go."""
    count = round(share * rows.shape[1])
    kept = torch.ones_like(rows, dtype=torch.bool)
    return kept.scatter_(1, rows.argsort(dim=1, stable=True)[:, :count], False)
