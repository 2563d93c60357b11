"""Rates behind a judge that errs: corrected by its known errors, or combined with human labels.

A rate is the mean over N pairs of y: 1 where ours is better, 0 where theirs is, .5 for a tie. A share s of
the pairs is asked about; in the others both answers are equal, which is a tie without asking. So the rate is
1/2 + s (theta - 1/2), theta being the mean of y where asked.

`corrected_rate`: the judge's mean verdict where asked is p; on labelled pairs it is q1 where ours is better,
1 - q0 where theirs is, f on ties, which are a share t of them. The equation p = (theta - t/2) q1 + (1 - theta
- t/2) (1 - q0) + t f gives

    theta = (p - (1 - t)(1 - q0) - t f) / (q0 + q1 - 1) + t / 2,

for t = 0 the estimator of Rogan and Gladen (1978, American Journal of Epidemiology 107:71-76), for judges in
2511.21140. Verdicts may be graded in [0, 1]. Where no labelled pair is a tie, f is taken to lie midway
between q1 and 1 - q0; then ties change nothing.

`prediction_powered_rate` (2301.09633, section 2; power tuning 2311.01453, section 6), with n labels Y of
asked pairs, verdicts f on them, and N asked pairs with a verdict alone:

    theta = lambda mean_N(f) + mean_n(Y - lambda f),   lambda = Cov(Y, f) / ((1 + n / N) Var(f))

Both suppose that the labelled pairs are drawn like the asked ones: errors of the judge that differ between
them are not seen. Standard errors are those of sums over clusters of each estimate's influence, judged and
labelled pairs of one cluster together; quantiles are Student's with the fewest clusters of any sample less
one. The corrected rate is a ratio, and its bounds are Fieller's.
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
from evals.stats.inputs import Bools, Floats

MIN_INFORMATION = 0.1


@dataclass(frozen=True)
class Estimate:
    """A rate with standard error and two-sided interval; `weight` is lambda where there is one."""

    mean: float
    se: float
    lo: float
    hi: float
    weight: float | None = None


@dataclass(frozen=True)
class Known:
    """The judge's verdict in [0, 1] on one labelled pair, the pair's truth (1, .5 or 0) and its cluster."""

    verdict: float
    truth: float
    cluster: str


def corrected_rate(
    verdicts: ArrayLike,
    known: Sequence[Known],
    level: float = 0.95,
    clusters: Sequence[Any] | None = None,
    asked: Sequence[bool] | None = None,
    least_information: float = MIN_INFORMATION,
) -> Estimate:
    """The rate behind `verdicts` (N,) in [0, 1], corrected and clipped to what it can be.

    `clusters` (N,): verdicts of one cluster are counted as dependent; without, all are independent. `asked`
    (N,): false where both answers are equal; without, all are asked. Every sample enters the variance with a
    cluster of ones and one of zeros added (after Agresti and Coull), so that a judge without an error on
    ten pairs is not taken for perfect. Raises `EvalError` where no labelled pair has a better, or none a
    worse first answer, and when q0 + q1 - 1 is below `least_information`: such a judge says nothing.
    """
    verdict_N, asked_N, names = _sample(inputs.between("verdicts", verdicts, 0, 1), clusters, asked)
    better, worse, ties = ([item for item in known if item.truth == truth] for truth in (1.0, 0.0, 0.5))
    for side, which in ((better, "better"), (worse, "worse")):
        if not side:
            raise EvalError(
                f"no labelled pair has a first answer that is {which}; the judge's errors are not known"
            )
    q1, f0, tied = (
        float(np.mean([item.verdict for item in side] or [0.5])) for side in (better, worse, ties)
    )
    information = q1 - f0
    if information < least_information:
        raise EvalError(
            f"its mean verdict is {q1:.2f} for better and {f0:.2f} for worse answers, less than "
            f"{least_information:g} apart; a judge this close to a coin cannot be corrected: use another "
            "one, or human labels"
        )
    tie_share, share = len(ties) / len(known), float(asked_N.mean())
    chance = (1 - tie_share) * f0 + tie_share * tied
    shift = (tie_share - 1) / 2  # of theta against wins alone, less the half of a draw
    # gap(rho) = mean(asked (v - chance + information shift)) - rho information is 0 at rho = rate - 1/2.
    gap = _Influence()
    lead = information * shift - chance
    lead_N = np.where(asked_N, verdict_N + lead, 0.0)
    gap.add(lead_N, names, (1.0, 0.0), (1.0 + lead, lead))
    for side, slope in ((better, -1.0), (worse, 1.0)):
        gap.add(*_columns(side), (share * shift, slope), (1.0, 0.0))
    if ties:
        gap.add(*_columns(ties), (-share * tie_share, 0.0), (1.0, 0.0))
        is_tie = [float(item.truth == 0.5) for item in known]
        gap.add(is_tie, _columns(known)[1], (share * (f0 - tied + information / 2), 0.0))
    fewest = min(len(set(column)) for column in (names, _columns(better)[1], _columns(worse)[1]))
    quantile = _quantile(level, fewest)
    most = share / 2
    rho = min(most, max(-most, float(lead_N.mean()) / information))
    low, high = gap.bounds(float(lead_N.mean()), information, quantile)
    bounds = (max(-most, min(low, rho)), min(most, max(high, rho)))
    return Estimate(0.5 + rho, gap.se(rho) / information, 0.5 + bounds[0], 0.5 + bounds[1])


def _columns(known: Sequence[Known]) -> tuple[list[float], list[str]]:
    return [item.verdict for item in known], [item.cluster for item in known]


def prediction_powered_rate(
    verdicts: ArrayLike,
    labels: Sequence[float | None],
    level: float = 0.95,
    clusters: Sequence[Any] | None = None,
    asked: Sequence[bool] | None = None,
    weight: float | None = None,
) -> Estimate:
    """The rate by human `labels` (N,), None where there is none, sharpened by `verdicts` (N,).

    `clusters` and `asked` as above. Of a cluster with labels only the labelled pairs count, so that no
    cluster stands on both sides. `weight` fixes lambda (1: plain prediction-powered inference, 0: human
    labels alone); tuned without, and then within [0, 1]. Raises `EvalError` for fewer than two labelled
    clusters, values that are not finite, or unequal lengths.
    """
    verdict_N, asked_N, names = _sample(verdicts, clusters, asked)
    label_N = np.array([np.nan if label is None else label for label in labels], dtype=np.float64)
    inputs.aligned(verdicts=verdict_N, labels=label_N)
    told_N = asked_N & np.isfinite(label_N)
    names_N = np.asarray(names)
    told_names, share = list(names_N[told_N]), float(asked_N.mean())
    if len(set(told_names)) < 2:
        raise EvalError("prediction-powered inference needs human labels in two clusters or more")
    alone_N = asked_N & ~np.isin(names_N, told_names)
    if len(set(names_N[alone_N])) < 2:  # (nearly) everything is labelled: the people's word needs no help
        weight = 0.0
    if weight is None:
        weight = _tuned(label_N[told_N], verdict_N[told_N], verdict_N[alone_N])
    rest_n = label_N[told_N] - weight * verdict_N[told_N]
    theta = float(rest_n.mean()) + (weight * float(verdict_N[alone_N].mean()) if weight else 0.0)
    moved = _Influence()
    moved.add(rest_n, told_names, (share * _unbiased(told_names), 0.0))
    if weight:
        alone = list(names_N[alone_N])
        moved.add(verdict_N[alone_N], alone, (share * weight * _unbiased(alone), 0.0))
    if share < 1:
        moved.add(asked_N, names, ((theta - 0.5) * _unbiased(names), 0.0))
    mean, se = 0.5 + share * (theta - 0.5), moved.se(0.0)
    half = _quantile(level, len(set(told_names))) * se
    return Estimate(mean, se, mean - half, mean + half, weight)


def _unbiased(clusters: Sequence[str]) -> float:
    """The square root of K / (K - 1) for K clusters."""
    count = len(set(clusters))
    return math.sqrt(count / (count - 1))


def _tuned(label_n: Floats, verdict_n: Floats, alone_N: Floats) -> float:
    """lambda of the least variance, within [0, 1]."""
    spread = float(np.r_[verdict_n, alone_N].var(ddof=1))
    shared = float(np.cov(label_n, verdict_n)[0, 1])
    ratio = 1 + len(label_n) / len(alone_N)
    return min(1.0, max(0.0, shared / (ratio * spread))) if spread > 0 else 0.0


def _sample(
    verdicts: ArrayLike, clusters: Sequence[Any] | None, asked: Sequence[bool] | None
) -> tuple[Floats, Bools, list[str]]:
    verdict_N = inputs.finite("verdicts", verdicts)
    names = [str(name) for name in (range(len(verdict_N)) if clusters is None else clusters)]
    asked_N = np.ones(len(verdict_N), dtype=bool) if asked is None else np.asarray(asked, dtype=bool)
    inputs.aligned(verdicts=verdict_N, clusters=names, asked=asked_N)
    if not asked_N.any():
        raise EvalError("all answers are equal; there is nothing to judge")
    return verdict_N, asked_N, names


def _quantile(level: float, clusters: int) -> float:
    """Student's t with one degree of freedom less than there are clusters, and at least one."""
    from scipy.stats import t

    return float(t.ppf((1 + inputs.share("level", level)) / 2, max(1, clusters - 1)))


