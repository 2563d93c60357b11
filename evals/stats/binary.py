"""Two models on the same right/wrong items: McNemar's test, Tango's and Newcombe's intervals.

Only discordant pairs tell the models apart: `gained` (only the candidate is right) and `lost` (only the other
one is). With p_gained - p_lost = delta:

- McNemar, exact and mid-p, tests delta = 0 on the discordant pairs alone (Fagerland, Lydersen, Laake 2013,
  BMC Medical Research Methodology 13:91, equations 3 to 5).
- Tango's score test and interval (Tango 1998, Statistics in Medicine 17:891-908, equations 7 to 10) put the
  variance under the tested delta, so that few discordant pairs do not look like certainty.
- Newcombe's square-and-add interval (1998, Statistics in Medicine 17:2635-2650, method 10) joins Wilson's
  intervals of the two margins.

Where nothing was gained, the number lost is binomial at the margin, and the exact binomial takes the place of
Tango's normal approximation, whose size there reaches 5.8 %. Without any discordant pair the bounds are those
of Clopper and Pearson for 0 of n: weak evidence among 30 items, strong among 3,000, never certainty.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from evals.errors import EvalError
from evals.stats import inputs


@dataclass(frozen=True)
class PairedCounts:
    """The 2 x 2 table of n pairs: both right, only the candidate, only the other, neither."""

    both: int
    gained: int
    lost: int
    neither: int

    def __post_init__(self) -> None:
        if min(self.both, self.gained, self.lost, self.neither) < 0 or self.n == 0:
            raise EvalError("paired counts: expected counts of zero or more with at least one pair")

    @property
    def n(self) -> int:
        """All pairs."""
        return self.both + self.gained + self.lost + self.neither

    @property
    def discordant(self) -> int:
        """Pairs in which exactly one model is right."""
        return self.gained + self.lost

    @property
    def difference(self) -> float:
        """Share right of the candidate minus that of the other model."""
        return (self.gained - self.lost) / self.n

    def swapped(self) -> PairedCounts:
        """The same pairs with the models exchanged."""
        return PairedCounts(self.both, self.lost, self.gained, self.neither)


def paired_counts(candidate: ArrayLike, other: ArrayLike) -> PairedCounts:
    """The table of two lists (N,) of zeros and ones. Raises `EvalError` for anything else."""
    ours_N, theirs_N = inputs.binary("candidate", candidate), inputs.binary("other", other)
    inputs.aligned(candidate=ours_N, other=theirs_N)
    cells = (ours_N & theirs_N, ours_N & ~theirs_N, ~ours_N & theirs_N, ~ours_N & ~theirs_N)
    return PairedCounts(*(int(cell.sum()) for cell in cells))


def mcnemar(counts: PairedCounts, mid_p: bool = False) -> float:
    """Two-sided p-value of "both models are right equally often"; 1 without a discordant pair."""
    from scipy.stats import binom

    least, trials = min(counts.gained, counts.lost), counts.discordant
    if trials == 0:
        return 1.0
    p, point = 2 * float(binom.cdf(least, trials, 0.5)), float(binom.pmf(least, trials, 0.5))
    if counts.gained == counts.lost:
        return 1 - point / 2 if mid_p else 1.0
    return p - point if mid_p else p


def superiority(counts: PairedCounts) -> float:
    """One-sided exact McNemar p-value of "the candidate is not better"; 1 without a discordant pair."""
    from scipy.stats import binom

    return float(binom.sf(counts.gained - 1, counts.discordant, 0.5)) if counts.discordant else 1.0


def tango_statistic(counts: PairedCounts, difference: float) -> float:
    """Tango's z for "p_gained - p_lost = `difference`", in (-1, 1); infinite where the variance vanishes."""
    n, gained, lost = counts.n, counts.gained, counts.lost
    distance = gained - lost - n * difference
    variance = n * (2 * _null_lost(n, gained, lost, difference) + difference * (1 - difference))
    if variance <= 1e-12:
        return math.copysign(math.inf, distance) if abs(distance) > 1e-12 else 0.0
    return distance / math.sqrt(variance)


