"""How many numbers a method of `adapt` trains, from the shapes of the model alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stages.common.errors import UserError

if TYPE_CHECKING:
    from stages.common.params.adaptation import AdaptBlock


@dataclass(frozen=True)
class Layer:
    """A linear layer: `outer` features from `inner` ones, with a bias or without."""

    outer: int
    inner: int
    biased: bool

    @property
    def ends(self) -> int:
        """Numbers that LoRA trains per rank."""
        return self.outer + self.inner


def linear_layers(model: Any) -> dict[str, Layer]:
    """The linear layers of the decoder of `model` by name; the head is left out."""
    return {
        name: Layer(module.out_features, module.in_features, module.bias is not None)
        for name, module in model.get_decoder().named_modules()
        if hasattr(module, "in_features")
    }


# IA3 scales what these modules take in; of any other module what it gives (Liu et al. 2022, eq. 2).
FEEDFORWARD = ("down_proj",)

# Per target layer (name, shape) of rank r. Sources: the docstrings in stages/adapt/family.py and partial.py.
FORMULAS: dict[str, Callable[[str, Layer, int], int]] = {
    **dict.fromkeys(("lora", "rslora", "pissa", "velora", "shira"), lambda _, layer, r: r * layer.ends),
    "dora": lambda _, layer, r: r * layer.ends + layer.outer,
    "vera": lambda _, layer, r: r + layer.outer,
    "ia3": lambda name, layer, _: layer.inner if name.endswith(FEEDFORWARD) else layer.outer,
    "lora-xs": lambda _, layer, r: r * r,  # noqa: ARG005
    "bitfit": lambda _, layer, r: layer.outer if layer.biased else 0,  # noqa: ARG005
    "rocoft": lambda _, layer, r: layer.inner,  # noqa: ARG005
}


def trainable_numbers(block: AdaptBlock, layers: Mapping[str, Layer], config: Any) -> int:
    """Numbers that take a gradient, of a model with the linear `layers` and the configuration `config`.

    Of a method that prunes first, LoRA on the whole model: an upper bound, as the widths are not known yet.
    """
    targets = targets_of(block, layers)
    if not block.cuts:
        formula = FORMULAS[block.method]
        return sum(formula(name, layer, block.rank or 0) for name, layer in targets.items())
    beside = sum((block.rank or 0) * layer.ends for layer in targets.values())
    return beside + (_gates(block, targets, layers, config) if block.method == "finegates" else 0)


def frozen_numbers(block: AdaptBlock, layers: Mapping[str, Layer]) -> int:
    """Numbers that a method keeps beside the model and does not train: the singular vectors of LoRA-XS, the
    matrices of VeRA that all layers share.
    """
    found = list(targets_of(block, layers).values())
    if block.method == "lora-xs":
        return sum((block.rank or 0) * layer.ends for layer in found)
    if block.method == "vera" and found:
        widest = max(layer.inner for layer in found) + max(layer.outer for layer in found)
        return (block.rank or 0) * widest
    return 0


def targets_of(block: AdaptBlock, layers: Mapping[str, Layer]) -> dict[str, Layer]:
    """Those of `layers` that the block's target modules name by their end. Raises `UserError` when one of
    these names is not among them.
    """
    named = block.target_modules or []
    check_targets(named, layers)
    return {name: layer for name, layer in layers.items() if name.rpartition(".")[2] in named}


def check_targets(named: Sequence[str], layers: Iterable[str]) -> None:
    """Raise `UserError`, with those there are, when no layer's name ends in one of `named`."""
    there = dict.fromkeys(name.rpartition(".")[2] for name in layers)
    if missing := [name for name in named if name not in there]:
        raise UserError(
            f"params.yaml: adapt.target_modules names {', '.join(missing)}, which the model does not have; "
            f"it has {', '.join(there)}"
        )


def _gates(block: AdaptBlock, targets: Mapping[str, Layer], layers: Mapping[str, Layer], config: Any) -> int:
    """One per FFN neuron and per key and value head; of `faithful` one per row and column of every target."""
    from lowbit.layerwise import head_dim

    if block.shrink is not None and block.shrink.mode == "faithful":
        return sum(layer.ends for layer in targets.values())
    widths = {
        kind: [layer for name, layer in layers.items() if name.endswith(kind)]
        for kind in ("down_proj", "k_proj")
    }
    neurons = sum(layer.inner for layer in widths["down_proj"])
    return neurons + sum(layer.outer // head_dim(config) for layer in widths["k_proj"])
