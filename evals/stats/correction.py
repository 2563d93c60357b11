"""Rates behind a judge that errs: corrected by its known errors, or combined with human labels.

`corrected_rate` (2511.21140; Rogan and Gladen 1978, American Journal of Epidemiology 107:71-76) for a pass
rate p of n judged items, with sensitivity q1 and specificity q0 from m1 and m0 items that humans labelled:

    theta = (p + q0 - 1) / (q0 + q1 - 1)
    Var = [p (1 - p) / n + (1 - theta)^2 q0 (1 - q0) / m0 + theta^2 q1 (1 - q1) / m1] / (q0 + q1 - 1)^2

The same holds for graded verdicts in [0, 1] (a preference, ties as a half), whose means stand for p, q1 and
1 - q0 and whose variances for those of the shares.

`prediction_powered_mean` (2301.09633, section 2; power tuning 2311.01453, section 6) for n items with human
label Y and verdict f, and N items with a verdict alone:

    mean = lambda mean_N(f) + mean_n(Y - lambda f),   lambda = Cov(Y, f) / ((1 + n / N) Var(f))
    Var = lambda^2 Var_N(f) / N + Var_n(Y - lambda f) / n

Both suppose that the labelled items are drawn like the others: errors of the judge that differ between them
are not seen.
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
from evals.stats.inputs import Floats, normal_quantile

MIN_INFORMATION = 0.1


@dataclass(frozen=True)
class Estimate:
    """A rate or mean with standard error and two-sided interval; `weight` is lambda where there is one."""

    mean: float
    se: float
    lo: float
    hi: float
    weight: float | None = None


def corrected_rate(
    verdicts: ArrayLike,
    judged_positive: ArrayLike,
    judged_negative: ArrayLike,
    level: float = 0.95,
    least_information: float = MIN_INFORMATION,
    clusters: Sequence[Any] | None = None,
) -> Estimate:
    """The rate behind `verdicts` (N,) in [0, 1], corrected and clipped to [0, 1].

    `judged_positive` (m1,) are verdicts on items that humans called positive, `judged_negative` (m0,) on
    those they called negative. All three enter the variance with one verdict of 1 and one of 0 added, so that
    a judge without an error on ten items is not taken for perfect. `clusters` (N,): verdicts of one cluster
    are counted as dependent. Raises `EvalError` when q0 + q1 - 1 is below `least_information`: such a judge
    says nothing.
    """
    verdict_N = inputs.between("verdicts", verdicts, 0, 1)
    positive_N, negative_N = (
        inputs.between("verdicts on positives", judged_positive, 0, 1),
        inputs.between("verdicts on negatives", judged_negative, 0, 1),
    )
    p, q1, q0 = float(verdict_N.mean()), float(positive_N.mean()), 1 - float(negative_N.mean())
    information = q0 + q1 - 1
    if information < least_information:
        raise EvalError(
            f"sensitivity {q1:.2f} and specificity {q0:.2f} sum to {q0 + q1:.2f}, less than"
            f" {1 + least_information:g}; a judge this close to a coin cannot be corrected: use another one,"
            " or human labels"
        )
    theta = min(1.0, max(0.0, (p + q0 - 1) / information))
    spread_p = _spread(verdict_N, clusters)
    spread_1, spread_0 = _spread(positive_N), _spread(negative_N)
    se = math.sqrt(spread_p + (1 - theta) ** 2 * spread_0 + theta**2 * spread_1) / information
    z = normal_quantile((1 + inputs.share("level", level)) / 2)
    return Estimate(theta, se, max(0.0, theta - z * se), min(1.0, theta + z * se))


def _spread(values_N: Floats, clusters: Sequence[Any] | None = None) -> float:
    """Variance of a mean, with one 1 and one 0 added (Agresti and Coull's adjustment), by clusters."""
    _, row_N = inputs.grouped(range(len(values_N)) if clusters is None else clusters)
    inputs.aligned(verdicts=values_N, clusters=row_N)
    count = int(row_N.max()) + 1
    added, row = np.r_[values_N, 1.0, 0.0], np.r_[row_N, count, count + 1]
    sums = np.bincount(row, added - added.mean())
    return float((sums**2).sum()) / len(added) ** 2


def prediction_powered_mean(
    labels: ArrayLike,
    verdicts: ArrayLike,
    unlabelled: ArrayLike,
    level: float = 0.95,
    weight: float | None = None,
) -> Estimate:
    """Mean of human `labels` (n,) sharpened by `verdicts` (n,) on the same items and (N,) on `unlabelled`
    ones.

    `weight` fixes lambda (1: plain prediction-powered inference, 0: human labels alone); tuned without, and
    then within [0, 1]. Student's t with n - 1 degrees serves as quantile. Raises `EvalError` for fewer than
    two labels, values that are not finite, or unequal lengths.
    """
    from scipy.stats import t

    label_n, verdict_n = inputs.finite("labels", labels), inputs.finite("verdicts", verdicts)
    unlabelled_N = inputs.finite("unlabelled verdicts", unlabelled)
    inputs.aligned(labels=label_n, verdicts=verdict_n)
    n, big = len(label_n), len(unlabelled_N)
    if n < 2:
        raise EvalError("prediction-powered inference needs at least two human labels")
    if weight is None:
        spread = float(np.r_[verdict_n, unlabelled_N].var(ddof=1))
        shared = float(np.cov(label_n, verdict_n)[0, 1])
        weight = min(1.0, max(0.0, shared / ((1 + n / big) * spread))) if spread > 0 else 0.0
    rest_n = label_n - weight * verdict_n
    mean = weight * float(unlabelled_N.mean()) + float(rest_n.mean())
    seen = weight**2 * float(unlabelled_N.var(ddof=1)) / big if big > 1 else 0.0
    if big == 1 and weight > 0:
        raise EvalError("one unlabelled verdict has no variance; give more, or a weight of 0")
    se = math.sqrt(seen + float(rest_n.var(ddof=1)) / n)
    half = float(t.ppf((1 + inputs.share("level", level)) / 2, n - 1)) * se
    return Estimate(mean, se, mean - half, mean + half, weight)
