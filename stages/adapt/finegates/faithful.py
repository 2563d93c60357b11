"""The gates of the FineGates paper's own code (arXiv 2602.09169, repository jsvir/FineGates), for comparison.

A logit l gives mu = tanh(l), l ~ N(1, .1^2) at first; the gate is clamp(mu + .5 + eps, 0, 1), eps ~ N(0,
.1^2) in training and 0 in evaluation, on every row and every column of a layer. The penalty holds the mean
of Phi((mu + .5) / .5), which the code takes for the chance of being open, at 1 - s per vector.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

SHIFT = 0.5
NOISE = 0.1
SPREAD = 0.5
WEIGHT = 50.0
LEAST = 0.6  # tanh(.6) + .5 > 1
SATURATED = 10.0  # a logit whose gate is open, or with a minus sign closed, for certain


def initial(count: int, generator: torch.Generator) -> Tensor:
    """Logits (count,) of open gates: N(1, .1^2), cut off at LEAST so that none starts half closed."""
    return (1 + NOISE * torch.randn(count, generator=generator, device="cpu")).clamp(min=LEAST)


def evaluated(logits: Tensor) -> Tensor:
    """Gates of evaluation, fp32."""
    return (torch.tanh(logits.float()) + SHIFT).clamp(0, 1)


def drawn(logits: Tensor, eps: Tensor) -> Tensor:
    """Gates of training under standard normal noise `eps`, fp32."""
    return (torch.tanh(logits.float()) + SHIFT + NOISE * eps).clamp(0, 1)


def penalty(pairs: Sequence[tuple[Tensor, Tensor]], share: float) -> Tensor:
    """WEIGHT times the mean over layers of |mean p - (1 - share)|, of rows and of columns by half each.

    `pairs`: row and column logits of every layer.
    """

    def off(logits: Tensor) -> Tensor:
        opened = torch.special.ndtr((torch.tanh(logits.float()) + SHIFT) / SPREAD)
        return (opened.mean() - (1 - share)).abs()

    return WEIGHT * torch.stack([(off(rows) + off(columns)) / 2 for rows, columns in pairs]).mean()
