"""Scores of FFN neurons and KV groups without any training: random, magnitude, Wanda, Minitron.

What ranks units of different layers and parts against each other is what they write into the residual stream,
which all layers share: the columns of `down_proj` of a neuron, those of `o_proj` of a KV group, and what
flows through them. A score is that of the whole unit, not divided by its size.

Shapes: O outputs and I inputs of a linear layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from stages.adapt.shrink.units import Scores, Units
from stages.common.training.losses import body_and_head

if TYPE_CHECKING:
    from stages.adapt.prune.calibration import Activations

Importance = Callable[[str, Tensor], Tensor]  # name and |W| (O, I) of a layer -> importance of its inputs (I)


def random(units: Units, seed: int) -> Scores:
    """Uniform numbers from a generator of their own."""
    generator = torch.Generator().manual_seed(seed)

    def draw(count: int) -> Tensor:
        return torch.rand(count, generator=generator, dtype=torch.float64)

    return Scores(
        tuple(draw(layer.ffn) for layer in units.layers), tuple(draw(layer.groups) for layer in units.layers)
    )


def magnitude(model: Any, units: Units) -> Scores:
    """L2 norm of the columns through which the unit writes."""
    squares = _over_columns(model, units, lambda _, weight_OI: weight_OI.square().sum(0))
    return Scores(tuple(each.sqrt() for each in squares.ffn), tuple(each.sqrt() for each in squares.groups))


def wanda(model: Any, units: Units, activations: Activations) -> Scores:
    """Sum of |W_ij| ||x_j||_2 (Sun et al. 2023, arXiv 2306.11695, eq. 1) over those columns.

    This is Wanda-sp of An et al. 2023 (arXiv 2312.11983), ranked over the model and not within each layer.
    """
    return _over_columns(
        model, units, lambda name, weight_OI: weight_OI.sum(0) * activations.squares[name].sqrt()
    )


def minitron(model: Any, units: Units, activations: Activations) -> Scores:
    """Mean over the tokens of a row, L2 norm over the rows (Muralidharan et al. 2024, arXiv 2407.14679,
    section 2.2): of |h_j| for a neuron; of the norm of a head's output, summed over its heads, for a group.
    """
    neurons, groups = [], []
    for at, down, attention in _outputs(model, units):
        neurons.append(activations.absolutes[down].sqrt())
        groups.append(_summed(activations.heads[attention].sqrt(), units.layers[at].groups))
    return Scores(tuple(neurons), tuple(groups))


def _over_columns(model: Any, units: Units, importance: Importance) -> Scores:
    """`importance` of the inputs of `down_proj`, and of those of `o_proj` summed over each KV group."""
    neurons, groups = [], []
    for at, down, attention in _outputs(model, units):
        found_down, found_attention = (
            importance(name, model.get_submodule(name).weight.detach().double().abs().cpu())
            for name in (down, attention)
        )
        neurons.append(found_down)
        groups.append(_summed(found_attention, units.layers[at].groups))
    return Scores(tuple(neurons), tuple(groups))


def _outputs(model: Any, units: Units) -> Iterator[tuple[int, str, str]]:
    """Per layer its index and the names of `down_proj` and `o_proj`."""
    body, _ = body_and_head(model)
    names: dict[nn.Module, str] = {module: name for name, module in model.named_modules()}
    for at, layer in enumerate(body.layers[: len(units.layers)]):
        yield at, names[layer.mlp.down_proj], names[layer.self_attn.o_proj]


def _summed(values: Tensor, groups: int) -> Tensor:
    """Sums over equal runs of `values`, one for each of `groups`: heads of a group stand side by side."""
    return values.view(groups, -1).sum(1)