def _null_lost(n: int, gained: int, lost: int, difference: float) -> float:
    """The likeliest p_lost when p_gained = p_lost + difference: the root of Tango's quadratic."""
    half = 2 * (n - gained) * difference - (gained + lost) * (1 - difference)
    constant = -lost * difference * (1 - difference)
    root = math.sqrt(max(half * half - 8 * n * constant, 0.0))
    return max((root - half) / (4 * n), 0.0, -difference)


def tango_interval(counts: PairedCounts, level: float = 0.95) -> tuple[float, float]:
    """Two-sided interval of the difference: every delta whose |z| stays below the normal quantile.

    Without a discordant pair Clopper and Pearson's bounds of 0 of n, which are a little wider.
    """
    tail = (1 - inputs.share("level", level)) / 2
    return -_upper(counts.swapped(), tail), _upper(counts, tail)


def lower_bound(counts: PairedCounts, alpha: float = 0.05) -> float:
    """The least difference that `noninferiority` does not reject: pass when it is above -margin."""
    inputs.share("alpha", alpha, 0, 0.5)
    return -_upper(counts.swapped(), alpha)


def _upper(counts: PairedCounts, tail: float) -> float:
    """The greatest difference at which the one-sided p-value is still above `tail`."""
    if counts.lost == 0:
        from scipy.stats import beta

        return (
            1.0
            if counts.gained == counts.n
            else float(beta.ppf(1 - tail, counts.gained + 1, counts.n - counts.gained))
        )
    z, low, high = NormalDist().inv_cdf(tail), counts.difference, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if tango_statistic(counts, middle) > z else (low, middle)
    return (low + high) / 2


def noninferiority(counts: PairedCounts, margin: float) -> float:
    """One-sided p-value of "the candidate is worse by `margin` or more" (0 < margin < 1)."""
    inputs.share("margin", margin)
    if counts.gained == 0:
        from scipy.stats import binom

        return float(binom.cdf(counts.lost, counts.n, margin))
    return inputs.normal_tail(tango_statistic(counts, -margin))


def least_items(margin: float, alpha: float = 0.05) -> int:
    """Below so many items no outcome, not even n pairs without a loss, shows non-inferiority."""
    inputs.share("margin", margin), inputs.share("alpha", alpha, 0, 0.5)
    return math.ceil(math.log(alpha) / math.log1p(-margin))


def wilson(right: float, n: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a share (Newcombe 1998, Statistics in Medicine 17:857-872, method 3).

    Raises `EvalError` unless 0 <= right <= n, n >= 1 and 0 < level < 1.
    """
    if n < 1 or not 0 <= right <= n:
        raise EvalError(f"a proportion needs 0 <= right <= n and n of at least 1; found {right:g} of {n}")
    z = inputs.normal_quantile((1 + inputs.share("level", level)) / 2)
    centre = (right + z * z / 2) / (n + z * z)
    half = z * math.sqrt(right * (n - right) / n + z * z / 4) / (n + z * z)
    return max(0.0, centre - half), min(1.0, centre + half)


def newcombe_interval(counts: PairedCounts, level: float = 0.95) -> tuple[float, float]:
    """Newcombe's method 10, with its continuity correction of the correlation."""
    n, ours, theirs = counts.n, counts.both + counts.gained, counts.both + counts.lost
    (low_1, high_1), (low_2, high_2) = wilson(ours, n, level), wilson(theirs, n, level)
    p_1, p_2, phi = ours / n, theirs / n, _correlation(counts)

    def width(first: float, second: float) -> float:
        return math.sqrt(max(first**2 - 2 * phi * first * second + second**2, 0.0))

    return (
        p_1 - p_2 - width(p_1 - low_1, high_2 - p_2),
        p_1 - p_2 + width(p_2 - low_2, high_1 - p_1),
    )


def _correlation(counts: PairedCounts) -> float:
    n, ours, theirs = counts.n, counts.both + counts.gained, counts.both + counts.lost
    product = float(np.prod([ours, n - ours, theirs, n - theirs], dtype=np.float64))
    if product == 0:
        return 0.0
    excess = counts.both * counts.neither - counts.gained * counts.lost
    corrected = max(excess - n / 2, 0.0) if excess > 0 else float(excess)
    return corrected / math.sqrt(product)
