"""One-sided non-inferiority and superiority on paired items that come in clusters.

Unclustered right/wrong items: Tango's score test (`evals.stats.binary`). Everything else: a t test on
clusters with four corrections, each against a way in which few or unequal clusters promote a worse model too
often:

- The standard error is the cluster jackknife's (CV3; Bell and McCaffrey 2002, Survey Methodology 28:169-181).
- One imaginary cluster joins that loses as the typical losing cluster does (sum y^2 / sum |y| over clusters
  that lose; all of its items where none does): "one more loss", the +1 of Clopper and Pearson's bound.
- Rare losses make the statistic skew: Hall's monotone transformation (1992, JRSS B 54:221-228, equation 2.4)
  with the skewness of the clusters, where that skewness makes a false promotion likelier.
- Student's t with the smaller of the effective number of clusters (sum w)^2 / sum w^2 minus 1, and the
  degrees of freedom of the variance estimate, 2 K / (kurtosis - 1): few, when it hangs on two clusters.

With fewer than 10 of the latter, or fewer than 5 effective clusters, the t test does not apply: the bounded
cluster bootstrap of `intervals` decides, with its imaginary cluster at the worst possible value. Below
`MIN_CLUSTERS` clusters nothing is decided. What remains is simulated by tests/proof/promotions.py.

Ratios of sums (bits per character) have no worst value, and documents are of very unequal size, so both tests
must hold: the t test, which sees skewness but not what the sample lacks, and the bootstrap, whose imaginary
document, of the size of the one behind a random character, has twice the bits. Where the t test does not
apply, or below `MIN_DOCUMENTS` clusters, nothing is decided.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from evals.errors import EvalError
from evals.stats import binary, inputs, intervals
from evals.stats.inputs import Floats

Method = Literal["tango", "t", "bootstrap", "none"]
MIN_CLUSTERS = 10
MIN_EFFECTIVE = 5.0
MIN_DEGREES = 10.0
MIN_DOCUMENTS = 50
# A spread below this share of the other model's sum is rounding, not a difference.
ROUNDING = 1e-6
# As far as a p-value of an exact or a t test is looked for.
LEAST_P = 1e-9


@dataclass(frozen=True)
class Comparison:
    """The difference candidate - other with one-sided bounds, each at level 1 - alpha.

    `method` is the test behind the lower bound, `degrees` those of its Student's t; "none" says that there
    is too little to decide, and the bounds are then the widest ones. `se` is the plain standard error
    over clusters, for planning: the bounds are wider. `unseen` is what an imaginary cluster at the worst
    takes from a difference of ratios, and `needed` about how many clusters the t test of ratios applies to.
    """

    mean: float
    lower: float
    upper: float
    n: int
    clusters: int
    method: Method
    degrees: float | None = None
    se: float = math.nan
    unseen: float = 0.0
    needed: int | None = None

    @property
    def decided(self) -> bool:
        """Whether there was enough to test at all."""
        return self.method != "none"

    def not_worse(self, margin: float) -> bool:
        """Non-inferior: the lower bound lies above -margin."""
        return self.decided and self.lower > -margin

    @property
    def better(self) -> bool:
        """Superior: the lower bound lies above zero."""
        return self.decided and self.lower > 0


def compare(
    candidate: ArrayLike,
    other: ArrayLike,
    clusters: Sequence[Any],
    strata: Sequence[Any] | None = None,
    alpha: float = 0.05,
    bounds: intervals.Bounds = intervals.UNIT_DIFFERENCE,
    rounds: int = 2000,
    seed: int = 0,
) -> Comparison:
    """Compare two models on the same items (N,); with `strata`, the plain mean over strata of their means.

    `bounds` are the least and greatest possible difference of one item. Raises `EvalError` for values that
    are missing, not finite, out of bounds or of unequal length.
    """
    ours_N, theirs_N = inputs.finite("candidate", candidate), inputs.finite("other", other)
    inputs.aligned(candidate=ours_N, other=theirs_N, clusters=clusters)
    if strata is not None:
        inputs.aligned(candidate=ours_N, strata=strata)
    inputs.share("alpha", alpha, 0, 0.5)
    inputs.between("candidate - other", ours_N - theirs_N, *bounds)
    names, row_N = inputs.grouped(clusters)
    tasks, column_N = inputs.grouped(strata if strata is not None else [""] * len(row_N))
    table = _table(ours_N - theirs_N, np.ones_like(ours_N), row_N, column_N)
    mean, sized, error = float(table[0].sum()), (len(ours_N), len(names)), _error(table[2])
    if len(names) < MIN_CLUSTERS:
        return Comparison(mean, *bounds, *sized, "none", se=error)
    right_or_wrong = bool(np.isin(np.r_[ours_N, theirs_N], (0.0, 1.0)).all())
    if right_or_wrong and len(names) == len(ours_N) and len(tasks) == 1:
        counts = binary.paired_counts(ours_N, theirs_N)
        upper = -binary.lower_bound(counts.swapped(), alpha)
        return Comparison(mean, binary.lower_bound(counts, alpha), upper, *sized, "tango", se=error)
    values_1K, weights_1K, residuals_1K = (part[None] for part in table)
    (low,), (degrees,) = lower_bounds(values_1K, weights_1K, residuals_1K, alpha)
    (high,), _ = lower_bounds(-values_1K, weights_1K, -residuals_1K, alpha)
    low, high = float(low), -float(high)
    applies = math.isfinite(low)
    if not (applies and math.isfinite(high)):
        drawn = intervals.paired_difference(
            ours_N, theirs_N, clusters, strata, alpha, rounds, seed, bounds, size_biased=True
        )
        low, high = low if applies else drawn.lower, high if math.isfinite(high) else drawn.upper
        error = error if math.isfinite(error) else drawn.se
    low, high = min(mean, max(low, bounds[0])), max(mean, min(high, bounds[1]))
    method: Method = "t" if applies else "bootstrap"
    return Comparison(mean, low, high, *sized, method, float(degrees) if applies else None, error)


def compare_ratios(
    candidate: ArrayLike,
    other: ArrayLike,
    denominators: ArrayLike,
    clusters: Sequence[Any],
    alpha: float = 0.05,
    rounds: int = 2000,
    seed: int = 0,
) -> Comparison:
    """Compare sums over the same denominators (N,), such as bits over characters, where less is better.

    The difference is (sum other - sum candidate) / sum denominators: with `other` as denominators the
    relative fall. Each bound is the wider one of the t test's and the bootstrap's; without any spread the
    bootstrap stands alone, and where the t test does not apply there is no bound. Raises `EvalError` for
    values that are missing, not finite, or of unequal length, for negative denominators and for `other`
    without a sum.
    """
    ours_N, theirs_N = inputs.finite("candidate", candidate), inputs.finite("other", other)
    below_N = inputs.finite("denominators", denominators)
    inputs.aligned(candidate=ours_N, other=theirs_N, denominators=below_N, clusters=clusters)
    inputs.share("alpha", alpha, 0, 0.5)
    if (below_N < 0).any() or below_N.sum() == 0 or theirs_N.sum() <= 0:
        raise EvalError("denominators and other: expected numbers of zero or more with a sum above zero")
    names, row_N = inputs.grouped(clusters)
    unit = float(theirs_N.sum() / below_N.sum())
    value_K, weight_K, residual_K = _table((theirs_N - ours_N) / unit, below_N, row_N, np.zeros_like(row_N))
    count, error = len(names), _error(residual_K)
    found = Comparison(
        unit * float(value_K.sum()),
        -math.inf,
        math.inf,
        len(ours_N),
        count,
        "none",
        se=unit * error,
        unseen=unit * float((weight_K**2).sum()),
    )
    if count < MIN_DOCUMENTS:
        return replace(found, needed=MIN_DOCUMENTS)
    signs_2 = np.array([[1.0], [-1.0]])
    weights_2K = np.repeat(weight_K[None], 2, 0)
    (low, high), (degrees, _) = ratio_bounds(signs_2 * value_K, weights_2K, signs_2 * residual_K, alpha)
    drawn = intervals.ratio_difference(
        theirs_N, ours_N, below_N, clusters, alpha, rounds, seed, (-unit, unit), size_biased=True
    )
    if error < ROUNDING:
        return replace(found, lower=drawn.lower, upper=drawn.upper, method="bootstrap")
    found = replace(
        found,
        lower=min(unit * float(low), drawn.lower),
        upper=max(-unit * float(high), drawn.upper),
        degrees=float(degrees),
    )
    if not np.isfinite(low):
        return replace(found, needed=math.ceil(count * max(MIN_DEGREES / degrees, 1 + 1 / count)))
    return replace(found, method="t" if unit * low <= drawn.lower else "bootstrap")


def ratio_bounds(
    values_SK: Floats, weights_SK: Floats, residuals_SK: Floats | None = None, alpha: float = 0.05
) -> tuple[Floats, Floats]:
    """`lower_bounds` of relative falls: their t test, without what `compare_ratios` adds.

    The imaginary document of a candidate that is better falls short of the candidate's own mean: held against
    zero it would be an outlier among documents that all are better, and the test would not apply.
    """
    surplus_S1 = np.maximum(values_SK.sum(1, keepdims=True), 0)
    if residuals_SK is None:
        residuals_SK = (values_SK - weights_SK * values_SK.sum(1, keepdims=True)) / (1 - weights_SK)
    bounds_S, degrees_S = lower_bounds(values_SK - weights_SK * surplus_S1, weights_SK, residuals_SK, alpha)
    return bounds_S + surplus_S1[:, 0], degrees_S


def p_value(
    candidate: ArrayLike,
    other: ArrayLike,
    clusters: Sequence[Any],
    strata: Sequence[Any] | None = None,
    threshold: float = 0.0,
    bounds: intervals.Bounds = intervals.UNIT_DIFFERENCE,
    rounds: int = 2000,
    seed: int = 0,
) -> float:
    """One-sided p-value of "candidate - other is at most `threshold`": the least alpha whose bound is above.

    No less than 1 / `rounds` where the bootstrap decides, which is as far as it sees; 1 where half the
    probability does not suffice, or nothing can be decided. Raises as `compare`.
    """

    def at(alpha: float) -> Comparison:
        return compare(candidate, other, clusters, strata, alpha, bounds, rounds, seed)

    high = 0.4999
    widest = at(high)
    low = 1 / rounds if widest.method == "bootstrap" else LEAST_P
    if not (widest.decided and widest.lower > threshold):
        return 1.0
    if at(low).lower > threshold:
        return low
    while high / low > 1.005:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if at(middle).lower > threshold else (middle, high)
    return high


def _table(
    value_N: Floats, size_N: Floats, row_N: inputs.Ints, column_N: inputs.Ints
) -> tuple[Floats, Floats, Floats]:
    """Per cluster (row): its part of the mean over tasks (columns) of sum value / sum size, its weight, and
    its jackknife residual; each (K,).

    A task that stands in one cluster alone has no residual; it is NaN there, and the t test does not apply.
    """
    clusters, tasks = int(row_N.max()) + 1, int(column_N.max()) + 1
    sums, sizes = np.zeros((clusters, tasks)), np.zeros((clusters, tasks))
    order = np.lexsort((value_N, size_N, column_N, row_N))
    np.add.at(sums, (row_N[order], column_N[order]), value_N[order])
    np.add.at(sizes, (row_N[order], column_N[order]), size_N[order])
    total_T = sizes.sum(0)
    weights_K = (sizes / total_T).sum(1) / tasks
    values_K = (sums / total_T).sum(1) / tasks
    with np.errstate(all="ignore"):
        left_KT = (sums - sizes * (sums.sum(0) / total_T)) / (total_T - sizes)
    left_KT[(sizes == 0)] = 0.0
    return values_K, weights_K, left_KT.sum(1) / tasks


def _error(residual_K: Floats) -> float:
    """The jackknife's standard error."""
    return math.sqrt((len(residual_K) - 1) / len(residual_K) * float((residual_K**2).sum()))


