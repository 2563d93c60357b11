"""What a judge prefers, and how much of it is the order in which answers were shown.

Every pair is judged in both orders. A verdict is the winner's own side: 1 for ours, 0 for theirs, 0.5 for a
tie; so "ours" in both orders is consistent, while (1, 0) with ours shown first, then second, took the first
place twice. `win_rate` is the mean over both orders and all pairs, ties counting half (2306.05685, section
3.4). Primacy and recency are the shares of pairs whose first-shown and second-shown answer won both times.

Self-preference by difference in differences, without human labels: over the same prompts, how often the judge
prefers its own family's answers, minus how often the other judges do (docs/statistics.md; 2410.21819 defines
the measure with labels).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from evals.errors import EvalError
from evals.stats import binary, inputs, intervals
from evals.stats.inputs import Floats
from evals.stats.intervals import Interval


@dataclass(frozen=True)
class Position:
    """Over pairs judged in both orders, each share with its Wilson interval.

    `taste` is primacy minus recency. `taste_p` is the exact binomial p-value of "both places are taken
    equally often" over the pairs in which a place won; 1 without any.
    """

    consistency: Interval
    primacy: Interval
    recency: Interval
    taste: float
    taste_p: float


def win_rate(
    ours_first: ArrayLike,
    ours_second: ArrayLike,
    clusters: Sequence[Any],
    level: float = 0.95,
    rounds: int = 2000,
    seed: int = 0,
) -> Interval:
    """Mean verdict (N,) for ours over both orders, in [0, 1] each, with an interval over clusters (prompts).

    Probabilities are taken as well as 0, 0.5 and 1. Raises `EvalError` for unequal lengths or other values.
    """
    first_N, second_N = _verdicts(ours_first, ours_second)
    inputs.aligned(verdicts=first_N, clusters=clusters)
    return intervals.cluster_interval((first_N + second_N) / 2, clusters, level, rounds, seed, intervals.UNIT)


def position(ours_first: ArrayLike, ours_second: ArrayLike, level: float = 0.95) -> Position:
    """Consistency, primacy and recency of verdicts (N,) as `win_rate` takes them.

    Above one half ours has won, below theirs; a tie in one order alone is neither consistent nor a place.
    """
    from scipy.stats import binomtest

    first_N, second_N = (np.sign(part - 0.5) for part in _verdicts(ours_first, ours_second))
    n = len(first_N)
    same = int((first_N == second_N).sum())
    early = int(((first_N > 0) & (second_N < 0)).sum())
    late = int(((first_N < 0) & (second_N > 0)).sum())
    shares = [Interval(count / n, *binary.wilson(count, n, level), n, n) for count in (same, early, late)]
    p = float(binomtest(early, early + late).pvalue) if early + late else 1.0
    return Position(shares[0], shares[1], shares[2], (early - late) / n, p)


def accuracy(
    ours_first: ArrayLike,
    ours_second: ArrayLike,
    ours_better: ArrayLike,
    clusters: Sequence[Any],
    level: float = 0.95,
    rounds: int = 2000,
    seed: int = 0,
) -> Interval:
    """Share of right verdicts over both orders, a tie counting half; `ours_better` (N,) is 0 or 1."""
    first_N, second_N = ((np.sign(part - 0.5) + 1) / 2 for part in _verdicts(ours_first, ours_second))
    better_N = inputs.binary("ours_better", ours_better)
    inputs.aligned(verdicts=first_N, ours_better=better_N, clusters=clusters)
    mean_N = (first_N + second_N) / 2
    right_N = np.where(better_N, mean_N, 1 - mean_N)
    return intervals.cluster_interval(right_N, clusters, level, rounds, seed, intervals.UNIT)


def self_preference(
    own: ArrayLike,
    others: ArrayLike,
    clusters: Sequence[Any],
    level: float = 0.95,
    rounds: int = 2000,
    seed: int = 0,
) -> Interval:
    """Difference in differences: the judge's preference for its own family's answers less the others'.

    `own` (N,) are the judge's preferences, both orders averaged, for the answer of its family; `others` (J,
    N) or (N,) those of the other judges on the same pairs. Above zero: it favours its own. Raises `EvalError`
    for preferences outside 0..1, or shapes that do not fit.
    """
    own_N = inputs.between("own", own, 0, 1)
    others_JN = np.atleast_2d(np.asarray(others, dtype=np.float64))
    if others_JN.shape[-1] != len(own_N) or others_JN.ndim != 2:
        raise EvalError(f"others: expected judges x {len(own_N)} pairs, found shape {others_JN.shape}")
    others_N = inputs.between("others", others_JN.ravel(), 0, 1).reshape(others_JN.shape).mean(0)
    inputs.aligned(own=own_N, clusters=clusters)
    return intervals.cluster_interval(
        own_N - others_N, clusters, level, rounds, seed, intervals.UNIT_DIFFERENCE
    )


def _verdicts(ours_first: ArrayLike, ours_second: ArrayLike) -> tuple[Floats, Floats]:
    first_N = inputs.between("ours shown first", ours_first, 0, 1)
    second_N = inputs.between("ours shown second", ours_second, 0, 1)
    inputs.aligned(first=first_N, second=second_N)
    return first_N, second_N
