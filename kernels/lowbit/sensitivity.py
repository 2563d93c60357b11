"""Alphas of the linearity theorem: how much the loss rises per unit of relative error in one layer.

Malinovskii et al., arXiv 2411.17525: theorem 1 (what alpha is) and algorithm 3 (how it is measured). A
layer's weight gets Gaussian noise of known relative size t^2 = |noise|^2 / |W|^2, all other layers stay;
alpha is the slope through the origin of the loss against t^2. In every block of a row the noise is as large
as the block, as the error of HIGGS is. Without data the loss is the divergence KL(clean || noised) of
next-token distributions on uniformly random tokens; on a sample it is the rise of the cross entropy.

The cross entropy has a slope of first order too, with two consequences that theorem 1 does not know:

- Noise climbs it by chance, more than by its size where the noise is small. The mean over a noise and its
  negative has no such part.
- Errors of a quantiser have it for good: a point is the mean of what is rounded to it, so that W_q is
  shorter than W by |W|^2 t^2 in the direction of W. What this does to the loss is measured with all layers at
  once, where it is no matter of chance, and shared among them in proportion: `shrinkage`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from lowbit.errors import LowbitError
from lowbit.hadamard import block_size

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LEVELS = (0.02, 0.06)  # t^2 of the noise, inside the linear regime and large enough to be seen
RANDOM_BATCHES, RANDOM_ROWS, RANDOM_LENGTH = 4, 8, 128
# Beyond this ratio between the slopes of the least and the greatest noise a layer is called not linear.
BENT = 1.5

SHRUNK = 0.02  # part of its length that every layer loses and gains when the shrinkage is measured
# A sample of few tokens may say anything about the first order; beyond these it is not believed.
LEAST_SHRINKAGE, GREATEST_SHRINKAGE = 0.5, 2.0

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Sensitivity:
    """`alphas` by layer, in nats per token and unit of t^2; `points`: the (t^2, loss) pairs behind them, the
    slopes of which were multiplied by `shrinkage` (1 without data).
    """

    alphas: dict[str, float]
    points: dict[str, list[tuple[float, float]]]
    shrinkage: float = 1.0

    @property
    def bent(self) -> list[str]:
        """Layers whose loss does not grow in proportion to t^2; a plan's prediction is unsure there."""
        found = []
        for name, pairs in self.points.items():
            slopes = [loss / t2 for t2, loss in (pairs[0], pairs[-1])]
            if min(slopes) <= 0 or max(slopes) / min(slopes) > BENT:
                found.append(name)
        return found


def estimate(
    model: PreTrainedModel,
    batches: Sequence[Tensor] | None = None,
    *,
    layers: Sequence[str] | None = None,
    levels: Sequence[float] = LEVELS,
    seed: int = 0,
    progress: Progress | None = None,
) -> Sensitivity:
    """The alphas of `layers` of `model`, or of all linear layers but the output head.

    `batches` are token ids (rows, length) of a sample whose cross entropy counts; None draws random tokens
    and compares distributions. The weights are the same afterwards, bit for bit. `progress(done, total,
    layer)` is called after every layer. Raises `LowbitError` for unknown layers, levels that are not
    positive, or a layer of zeros.
    """
    from lowbit.integration import linears

    shapes, heads = linears(model)
    names = [name for name in shapes if name not in heads] if layers is None else list(layers)
    unknown = next((name for name in names if name not in shapes), None)
    if unknown is not None:
        raise LowbitError(f"the model has no linear layer `{unknown}`")
    if not levels or any(not (math.isfinite(level) and level > 0) for level in levels):
        raise LowbitError(f"noise levels {list(levels)}: give positive relative errors")
    random = batches is None
    texts = _random_tokens(model, seed) if batches is None else list(batches)
    if not texts:
        raise LowbitError("no batch of tokens was given; a sample needs at least one")
    losses = {name: [0.0] * len(levels) for name in names}
    shrunk = 0.0
    tokens = sum(text.shape[0] * (text.shape[1] - (not random)) for text in texts)
    with torch.inference_mode(), _evaluating(model):
        for number, text in enumerate(texts):
            measure = _divergence(model, text) if random else _rise(model, text)
            for at, name in enumerate(names):
                layer = model.get_submodule(name)
                for level, t2 in enumerate(levels):
                    noise = _noise(layer, t2, (seed, number, at, level), name)
                    losses[name][level] += _loss(measure, layer, noise, both=not random)
                if progress:
                    progress(number * len(names) + at + 1, len(texts) * len(names), name)
            if not random:
                shrunk += _shrinking(measure, [model.get_submodule(name) for name in names])
    points = {
        name: [(t2, loss / tokens) for t2, loss in zip(levels, found, strict=True)]
        for name, found in losses.items()
    }
    slopes = {name: slope(pairs) for name, pairs in points.items()}
    factor = _factor(shrunk / tokens, sum(slopes.values()))
    return Sensitivity({name: factor * value for name, value in slopes.items()}, points, factor)


