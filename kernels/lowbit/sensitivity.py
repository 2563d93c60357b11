"""Alphas of the linearity theorem: how much the loss rises per unit of relative error in one layer.

Malinovskii et al., arXiv 2411.17525: theorem 1 (what alpha is) and algorithm 3 (how it is measured). A
layer's weight gets Gaussian noise of known relative size t^2 = |noise|^2 / |W|^2, all other layers stay;
alpha is the slope through the origin of the loss against t^2. Without data the loss is the divergence
KL(clean || noised) of next-token distributions on uniformly random tokens; on a sample it is the rise of
the cross entropy.
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

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LEVELS = (0.02, 0.06)  # t^2 of the noise, inside the linear regime and large enough to be seen
RANDOM_BATCHES, RANDOM_ROWS, RANDOM_LENGTH = 4, 8, 128
# Beyond this ratio between the slopes of the least and the greatest noise a layer is called not linear.
BENT = 1.5

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Sensitivity:
    """`alphas` by layer, in nats per token and unit of t^2; `points`: the (t^2, loss) pairs behind them."""

    alphas: dict[str, float]
    points: dict[str, list[tuple[float, float]]]

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
    tokens = sum(text.shape[0] * (text.shape[1] - (not random)) for text in texts)
    with torch.inference_mode(), _evaluating(model):
        for number, text in enumerate(texts):
            measure = _divergence(model, text) if random else _rise(model, text)
            for at, name in enumerate(names):
                for level, t2 in enumerate(levels):
                    with _noised(model.get_submodule(name), t2, (seed, at, level), name):
                        losses[name][level] += measure()
                if progress:
                    progress(number * len(names) + at + 1, len(texts) * len(names), name)
    points = {
        name: [(t2, loss / tokens) for t2, loss in zip(levels, found, strict=True)]
        for name, found in losses.items()
    }
    return Sensitivity({name: slope(pairs) for name, pairs in points.items()}, points)


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


@contextmanager
def _noised(layer: nn.Module, t2: float, seed: tuple[int, int, int], name: str) -> Iterator[None]:
    """Gaussian noise of relative size `t2` in the weight of `layer` while the block runs."""
    assert isinstance(layer, nn.Linear)
    weight, kept = layer.weight, layer.weight.clone()
    norm = float(kept.float().norm())
    if norm == 0:
        raise LowbitError(f"{name}: all its weights are zero, so it has no alpha; leave it out")
    run, at, level = seed
    generator = torch.Generator().manual_seed((run * 100_003 + at) * 101 + level)
    noise = torch.randn(kept.shape, generator=generator).to(kept.device)
    weight.copy_(kept.float() + noise * (math.sqrt(t2) * norm / noise.norm()))
    try:
        yield
    finally:
        weight.copy_(kept)
