"""What the linear layers of a model see on calibration text: the activations behind Wanda and Minitron.

Shapes: B rows of a batch, T tokens of a row, I inputs of a linear layer, H query heads, D width of a head.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from zlib import crc32

import torch
from lowbit.layerwise import head_dim
from torch import Tensor, nn

from stages.common.errors import UserError
from stages.common.training.losses import body_and_head, hidden_states
from stages.common.training.sampler import Sampler

if TYPE_CHECKING:
    from stages.common.params.training import Optimisation
    from stages.common.training.sampler import Batch
    from stages.common.training.shards import Shards


@dataclass(frozen=True)
class Activations:
    """Of each linear layer of the decoder, by its full name, over all tokens of the calibration text.

    `squares[name]`: mean square of each of the I inputs, float64; its root is Wanda's ||x_j||_2 up to the
    number of tokens, which no ranking depends on. `absolutes[name]`: mean over the rows of the squared mean
    |x_j| of a row. `heads[name]`, of attention's output projections alone: the same of the H heads, with the
    L2 norm of a head in the place of |x_j|.
    """

    squares: Mapping[str, Tensor]
    absolutes: Mapping[str, Tensor]
    heads: Mapping[str, Tensor]
    tokens: int


def sample(
    shards: Shards, mix: Mapping[str, float], settings: Optimisation, tokens: int, seed: int, where: str
) -> list[Batch]:
    """About `tokens` tokens of training text in the mix of the training, whole batches, rounded up.

    The windows are drawn as those of a training are, by an order of their own, and their positions confine
    attention to each document. Raises `UserError` when a subset of the mix is unknown, empty or too short.
    """
    own = (seed << 32) + crc32(b"calibration")
    sampler = Sampler(shards, mix, settings.batch_size, settings.sequence_length, own, where)
    steps = math.ceil(tokens / (settings.batch_size * settings.sequence_length))
    return [sampler.batch(step) for step in range(steps)]


def collect(model: Any, batches: Iterable[Batch], device: str = "cpu") -> Activations:
    """Run `model` over `batches` in evaluation mode and measure the inputs of its decoder's linear layers.

    Inputs are taken in fp32 and summed in float64, so that the order of the batches does not matter. The
    model is left as it was found. Raises `UserError` for no batch at all and for activations that are not
    finite.
    """
    body, _ = body_and_head(model)
    names = {module: name for name, module in model.named_modules()}
    watched = {
        names[module]: _Watched(_head_width(names[module], model.config))
        for module in body.modules()
        if isinstance(module, nn.Linear)
    }
    tokens = 0
    with ExitStack() as undo, torch.no_grad():
        undo.callback(model.train, model.training)
        undo.callback(model.to, model.device)
        for name, record in watched.items():
            hook = model.get_submodule(name).register_forward_pre_hook(record.see)
            undo.callback(hook.remove)
        model.to(device).eval()
        for batch in batches:
            hidden_states(body, batch.to(device))
            tokens += batch.inputs_BT.numel()
    if not tokens:
        raise UserError(
            "calibration: no text to measure activations on; raise adapt.shrink.calibration_tokens"
        )
    for name, record in watched.items():
        record.check(name)
    return Activations(
        {name: record.squares / tokens for name, record in watched.items()},
        {name: record.absolutes / record.rows for name, record in watched.items()},
        {name: record.heads / record.rows for name, record in watched.items() if record.width},
        tokens,
    )


def _head_width(name: str, config: Any) -> int:
    """Width of the heads whose outputs the layer reads; 0 where it reads no attention."""
    if not name.endswith("o_proj"):
        return 0
    return head_dim(config)


class _Watched:
    """Sums over the inputs of one linear layer."""

    def __init__(self, width: int) -> None:
        self.width, self.rows = width, 0
        self.squares = self.absolutes = self.heads = torch.zeros((), dtype=torch.float64)

    def see(self, module: nn.Module, arguments: tuple[Tensor, ...]) -> None:  # noqa: ARG002
        x_BTI = arguments[0].detach().float()
        self.rows += x_BTI.shape[0]
        self.squares = self.squares + _summed(x_BTI.double().square().flatten(0, -2))
        self.absolutes = self.absolutes + _summed(x_BTI.double().abs().mean(1).square())
        if self.width:
            norms_BTH = x_BTI.double().unflatten(-1, (-1, self.width)).norm(dim=-1)
            self.heads = self.heads + _summed(norms_BTH.mean(1).square())

    def check(self, name: str) -> None:
        if not bool(torch.isfinite(self.squares).all()):
            raise UserError(
                f"calibration: the inputs of {name} are not finite; the checkpoint is damaged, make it again"
            )


def _summed(values: Tensor) -> Tensor:
    return values.sum(0).cpu()
