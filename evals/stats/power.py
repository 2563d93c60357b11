"""Planning: what a test will be able to see before it is run, and what it could see after.

Non-inferiority of an equal or slightly different model, one-sided (Chow, Shao, Wang 2008, Sample Size
Calculations in Clinical Research, section 3.1; the design effect is Kish's, Survey Sampling 1965, section
5.4):

    n = (z_alpha + z_power)^2 sd^2 / (margin + gap)^2

where sd^2 of a paired 0/1 difference is discordance - gap^2. Several tests that must all pass keep their own
level (Berger 1982, Technometrics 24:295-300), but their powers multiply down: `conjunction_bounds` are
Frechet's, `conjunction_power` integrates the joint normal distribution.

These formulas are normal ones. With few clusters use `clustered_power`, which has Student's t and the
imaginary cluster of `noninferiority`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from evals.errors import EvalError
from evals.stats.inputs import between, finite, normal_quantile, normal_tail, share


def discordant_sd(discordance: float, gap: float = 0.0) -> float:
    """Standard deviation of the paired difference of 0/1 items; `discordance`: share that differ.

    Raises `EvalError` unless |gap| <= discordance <= 1.
    """
    if not abs(gap) <= discordance <= 1:
        raise EvalError(
            f"discordance is {discordance:g}; expected at least |gap| = {abs(gap):g} and at most 1"
        )
    return math.sqrt(discordance - gap**2)


def required_items(
    margin: float,
    sd: float,
    alpha: float = 0.05,
    power: float = 0.8,
    gap: float = 0.0,
    design_effect: float = 1.0,
) -> int:
    """Items with which a model that is truly better by `gap` passes with `power`; `sd` is of one difference.

    Rounded to the nearest whole item, as published tables do. Raises `EvalError` where no number would do:
    the true gap is at or beyond the margin.
    """
    distance = _distance(margin, gap)
    if sd <= 0 or design_effect <= 0 or not math.isfinite(sd * design_effect):
        raise EvalError(f"sd {sd:g} and design effect {design_effect:g} must be above zero")
    z = normal_quantile(1 - share("alpha", alpha, 0, 0.5)) + normal_quantile(share("power", power, 0.5))
    return max(1, round(z * z * sd**2 * design_effect / distance**2))


def achieved_power(
    items: int, margin: float, sd: float, alpha: float = 0.05, gap: float = 0.0, design_effect: float = 1.0
) -> float:
    """Probability that a model better by `gap` passes with `items` items.

    Raises `EvalError` for no items, a negative `sd`, or a design effect that is not above zero.
    """
    if items < 1 or sd < 0 or design_effect <= 0:
        raise EvalError("power needs at least one item, a standard deviation and a design effect")
    error = sd * math.sqrt(design_effect / items)
    distance = margin + gap
    if error == 0:
        return float(distance > 0)
    return normal_tail(normal_quantile(1 - share("alpha", alpha, 0, 0.5)) - distance / error)


def visible_margin(
    items: int, sd: float, alpha: float = 0.05, power: float = 0.8, design_effect: float = 1.0
) -> float:
    """The least margin that an equal model passes with `power`: what the test can see.

    Raises `EvalError` for no items, a negative `sd`, or a design effect that is not above zero.
    """
    if items < 1 or sd < 0 or design_effect <= 0:
        raise EvalError("a margin needs at least one item, a standard deviation and a design effect")
    z = normal_quantile(1 - share("alpha", alpha, 0, 0.5)) + normal_quantile(share("power", power, 0.5))
    return z * sd * math.sqrt(design_effect / items)


def design_effect(sizes: ArrayLike, correlation: float) -> float:
    """By how much clusters of `sizes` (K,) with intra-cluster `correlation` inflate the variance of a mean.

    1 + (sum m^2 / sum m - 1) rho: Kish's 1 + (m - 1) rho with the size of the cluster of a random item.
    Raises `EvalError` for sizes that are not above zero, or a correlation outside 0..1.
    """
    sizes_K = finite("cluster sizes", sizes)
    between("correlation", [correlation], 0, 1)
    if (sizes_K <= 0).any():
        raise EvalError("cluster sizes: expected numbers above zero")
    return float(1 + ((sizes_K**2).sum() / sizes_K.sum() - 1) * correlation)


def clustered_power(
    clusters: int,
    size: float,
    margin: float,
    sd: float,
    correlation: float,
    alpha: float = 0.05,
    gap: float = 0.0,
) -> float:
    """Power with `clusters` of `size` items each, by the noncentral t with clusters - 1 degrees.

    The imaginary cluster of `noninferiority` loses sum y^2 / sum |y| of the clusters that lose, sqrt(pi / 2)
    standard deviations of a normal cluster: the plan pays for it. Raises `EvalError` for fewer than two
    clusters, and for a `size` or `sd` that is not above zero.
    """
    from scipy.stats import nct, t

    if clusters < 2 or size <= 0 or sd <= 0:
        raise EvalError("power over clusters needs at least two of them, with items and a standard deviation")
    spread = sd * math.sqrt(design_effect([size], correlation) / size)
    price = math.sqrt(math.pi / 2) * spread / (clusters + 1)
    critical = t.ppf(1 - share("alpha", alpha, 0, 0.5), clusters - 1)
    return float(nct.sf(critical, clusters - 1, (margin + gap - price) * math.sqrt(clusters) / spread))


def ratio_power(
    clusters: int, margin: float, sd: float, unseen: float, alpha: float = 0.05, gap: float = 0.0
) -> float:
    """Power of `noninferiority.compare_ratios` with `clusters` documents.

    Both of its tests must hold: the t test over clusters, and the bootstrap, whose draws are about those of
    a normal mean of standard deviation `sd` / sqrt(clusters) less an exponential one of mean `unseen` /
    clusters (the imaginary document). That both hold is about as likely as the rarer of the two.
    """
    from scipy.stats import exponnorm

    by_t = clustered_power(clusters, 1, margin, sd, 0.0, alpha, gap)
    error = sd / math.sqrt(clusters)
    price = float(exponnorm.ppf(1 - alpha, unseen / clusters / error, scale=error))
    return min(by_t, normal_tail((price - margin - gap) / error))


def required_clusters(
    size: float,
    margin: float,
    sd: float,
    correlation: float,
    alpha: float = 0.05,
    power: float = 0.8,
    gap: float = 0.0,
) -> int:
    """The least number of clusters whose `clustered_power` reaches `power`.

    Raises `EvalError` as that does, where the true gap is at or beyond the margin, and above ten million.
    """
    _distance(margin, gap)
    return least_count(lambda count: clustered_power(count, size, margin, sd, correlation, alpha, gap), power)


def least_count(reached: Callable[[int], float], power: float = 0.8) -> int:
    """The least number, two or more, at which the increasing function `reached` is at least `power`.

    Raises `EvalError` when ten million do not suffice.
    """
    low, high = 1, 2
    while reached(high) < power:
        low, high = high, 2 * high
        if high > 10_000_000:
            raise EvalError("more than ten million clusters would be needed; choose a wider margin")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) >= power else (middle, high)
    return high


def conjunction_bounds(powers: ArrayLike) -> tuple[float, float]:
    """Least and greatest probability that all of several tests pass, whatever their dependence.

    Raises `EvalError` for no powers, or powers outside 0..1.
    """
    power_T = between("powers", powers, 0, 1)
    return max(0.0, 1 - float((1 - power_T).sum())), float(power_T.min())


def conjunction_power(
    powers: ArrayLike,
    correlations: Sequence[Sequence[float]] | None = None,
    rounds: int = 200_000,
    seed: int = 0,
) -> tuple[float, float]:
    """Probability that all tests pass, and its Monte Carlo standard error.

    `correlations` (T, T) are those of the test statistics; independent tests (the product, error 0) without.
    Raises `EvalError` when it is no correlation matrix, and for powers outside 0..1.
    """
    power_T = between("powers", powers, 0, 1)
    if correlations is None:
        return float(power_T.prod()), 0.0
    matrix = np.asarray(correlations, dtype=np.float64)
    if matrix.shape != (len(power_T),) * 2 or not np.allclose(matrix, matrix.T):
        raise EvalError(f"correlations: expected a symmetric matrix of {len(power_T)} rows and columns")
    values, vectors = np.linalg.eigh(matrix)
    if not np.allclose(np.diag(matrix), 1) or values.min() < -1e-8:
        raise EvalError("correlations: expected ones on the diagonal and no negative eigenvalue")
    root = vectors * np.sqrt(np.maximum(values, 0))
    thresholds_T = np.array([normal_quantile(min(max(p, 1e-12), 1 - 1e-12)) for p in power_T])
    generator, passed, done = np.random.default_rng(seed), 0, 0
    while done < rounds:
        block = min(rounds - done, 100_000)
        draws_BT = generator.standard_normal((block, len(power_T))) @ root.T
        passed += int((draws_BT <= thresholds_T).all(1).sum())
        done += block
    found = passed / rounds
    return found, math.sqrt(found * (1 - found) / rounds)


def _distance(margin: float, gap: float) -> float:
    distance = margin + gap
    if not (math.isfinite(distance) and distance > 0):
        raise EvalError(
            f"a model worse by {-gap:g} cannot be shown to be within a margin of {margin:g},"
            " with any number of items"
        )
    return distance