def lower_bounds(
    values_SK: Floats, weights_SK: Floats, residuals_SK: Floats | None = None, alpha: float = 0.05
) -> tuple[Floats, Floats]:
    """Lower bounds (S,) of S samples of K clusters at once, and their degrees of freedom (S,).

    `values_SK` are the clusters' parts of the difference, which sum to it; `weights_SK` their shares of the
    items, which sum to 1; `residuals_SK` the jackknife's, that of one ratio without them. The bound is
    -infinity where the t test does not apply.
    """
    from scipy import stats

    k = values_SK.shape[1] + 1
    mean_S1 = values_SK.sum(1, keepdims=True)
    with np.errstate(all="ignore"):
        if residuals_SK is None:
            residuals_SK = (values_SK - weights_SK * mean_S1) / (1 - weights_SK)
        size_S1 = (weights_SK**2).sum(1, keepdims=True)
        losses_SK = np.minimum(values_SK, 0)
        lost_S1 = losses_SK.sum(1, keepdims=True)
        typical_S1 = np.where(lost_S1 < 0, (losses_SK**2).sum(1, keepdims=True) / lost_S1, -size_S1)
        centre_S1 = (mean_S1 + typical_S1) / (1 + size_S1)
        shifted_SK = residuals_SK + weights_SK * (mean_S1 - centre_S1) / (1 - weights_SK)
        extra_S1 = (typical_S1 - size_S1 * centre_S1) / (1 - size_S1 / (1 + size_S1))
        e_SK = np.concatenate([shifted_SK, extra_S1], 1) / (1 + size_S1)
        share_SK = np.concatenate([weights_SK, size_S1], 1) / (1 + size_S1)
        square_S = (e_SK**2).sum(1)
        error_S = np.sqrt((k - 1) / k * square_S)
        effective_S = 1 / (share_SK**2).sum(1)
        kurtosis_S = k * (e_SK**4).sum(1) / square_S**2
        variance_S = 2 * k / np.maximum(kurtosis_S - 1, 0.1)
        degrees_S = np.minimum(effective_S - 1, variance_S)
        skew_S = math.sqrt(k) * (e_SK**3).sum(1) / square_S**1.5
        skew_S = np.minimum(skew_S, 0) * math.sqrt(k * (k - 1)) / (k - 2)
        critical_S = stats.t.ppf(1 - alpha, np.maximum(degrees_S, 1))
        bound_S = centre_S1[:, 0] - error_S * _untransformed(critical_S, skew_S, k)
    applies_S = (effective_S >= MIN_EFFECTIVE) & (variance_S >= MIN_DEGREES) & np.isfinite(bound_S)
    return np.where(applies_S, np.minimum(bound_S, mean_S1[:, 0]), -math.inf), degrees_S


def _untransformed(critical_S: Floats, skew_S: Floats, k: int) -> Floats:
    """The t at which Hall's transformation x + a x^2 + a^2 x^3 / 3 + skew / 6k, a = skew / 3, is critical."""
    a_S = np.where(np.abs(skew_S) < 1e-8, -1e-8, skew_S) / 3
    target_S = critical_S / math.sqrt(k) - skew_S / (6 * k)
    return math.sqrt(k) * (np.cbrt(1 + 3 * a_S * target_S) - 1) / a_S


def least_clusters(margin: float, alpha: float = 0.05) -> int:
    """Clusters below which a sample without any difference cannot show non-inferiority by the bootstrap.

    Raises `EvalError` unless 0 < margin < 1.
    """
    if not 0 < margin < 1:
        raise EvalError(f"margin is {margin:g}; expected more than 0 and less than 1")
    return max(MIN_CLUSTERS, binary.least_items(margin, alpha))
