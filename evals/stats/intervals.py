"""Intervals that know about clusters: means, ratios, stratified totals and paired differences.

Items that probe one fact, or come from one document, are one cluster: clusters are resampled, never items.
All intervals use the Bayesian bootstrap (Rubin 1981, The Bayesian Bootstrap): one standard exponential weight
per cluster and round. A cluster that stands in several tasks has one weight in all of them, so shared facts
are counted as shared, and a task never loses all of its clusters in a round.

Two corrections keep small samples honest:

- Bounded values (`bounds`): in every round one cluster at the worst possible value joins one task. For 0/1
  values of one task this is exactly Clopper and Pearson's bound, in general Gaffke's (Learned-Miller and
  Thomas 2019, arXiv 1905.06208). No discordant pair among n is then weak evidence, not a width of zero.
- Unbounded values: the quantiles are widened to those of Student's t (Hesterberg 2015, What Teachers Should
  Know About the Bootstrap, expanded percentile interval), with sqrt((n+1)/(n-1)) for the variance of the
  Bayesian bootstrap.

Draws depend on the seed and on the sorted cluster names only, not on the order of the rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from evals.errors import EvalError
from evals.stats.inputs import Floats, finite

Bounds = tuple[float, float]
UNIT: Bounds = (0.0, 1.0)
UNIT_DIFFERENCE: Bounds = (-1.0, 1.0)
# Weights are drawn in blocks of this many numbers, so that 100,000 documents do not need gigabytes.
_BLOCK = 4_000_000


@dataclass(frozen=True)
class Interval:
    """A two-sided interval: the estimate, its bounds, the number of values and of clusters behind it."""

    mean: float
    lo: float
    hi: float
    n: int
    clusters: int

    def pair(self) -> list[float | None]:
        """`[lo, hi]` for JSON; an infinite bound (one cluster, nothing known) becomes None."""
        return [value if math.isfinite(value) else None for value in (self.lo, self.hi)]


@dataclass(frozen=True)
class Difference:
    """A paired comparison. `lower` and `upper` are one-sided bounds, each at its own level 1 - alpha.

    `se` is the standard deviation of the draws, `n` the number of pairs, `clusters` what was resampled.
    """

    mean: float
    lower: float
    upper: float
    se: float
    n: int
    clusters: int


@dataclass(frozen=True)
class _Sums:
    """Sums of numerators and denominators, both (C, K): per cluster and task."""

    numerators: Floats
    denominators: Floats
    n: int

    @property
    def clusters(self) -> int:
        return int(self.numerators.shape[0])


def cluster_interval(
    values: ArrayLike,
    clusters: Sequence[Any],
    level: float = 0.95,
    rounds: int = 2000,
    seed: int = 0,
    bounds: Bounds | None = None,
) -> Interval:
    """The mean of `values` (N,) with a two-sided interval over `clusters` (N,).

    `bounds` are the least and greatest possible value (`UNIT` for accuracies); give them where they exist.
    Raises `EvalError` for no values, values that are not finite, or lengths that differ.
    """
    return stratified_interval(values, [""] * len(clusters), clusters, level, rounds, seed, bounds)


def stratified_interval(
    values: ArrayLike,
    strata: Sequence[Any],
    clusters: Sequence[Any],
    level: float = 0.95,
    rounds: int = 2000,
    seed: int = 0,
    bounds: Bounds | None = None,
) -> Interval:
    """The plain mean of the means of the strata (a total over tasks). Raises as above."""
    value_N = finite("values", values)
    sums = _sums(value_N, np.ones_like(value_N), clusters, strata)
    lower, upper = _bounds(sums, (1 - level) / 2, rounds, seed, bounds, _mean_of_ratios)
    return Interval(_mean_of_ratios(*_all(sums)), lower, upper, sums.n, sums.clusters)


def ratio_interval(
    numerators: ArrayLike,
    denominators: ArrayLike,
    clusters: Sequence[Any],
    level: float = 0.95,
    rounds: int = 2000,
    seed: int = 0,
) -> Interval:
    """Sum of `numerators` over sum of `denominators` (bits over characters) with its interval over clusters.

    Raises `EvalError` as above, and when a denominator is negative or all are zero.
    """
    sums = _sums(finite("numerators", numerators), _positive(denominators), clusters, None)
    lower, upper = _bounds(sums, (1 - level) / 2, rounds, seed, None, _mean_of_ratios)
    return Interval(_mean_of_ratios(*_all(sums)), lower, upper, sums.n, sums.clusters)


def paired_difference(
    candidate: ArrayLike,
    other: ArrayLike,
    clusters: Sequence[Any],
    strata: Sequence[Any] | None = None,
    alpha: float = 0.05,
    rounds: int = 2000,
    seed: int = 0,
    bounds: Bounds | None = UNIT_DIFFERENCE,
    size_biased: bool = False,
) -> Difference:
    """Mean of candidate - other, item by item (N,); with `strata`, the plain mean over strata of their means.

    `bounds` are the least and greatest possible difference of one item, None without. `size_biased` gives the
    imaginary cluster the size of the cluster of a random item, for clusters of very unequal sizes. Raises as
    above.
    """
    candidate_N, other_N = _pairs(candidate, other)
    sums = _sums(candidate_N - other_N, np.ones_like(other_N), clusters, strata)
    return _difference(sums, alpha, rounds, seed, bounds, _mean_of_ratios, size_biased)


def ratio_difference(
    candidate: ArrayLike,
    other: ArrayLike,
    denominators: ArrayLike,
    clusters: Sequence[Any],
    alpha: float = 0.05,
    rounds: int = 2000,
    seed: int = 0,
    bounds: Bounds | None = None,
    size_biased: bool = False,
) -> Difference:
    """Difference of ratios over the same denominators (bits per character): candidate - other.

    `bounds` are the least and greatest difference of one cluster's ratios. Raises as above, and for
    denominators as `ratio_interval`.
    """
    candidate_N, other_N = _pairs(candidate, other)
    sums = _sums(candidate_N - other_N, _positive(denominators), clusters, None)
    return _difference(sums, alpha, rounds, seed, bounds, _mean_of_ratios, size_biased)


def relative_rise(
    candidate: ArrayLike,
    other: ArrayLike,
    clusters: Sequence[Any],
    alpha: float = 0.05,
    rounds: int = 2000,
    seed: int = 0,
) -> Difference:
    """Sum of `candidate` over sum of `other`, minus 1: the relative rise of bits per character.

    The characters cancel: both models read the same documents. An interval to report: what decides is
    `noninferiority.compare_ratios`. Raises also for a zero sum of `other`.
    """
    return ratio_difference(candidate, other, other, clusters, alpha, rounds, seed)


def _pairs(candidate: ArrayLike, other: ArrayLike) -> tuple[Floats, Floats]:
    candidate_N, other_N = finite("candidate", candidate), finite("other", other)
    if len(candidate_N) != len(other_N):
        raise EvalError(
            f"a paired difference needs pairs; given {len(candidate_N)} and {len(other_N)} values"
        )
    return candidate_N, other_N


def _positive(values: ArrayLike) -> Floats:
    array = finite("denominators", values)
    if (array < 0).any() or array.sum() == 0:
        raise EvalError("denominators: expected numbers of zero or more with a sum above zero")
    return array


def _sums(
    numerator_N: Floats, denominator_N: Floats, clusters: Sequence[Any], strata: Sequence[Any] | None
) -> _Sums:
    if (
        not len(numerator_N)
        == len(denominator_N)
        == len(clusters)
        == len(strata if strata is not None else clusters)
    ):
        raise EvalError("values, clusters and strata must have one entry per item each")
    names, row_N = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
    tasks, column_N = np.unique(
        np.asarray(strata if strata is not None else [""] * len(row_N), dtype=str), return_inverse=True
    )
    shape = (len(names), len(tasks))
    sums = np.zeros((2, *shape))
    # Rows are added in sorted order: floating-point sums must not depend on the order of the table.
    order = np.lexsort((numerator_N, denominator_N, column_N, row_N))
    np.add.at(sums[0], (row_N[order], column_N[order]), numerator_N[order])
    np.add.at(sums[1], (row_N[order], column_N[order]), denominator_N[order])
    return _Sums(sums[0], sums[1], len(numerator_N))


def _all(sums: _Sums) -> tuple[Floats, Floats]:
    return sums.numerators.sum(0), sums.denominators.sum(0)


def _mean_of_ratios(numerators: Floats, denominators: Floats) -> Any:
    """(..., K) sums to (...): the plain mean over tasks of their ratios."""
    value = (numerators / denominators).mean(-1)
    return float(value) if value.ndim == 0 else value


def _difference(
    sums: _Sums,
    alpha: float,
    rounds: int,
    seed: int,
    bounds: Bounds | None,
    statistic: Any,
    size_biased: bool = False,
) -> Difference:
    draws = _draws(sums, rounds, seed, None, statistic)
    lower, upper = _bounds(sums, alpha, rounds, seed, bounds, statistic, size_biased)
    mean = statistic(*_all(sums))
    return Difference(mean, lower, upper, float(draws.std()), sums.n, sums.clusters)


def _bounds(
    sums: _Sums,
    tail: float,
    rounds: int,
    seed: int,
    bounds: Bounds | None,
    statistic: Any,
    size_biased: bool = False,
) -> tuple[float, float]:
    """One-sided bounds, each with error `tail`."""
    if not 0 < tail < 0.5:
        raise EvalError(f"the level leaves {tail:g} to each side; expected more than 0 and less than 0.5")
    mean = statistic(*_all(sums))
    if bounds is None:
        if sums.clusters < 2:
            return -math.inf, math.inf
        draws = _draws(sums, rounds, seed, None, statistic)
        tail = _expanded(tail, sums.clusters)
        lower, upper = np.quantile(draws, [tail, 1 - tail])
    else:
        lower = np.quantile(_draws(sums, rounds, seed, bounds[0], statistic, size_biased), tail)
        upper = np.quantile(_draws(sums, rounds, seed, bounds[1], statistic, size_biased), 1 - tail)
    return min(float(lower), mean), max(float(upper), mean)


def _draws(
    sums: _Sums, rounds: int, seed: int, extreme: float | None, statistic: Any, size_biased: bool = False
) -> Floats:
    """The statistic under `rounds` draws of exponential cluster weights (R,).

    With `extreme`, one more cluster of that value joins a random task in every round, of the mean size or of
    that of the cluster of a random item (`size_biased`).
    """
    generator = np.random.default_rng(seed)
    block = max(1, _BLOCK // sums.clusters)
    draws = np.empty(rounds)
    present_K = (sums.denominators > 0).sum(0)
    size_K = sums.denominators.sum(0) / np.maximum(present_K, 1)
    if size_biased:
        size_K = (sums.denominators**2).sum(0) / sums.denominators.sum(0)
    for start in range(0, rounds, block):
        count = min(block, rounds - start)
        weights_RC = generator.standard_exponential((count, sums.clusters))
        numerators_RK, denominators_RK = weights_RC @ sums.numerators, weights_RC @ sums.denominators
        extra_R, task_R = generator.standard_exponential(count), generator.integers(len(size_K), size=count)
        if extreme is not None:
            rows = np.arange(count)
            numerators_RK[rows, task_R] += extra_R * size_K[task_R] * extreme
            denominators_RK[rows, task_R] += extra_R * size_K[task_R]
        draws[start : start + count] = statistic(numerators_RK, denominators_RK)
    return draws


def _expanded(tail: float, clusters: int) -> float:
    """The quantile to read for the width of Student's t with `clusters` - 1 degrees of freedom."""
    from scipy import stats

    wide = math.sqrt((clusters + 1) / (clusters - 1)) * stats.t.ppf(tail, clusters - 1)
    return float(stats.norm.cdf(wide))
