"""Alphas of the linearity theorem: how much the loss rises per unit of relative error in one layer.

Malinovskii et al., arXiv 2411.17525: theorem 1 (what alpha is) and algorithm 3 (how it is measured). A
layer's weight gets Gaussian noise of known relative size t^2 = |noise|^2 / |W|^2, all other layers stay;
alpha is the slope through the origin of the loss against t^2. In every block of a row the noise is as large
as the block, as the error of HIGGS is. Without data the loss is the divergence KL(clean || noised) of
next-token distributions on uniformly random tokens; on a sample it is the rise of the cross entropy.

The cross entropy has a slope of first order too, with two consequences that theorem 1 does not know:

- Noise climbs it by chance, more than by its size where the noise is small. The mean over a noise and its
  negative has no such part: it is the curvature, `points`.
- Errors of a quantiser have it for good: a point of a grid is the mean of what is rounded to it, so that W_q
  is shorter than W by t^2 in the direction of W. The slope along -W is exact from one backward pass over the
  sample, `shrinking`, and is a part of alpha.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
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

PADDING = -1  # ends the shorter rows of a sample

# Noise is measured on the first batches up to so many tokens; slopes, which cost little, on all.
NOISE_TOKENS = 16_384
# A layer that gains by getting shorter keeps this part of its curvature as its alpha: what it gains is true
# of the sample, and only as long as nothing else changes.
LEAST_SHARE = 0.5

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Sensitivity:
    """`alphas` by layer, in nats per token and unit of t^2; `points`: the (t^2, loss) pairs behind them;
    `shrinking`: the slopes of first order that were added (none without data).
    """

    alphas: dict[str, float]
    points: dict[str, list[tuple[float, float]]]
    shrinking: dict[str, float] = field(default_factory=dict)

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

    `batches` are token ids (rows, length) of a sample whose cross entropy counts, with negative ids as the
    padding on the right of shorter rows; None draws random tokens and compares distributions. The weights are
    the same afterwards, bit for bit. `progress(done, total, layer)` is called after every layer. Raises
    `LowbitError` for unknown layers, levels that are not positive, or a layer of zeros.
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
    if not random and not all(_targets(text) for text in texts):
        raise LowbitError("a batch predicts no token; rows need two tokens or more before their padding")
    first = {} if random else _slopes(model, texts, names)
    losses = {name: [0.0] * len(levels) for name in names}
    noisy = texts if random else _first(texts, NOISE_TOKENS)
    with torch.inference_mode(), _evaluating(model):
        for number, text in enumerate(noisy):
            measure = _divergence(model, text) if random else _rise(model, text)
            for at, name in enumerate(names):
                layer = model.get_submodule(name)
                for level, t2 in enumerate(levels):
                    noise = _noise(layer, t2, (seed, number, at, level), name)
                    losses[name][level] += _loss(measure, layer, noise, both=not random)
                if progress:
                    progress(number * len(names) + at + 1, len(noisy) * len(names), name)
    tokens = sum(text.numel() if random else _targets(text) for text in noisy)
    points = {
        name: [(t2, loss / tokens) for t2, loss in zip(levels, found, strict=True)]
        for name, found in losses.items()
    }
    alphas = {name: slope(pairs) for name, pairs in points.items()}
    for name, steep in first.items():
        alphas[name] = max(alphas[name] + steep, LEAST_SHARE * alphas[name])
    return Sensitivity(alphas, points, first)


def _first(texts: Sequence[Tensor], tokens: int) -> list[Tensor]:
    """The first batches that hold `tokens` together, or all."""
    found: list[Tensor] = []
    for text in texts:
        if found and sum(_targets(part) for part in found) >= tokens:
            break
        found.append(text)
    return found


def _targets(text: Tensor) -> int:
    """How many tokens of `text` are predicted: all but the first of each row and padding."""
    return int((text[:, 1:] >= 0).sum())


def _slopes(model: PreTrainedModel, texts: Sequence[Tensor], names: Sequence[str]) -> dict[str, float]:
    """Rise of the cross entropy per unit of relative length that a layer loses, in nats per token.

    The layer's output without its bias is multiplied by a number that is 1: the slope by that number is the
    slope along the weight, and no gradient of a weight is held.
    """
    scales = {name: torch.ones((), device=model.device, requires_grad=True) for name in names}
    hooks = [
        model.get_submodule(name).register_forward_hook(_scaled(scale)) for name, scale in scales.items()
    ]
    sums = dict.fromkeys(names, 0.0)
    try:
        with torch.enable_grad(), _evaluating(model):
            for text in texts:
                slopes = torch.autograd.grad(_cross_entropy(model, text), list(scales.values()))
                for name, steep in zip(names, slopes, strict=True):
                    sums[name] -= float(steep)
    finally:
        for hook in hooks:
            hook.remove()
    tokens = sum(_targets(text) for text in texts)
    return {name: total / tokens for name, total in sums.items()}


def _scaled(scale: Tensor) -> Callable[..., Tensor]:
    """A hook that gives what a linear layer gives whose weight is `scale` times as long."""

    def hook(layer: nn.Linear, _inputs: object, output: Tensor) -> Tensor:
        longer = scale.to(output.dtype)
        return output * longer if layer.bias is None else output * longer + layer.bias * (1 - longer)

    return hook


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


def _cross_entropy(model: PreTrainedModel, text: Tensor) -> Tensor:
    """Summed cross entropy of the tokens of `text`, in nats."""
    # What stands on the right of a token is nothing to a causal model, so padding needs no mask.
    logits, targets = (
        _logits(model, text[:, :-1].clamp(min=0)),
        text[:, 1:].clamp(min=PADDING).to(model.device),
    )
    return nn.functional.cross_entropy(
        logits.flatten(0, 1), targets.flatten(), reduction="sum", ignore_index=PADDING
    )


def _rise(model: PreTrainedModel, text: Tensor) -> Callable[[], float]:
    """Rise of the summed cross entropy of the tokens of `text`, in nats."""
    clean = float(_cross_entropy(model, text))
    return lambda: float(_cross_entropy(model, text)) - clean


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
