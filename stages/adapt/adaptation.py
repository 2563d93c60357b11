"""What every adaptation method is to the stage: a model that the one training loop trains in place, and how
it ends as a plain checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.common.errors import UserError

if TYPE_CHECKING:
    from stages.common.params.adaptation import AdaptBlock, ShrinkBlock
    from stages.common.training.losses import Loss
    from stages.common.training.shards import Shards


@dataclass(frozen=True)
class AdaptContext:
    """What a method may know besides the model.

    `base`: folder of the checkpoint that is adapted. `name`: what the adapter calls it. `steps`: optimiser
    steps of the training. `shards`: for calibration on those that `block.mix` names, which may be none beside
    supervised files; the stage always gives them.
    """

    block: AdaptBlock
    seed: int
    base: Path
    name: str
    steps: int
    device: str
    shards: Shards | None
    tokenizer: Any

    @property
    def shrink(self) -> ShrinkBlock:
        """How a method that cuts does it. Raises `UserError` where the block does not say."""
        if self.block.shrink is None:
            raise UserError(f"params.yaml: method `{self.block.method}` needs `adapt.shrink`")
        return self.block.shrink


@dataclass(frozen=True)
class Finished:
    """The adapted plain or smaller model, and what the manifest says of it (JSON, no times)."""

    model: Any
    notes: dict[str, Any] = field(default_factory=dict)


class Adaptation:
    """A method applied to a model. `model` is trained in place; only what it trains takes a gradient.

    `undecayed`: fragments of the names of parameters that weight decay must leave alone, because at 0 they
    are not the base.
    """

    undecayed: tuple[str, ...] = ()

    def __init__(self, model: Any) -> None:
        self.model = model

    def loss(self, inner: Loss) -> Loss:
        """The loss that is trained on; `inner` is that of the data."""
        return inner

    def before(self, model: Any, share: float) -> None:
        """Called before every step with the share of the steps that are done."""

    def rates(self) -> Mapping[str, float]:
        """Peak learning rates other than `training.learning_rate`, by a fragment of the parameter's name."""
        return {}

    def save_adapter(self, folder: Path) -> None:
        """Write the adapter, with the same bytes in every process; before `finish`."""
        raise NotImplementedError

    def finish(self) -> Finished:
        """Merge or cut; the adaptation is used up. Raises `UserError` when the result does not hold."""
        raise NotImplementedError


Wrap = Callable[[Any, AdaptContext], Adaptation]


def trainable_parameters(model: Any) -> int:
    """Numbers that take a gradient, each tensor once."""
    return sum(value.numel() for value in model.parameters() if value.requires_grad)