class _Influence:
    """By cluster, what its pairs move an estimate A + rho B by: the pair (A's, B's) of each cluster."""

    def __init__(self) -> None:
        self._sums: dict[str, list[float]] = {}

    def add(
        self,
        values: ArrayLike,
        clusters: Sequence[str],
        weights: tuple[float, float],
        ends: Sequence[float] = (),
    ) -> None:
        """`weights` times the mean of `values` and `ends`, each of which is a cluster of mean size."""
        value_N = np.asarray(values, dtype=np.float64)
        padded = np.r_[value_N, np.asarray(ends, dtype=np.float64)]
        heavy = np.r_[np.ones(len(value_N)), np.full(len(ends), len(value_N) / len(set(clusters)))]
        moved_N = heavy * (padded - np.average(padded, weights=heavy)) / heavy.sum()
        # Names of clusters are texts without a line end.
        added = [f"\n{len(self._sums)} {place}" for place in range(len(ends))]
        for name, moved in zip([*clusters, *added], moved_N.tolist(), strict=True):
            pair = self._sums.setdefault(name, [0.0, 0.0])
            pair[0] += weights[0] * moved
            pair[1] += weights[1] * moved

    def _squares(self) -> tuple[float, float, float]:
        pairs_K2 = np.array(list(self._sums.values()))
        (first, both), (_, second) = pairs_K2.T @ pairs_K2
        return float(first), float(both), float(second)

    def se(self, rho: float) -> float:
        """The standard error of A + rho B."""
        first, both, second = self._squares()
        return math.sqrt(max(0.0, first + 2 * rho * both + rho**2 * second))

    def bounds(self, at_zero: float, information: float, quantile: float) -> tuple[float, float]:
        """All rho for which at_zero - rho information is within `quantile` standard errors of 0, as Fieller
        (1954, Journal of the Royal Statistical Society B 16:175-185) bounds a ratio; everything, when the
        information itself may be 0.
        """
        first, both, second = self._squares()
        square = information**2 - quantile**2 * second
        if square <= 0:
            return -math.inf, math.inf
        half = at_zero * information + quantile**2 * both
        root = math.sqrt(max(0.0, half**2 - square * (at_zero**2 - quantile**2 * first)))
        return (half - root) / square, (half + root) / square
