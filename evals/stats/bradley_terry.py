"""Strengths of several models from pairwise games (Bradley and Terry 1952, Biometrika 39:324-345).

    P(i beats j) = 1 / (1 + exp(b_j - b_i)),   a tie is half a win of each

fitted by minorization (Hunter 2004, Annals of Statistics 32:384-406, equation 3), for all bootstrap rounds at
once. Strengths are centred at zero; Elo = 1000 + 400 / ln(10) b. The bootstrap resamples prompts, not games:
games about one prompt are not independent. For two models it adds nothing to a win rate.

Half a tie of every two models that met is added, so that a model that never lost keeps a finite strength.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from evals.errors import EvalError
from evals.stats import inputs
from evals.stats.inputs import Floats
from evals.stats.intervals import Interval

STEPS = 10_000
PRIOR = 0.25  # wins given to either side of every two models that met


@dataclass(frozen=True)
class Strength:
    """A model's strength b in logits, with its interval over prompts."""

    name: str
    value: Interval

    @property
    def elo(self) -> float:
        """On Elo's scale, with 1000 for the mean strength."""
        return 1000 + 400 / math.log(10) * self.value.mean


def bradley_terry(
    first: Sequence[Any],
    second: Sequence[Any],
    scores: ArrayLike,
    clusters: Sequence[Any],
    level: float = 0.95,
    rounds: int = 200,
    seed: int = 0,
) -> list[Strength]:
    """Strengths, the greatest first, from games (N,): two names, and the first one's score in [0, 1].

    Raises `EvalError` for unequal lengths, a model that plays against itself, or models that fall into groups
    which never met, whose strengths cannot be compared.
    """
    score_N = inputs.between("scores", scores, 0, 1)
    inputs.aligned(first=first, second=second, scores=score_N, clusters=clusters)
    names, code_M = inputs.grouped([*first, *second])
    i_N, j_N = code_M[: len(first)], code_M[len(first) :]
    if (i_N == j_N).any():
        raise EvalError("Bradley-Terry: a model plays against itself; leave such games out")
    _, row_N = inputs.grouped(clusters)
    models, prompts = len(names), int(row_N.max()) + 1
    per_prompt_KC = np.zeros((prompts, models * models))
    np.add.at(per_prompt_KC, (row_N, i_N * models + j_N), score_N)
    np.add.at(per_prompt_KC, (row_N, j_N * models + i_N), 1 - score_N)
    drawn_RK = np.random.default_rng(seed).multinomial(prompts, np.full(prompts, 1 / prompts), rounds)
    weights_RK = np.concatenate([np.ones((1, prompts)), drawn_RK])
    wins_RMM = (weights_RK @ per_prompt_KC).reshape(-1, models, models)
    met_MM = per_prompt_KC.sum(0).reshape(models, models)
    met_MM = (met_MM + met_MM.T) > 0
    _connected(met_MM, names)
    b_RM = _fit(wins_RMM + PRIOR * met_MM)
    tail = (1 - inputs.share("level", level)) / 2
    low_M, high_M = np.quantile(b_RM[1:], [tail, 1 - tail], axis=0)
    found = [
        Strength(
            str(name), Interval(float(b_RM[0, m]), float(low_M[m]), float(high_M[m]), len(score_N), prompts)
        )
        for m, name in enumerate(names)
    ]
    return sorted(found, key=lambda item: (-item.value.mean, item.name))


def _fit(wins_RMM: Floats) -> Floats:
    """Centred strengths (R, M) from wins of row over column."""
    games_RMM, total_RM = wins_RMM + wins_RMM.transpose(0, 2, 1), wins_RMM.sum(2)
    strength_RM = np.ones_like(total_RM)
    for _ in range(STEPS):
        pairs_RMM = strength_RM[:, :, None] + strength_RM[:, None, :]
        new_RM = total_RM / (games_RMM / pairs_RMM).sum(2)
        new_RM /= np.exp(np.log(new_RM).mean(1, keepdims=True))
        change = float(np.abs(np.log(new_RM / strength_RM)).max())
        strength_RM = new_RM
        if change < 1e-9:
            break
    return np.log(strength_RM)


def _connected(met_MM: np.ndarray, names: np.ndarray) -> None:
    reached = np.zeros(len(names), dtype=bool)
    reached[0] = True
    for _ in names:
        reached |= met_MM[reached].any(0)
    if not reached.all():
        apart = ", ".join(str(name) for name in names[~reached])
        raise EvalError(f"Bradley-Terry: {apart} never met {names[0]} or whom it met; nothing compares them")
