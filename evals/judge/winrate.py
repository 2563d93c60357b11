"""The rate at which ours is better, behind what an erring judge prefers, with one-sided bounds.

Three ways, the first that the evidence allows:

- `anytime`: judging was sequential. Over clusters, the mean lead m of the preference over one half, equal
  answers counting as 0, and the share s that was asked have the bounds of confidence sequences, valid
  whenever judging stopped (`evals.stats.sequential`), at half of alpha together. The judge's means on
  labelled pairs whose `ours` is better (f1), worse (f0) and, where there are such, as good (ft), and their
  share t, have bounded bootstrap bounds that share the other half. The rate

      1/2 + (m + s (1/2 - (1 - t) f0 - t ft - (1 - t) (f1 - f0) / 2)) / (f1 - f0)

  (`evals.stats.correction`) is monotone in each of them: its bounds lie at corners of the box.
- `prediction-powered`: enough of the very pairs that were judged have labels of people.
- `corrected`: by the judge's preferences on labelled pairs (`evals.stats.correction.corrected_rate`).

Equal answers are a draw that nobody has to judge: they enter the rate and need no correction.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from evals.errors import EvalError
from evals.stats import correction, intervals, sequential
from evals.stats.correction import Known
from evals.stats.inputs import Floats

Method = Literal["anytime", "prediction-powered", "corrected"]
LEAST_LABELS = 20  # labelled clusters; with fewer, Student's t has little to stand on


@dataclass(frozen=True)
class Evidence:
    """What a judge said: a preference and a cluster for each judged pair, in the order of judging.

    `asked`: false where both answers are equal; empty when all were asked. `labels`: what people say of the
    same pairs (1, .5, 0), None where nothing. `known`: the judge's preferences on labelled pairs.
    `sequential`: it was asked no further once the decision was certain.
    """

    preferences: Sequence[float]
    clusters: Sequence[str]
    asked: Sequence[bool] = ()
    labels: Sequence[float | None] = ()
    known: Sequence[Known] = ()
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
    asked = _asked(evidence)
    labels = evidence.labels or [None] * len(asked)
    sizes = (len(evidence.preferences), len(set(evidence.clusters)))
    told = {
        cluster
        for cluster, label, known in zip(evidence.clusters, labels, asked, strict=True)
        if known and label is not None
    }
    sample = (evidence.clusters, asked)
    method: Method = "prediction-powered" if len(told) >= LEAST_LABELS else "corrected"
    if method == "corrected":
        found = correction.corrected_rate(evidence.preferences, evidence.known, 1 - 2 * alpha, *sample)
    else:
        found = correction.prediction_powered_rate(evidence.preferences, labels, 1 - 2 * alpha, *sample)
    low, high = max(0.0, found.lo), min(1.0, found.hi)
    return Rate(min(1.0, max(0.0, found.mean)), low, high, *sizes, method)


def _asked(evidence: Evidence) -> Sequence[bool]:
    return evidence.asked or [True] * len(evidence.preferences)


def cluster_means(preferences: Sequence[float], clusters: Sequence[str]) -> Floats:
    """The mean preference of each cluster, in the order in which clusters first appear."""
    rows: dict[str, list[float]] = {}
    for preference, cluster in zip(preferences, clusters, strict=True):
        rows.setdefault(cluster, []).append(preference)
    return np.array([sum(row) / len(row) for row in rows.values()])


def _anytime(evidence: Evidence, alpha: float) -> Rate:
    better, worse, ties = (
        [item for item in evidence.known if item.truth == side] for side in (1.0, 0.0, 0.5)
    )
    point = correction.corrected_rate(
        evidence.preferences, evidence.known, clusters=evidence.clusters, asked=_asked(evidence)
    )
    lead_T = cluster_means(evidence.preferences, evidence.clusters) - 0.5
    box = [_sequence(lead_T, alpha / 2), [1.0]]
    if not all(_asked(evidence)):
        share_T = cluster_means([float(asked) for asked in _asked(evidence)], evidence.clusters) - 0.5
        box = [_sequence(lead_T, alpha / 4), [0.5 + end for end in _sequence(share_T, alpha / 4)]]
    parts = alpha / (8 if ties else 4)
    box += [_errors(side, parts) for side in (better, worse)]
    if ties:
        tied = [replace(item, verdict=float(item.truth == 0.5)) for item in evidence.known]
        box += [_errors(ties, parts), _errors(tied, parts)]
    most, least, worst = box[1][-1], box[2][0], box[3][1]
    bounds = (0.0, 1.0)
    if least > worst:
        corners = [_behind(*corner) for corner in itertools.product(*box)]
        bounds = (max(0.0, min(corners)), min(1.0, max(corners)))
    mean = min(1.0, max(0.0, point.mean))
    low, high = max(bounds[0], (1 - most) / 2), min(bounds[1], (1 + most) / 2)
    return Rate(mean, min(mean, low), max(mean, high), len(evidence.preferences), len(lead_T), "anytime")


def _sequence(lead_T: Floats, alpha: float) -> list[float]:
    """Both bounds of a mean in [-.5, .5], each at level alpha, whenever one looks."""
    low = float(sequential.lower_sequence(lead_T, alpha).max())
    high = -float(sequential.lower_sequence(-lead_T, alpha).max())
    return [max(-0.5, low), min(0.5, high)]


def _behind(
    lead: float, share: float, better: float, worse: float, tied: float | None = None, ties: float = 0.0
) -> float:
    apart = better - worse
    chance = worse if tied is None else (1 - ties) * worse + ties * tied
    return 0.5 + (lead + share * (0.5 - chance - (1 - ties) * apart / 2)) / apart


def _errors(known: Sequence[Known], alpha: float) -> list[float]:
    """Both bounds of the mean verdict on labelled pairs, each at level alpha."""
    verdicts, clusters = [item.verdict for item in known], [item.cluster for item in known]
    found = intervals.cluster_interval(verdicts, clusters, 1 - 2 * alpha, bounds=intervals.UNIT)
    low, high = found.pair()
    return [0.0 if low is None else low, 1.0 if high is None else high]


def decided(evidence: Evidence, alpha: float, margin: float) -> bool:
    """Whether the decision at `margin` is certain: not worse by it, or worse by it, each at level alpha.

    `evidence.sequential` must be true: other bounds do not hold when one looks at them again and again.
    """
    found = rate(evidence, alpha)
    return found.lower > 0.5 - margin or found.upper < 0.5 - margin