def _factor(first: float, second: float) -> float:
    """How much the loss rises of both orders, as a multiple of the second alone."""
    if second <= 0:
        return 1.0
    return min(max(1 + first / second, LEAST_SHRINKAGE), GREATEST_SHRINKAGE)


def slope(pairs: Sequence[tuple[float, float]]) -> float:
    """Least squares through the origin of loss against t^2."""
    return sum(t2 * loss for t2, loss in pairs) / sum(t2**2 for t2, _ in pairs)


def _random_tokens(model: PreTrainedModel, seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (RANDOM_ROWS, min(RANDOM_LENGTH, int(model.config.max_position_embeddings)))
    vocab = int(model.config.vocab_size)
    return [torch.randint(vocab, shape, generator=generator) for _ in range(RANDOM_BATCHES)]


def _logits(model: PreTrainedModel, text: Tensor) -> Tensor:
    return model(input_ids=text.to(model.device), use_cache=False).logits.float()


def _divergence(model: PreTrainedModel, text: Tensor) -> Callable[[], float]:
    """Sum over tokens of KL(clean || now) of the next-token distributions, in nats."""
    clean = _logits(model, text).log_softmax(-1)

    def measure() -> float:
        now = _logits(model, text).log_softmax(-1)
        return float(nn.functional.kl_div(now, clean, reduction="sum", log_target=True))

    return measure


def _rise(model: PreTrainedModel, text: Tensor) -> Callable[[], float]:
    """Rise of the summed cross entropy of the tokens of `text`, in nats."""

    def total() -> float:
        logits, targets = _logits(model, text)[:, :-1], text[:, 1:].to(model.device)
        return float(nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum"))

    clean = total()
    return lambda: total() - clean


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def _noise(layer: nn.Module, t2: float, seed: tuple[int, int, int, int], name: str) -> Tensor:
    """Gaussian noise of relative size `t2` for the weight of `layer`, (out, in), block by block."""
    assert isinstance(layer, nn.Linear)
    weight = layer.weight.detach().float()
    norm = float(weight.norm())
    if norm == 0:
        raise LowbitError(f"{name}: all its weights are zero, so it has no alpha; leave it out")
    run, number, at, level = seed
    generator = torch.Generator().manual_seed(((run * 10_007 + number) * 100_003 + at) * 101 + level)
    noise = torch.randn(weight.shape, generator=generator).to(weight.device)
    width = weight.shape[1]
    blocks = (weight.shape[0], -1, block_size(width) if width % 16 == 0 else width)
    noise = (noise.view(blocks) * weight.view(blocks).square().mean(-1, keepdim=True).sqrt()).view_as(weight)
    return noise * (math.sqrt(t2) * norm / noise.norm())


def _loss(measure: Callable[[], float], layer: nn.Module, noise: Tensor, both: bool) -> float:
    """The loss with `noise` in the weight of `layer`; the mean with that of its negative where `both`."""
    assert isinstance(layer, nn.Linear)
    weight, kept = layer.weight, layer.weight.clone()
    found = []
    try:
        for sign in (1, -1) if both else (1,):
            weight.copy_(kept.float() + sign * noise)
            found.append(measure())
    finally:
        weight.copy_(kept)
    return sum(found) / len(found)


def _shrinking(measure: Callable[[], float], layers: Sequence[nn.Module]) -> float:
    """Rise of the loss per unit of length that the weights of all `layers` lose together."""
    found = []
    for scale in (1 - SHRUNK, 1 + SHRUNK):
        hooks = [layer.register_forward_hook(_scaled(scale)) for layer in layers]
        try:
            found.append(measure())
        finally:
            for hook in hooks:
                hook.remove()
    return (found[0] - found[1]) / (2 * SHRUNK)


def _scaled(scale: float) -> Callable[..., Tensor]:
    """A hook that gives what a linear layer gives whose weight is `scale` times as long."""

    def hook(layer: nn.Linear, _inputs: object, output: Tensor) -> Tensor:
        return output * scale if layer.bias is None else output * scale + layer.bias * (1 - scale)

    return hook
