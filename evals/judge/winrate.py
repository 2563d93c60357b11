"""The rate at which ours is better, behind what an erring judge prefers, with one-sided bounds.

Three ways, the first that the evidence allows:

- `anytime`: judging was sequential. The mean preference f has the bounds of a confidence sequence over
  clusters, valid whenever judging stopped (`evals.stats.sequential`), at half of alpha; f1 and f0, the mean
  preferences on labelled pairs whose `ours` is better and worse, have bounded bootstrap bounds at a quarter
  each. The rate (f - f0) / (f1 - f0) is monotone in each of the three: its bounds lie at corners of the box.
- `prediction-powered`: enough of the very pairs that were judged have labels of people.
- `corrected`: by the judge's preferences on labelled pairs (`evals.stats.correction.corrected_rate`).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from evals.errors import EvalError
from evals.stats import correction, intervals, sequential
from evals.stats.inputs import Floats, grouped

Method = Literal["anytime", "prediction-powered", "corrected"]
LEAST_LABELS = 20  # labelled clusters; with fewer, Student's t has little to stand on


@dataclass(frozen=True)
class Evidence:
    """What a judge said: a preference and a cluster for each judged pair, in the order of judging.

    `labels`: what people say of the same pairs (1, .5, 0), None where nothing. `on_better` and `on_worse`:
    the judge's preferences on pairs whose `ours` is known to be the better and the worse answer.
    `sequential`: it was asked no further once the decision was certain.
    """

    preferences: Sequence[float]
    clusters: Sequence[str]
    labels: Sequence[float | None] = ()
    on_better: Sequence[float] = ()
    on_worse: Sequence[float] = ()
    sequential: bool = False


@dataclass(frozen=True)
class Rate:
    """The rate at which ours is better, a tie as a half; `lower` and `upper` are one-sided at 1 - alpha.

    `method` says how the judge's errors were taken into account, `n` and `clusters` what was judged.
    """

    mean: float
    lower: float
    upper: float
    n: int
    clusters: int
    method: Method


def rate(evidence: Evidence, alpha: float) -> Rate:
    """The rate behind `evidence`. Raises `EvalError` without verdicts or labelled pairs, or for a coin."""
    if not evidence.preferences:
        raise EvalError("the judge gave no verdict; there is no rate")
    if evidence.sequential:
        return _anytime(evidence, alpha)
    names, row_N = grouped(evidence.clusters)
    sizes = (len(evidence.preferences), len(names))
    method: Method = "corrected"
    told = {c for c, label in zip(evidence.clusters, _labels(evidence), strict=True) if label is not None}
    if len(told) >= LEAST_LABELS:
        found, method = _powered(evidence, row_N, alpha), "prediction-powered"
    else:
        found = correction.corrected_rate(
            evidence.preferences,
            _known(evidence.on_better, "better"),
            _known(evidence.on_worse, "worse"),
            1 - 2 * alpha,
            clusters=evidence.clusters,
        )
    low, high = max(0.0, found.lo), min(1.0, found.hi)
    return Rate(min(1.0, max(0.0, found.mean)), low, high, *sizes, method)


def _labels(evidence: Evidence) -> Sequence[float | None]:
    return evidence.labels or [None] * len(evidence.preferences)


def _known(values: Sequence[float], which: str) -> Sequence[float]:
    if not values:
        raise EvalError(
            f"no labelled pair has a first answer that is {which}; the judge's errors are not known"
        )
    return values


def _powered(evidence: Evidence, row_N: np.ndarray, alpha: float) -> correction.Estimate:
    """Prediction-powered inference on the means of clusters.

    Of a cluster with labels only the labelled pairs count, so that no cluster stands on both sides.
    """
    preference_N = np.asarray(evidence.preferences, dtype=np.float64)
    label_N = np.array([np.nan if label is None else label for label in _labels(evidence)], dtype=np.float64)
    labels, verdicts, alone = [], [], []
    for cluster in range(int(row_N.max()) + 1):
        inside_N = row_N == cluster
        if (known_N := inside_N & np.isfinite(label_N)).any():
            labels.append(float(label_N[known_N].mean()))
            verdicts.append(float(preference_N[known_N].mean()))
        else:
            alone.append(float(preference_N[inside_N].mean()))
    if len(alone) < 2:  # (nearly) everything is labelled: the people's word needs no help
        return correction.prediction_powered_mean(labels, verdicts, [0.5, 0.5], 1 - 2 * alpha, weight=0)
    return correction.prediction_powered_mean(labels, verdicts, alone, 1 - 2 * alpha)


def cluster_means(preferences: Sequence[float], clusters: Sequence[str]) -> Floats:
    """The mean preference of each cluster, in the order in which clusters first appear."""
    rows: dict[str, list[float]] = {}
    for preference, cluster in zip(preferences, clusters, strict=True):
        rows.setdefault(cluster, []).append(preference)
    return np.array([sum(row) / len(row) for row in rows.values()])


def _anytime(evidence: Evidence, alpha: float) -> Rate:
    better = _errors(_known(evidence.on_better, "better"), alpha)
    worse = _errors(_known(evidence.on_worse, "worse"), alpha)
    if better.mean - worse.mean < correction.MIN_INFORMATION:
        raise EvalError(
            f"its mean preference is {better.mean:.2f} for better and {worse.mean:.2f} for worse answers;"
            " a judge this close to a coin cannot be corrected"
        )
    lead_T = cluster_means(evidence.preferences, evidence.clusters) - 0.5
    low = 0.5 + float(sequential.lower_sequence(lead_T, alpha / 2).max())
    high = 0.5 - float(sequential.lower_sequence(-lead_T, alpha / 2).max())
    mean = (0.5 + float(lead_T.mean()) - worse.mean) / (better.mean - worse.mean)
    lower, upper = (
        [_behind(seen, f1, f0) for f1, f0 in itertools.product((better.lo, better.hi), (worse.lo, worse.hi))]
        for seen in (low, high)
    )
    apart = better.lo > worse.hi
    sizes = (len(evidence.preferences), len(lead_T))
    mean = min(1.0, max(0.0, mean))
    bounds = (min(mean, *lower), max(mean, *upper)) if apart else (0.0, 1.0)
    return Rate(mean, *bounds, *sizes, "anytime")


def _behind(seen: float, better: float, worse: float) -> float:
    return min(1.0, max(0.0, (seen - worse) / (better - worse))) if better > worse else 0.5


def _errors(values: Sequence[float], alpha: float) -> intervals.Interval:
    """A mean preference on labelled pairs, each bound at a quarter of alpha."""
    return intervals.cluster_interval(values, list(range(len(values))), 1 - alpha / 2, bounds=intervals.UNIT)


def decided(evidence: Evidence, alpha: float, margin: float) -> bool:
    """Whether the decision at `margin` is certain: not worse by it, or worse by it, each at level alpha.

    `evidence.sequential` must be true: other bounds do not hold when one looks at them again and again.
    """
    found = rate(evidence, alpha)
    return found.lower > 0.5 - margin or found.upper < 0.5 - margin
