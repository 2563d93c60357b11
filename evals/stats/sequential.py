"""Judging that may stop at any moment: e-processes (Ramdas et al. 2023, Statistical Science 38:576-601).

A nonnegative process that starts at 1 and is a supermartingale under H0 exceeds 1 / alpha at ANY time with
probability at most alpha (Ville's inequality), so looking after every game costs nothing.

- `even_games`: H0 "win rate = 1/2" over decisive games, by a uniform mixture of likelihood ratios:
  E_n = 2^n B(1 + wins, 1 + losses) (Robbins 1970, Annals of
  Mathematical Statistics 41:1397-1409).
- `Betting`: H0 "mean difference <= -margin" for d in [-1, 1], by betting (Waudby-Smith and Ramdas 2024, JRSS
  B 86:1-27, section 4): a gambler stakes a share of the wealth on every d exceeding -margin. Averaging the
  wealth of several constant stakes and of one that follows the data (approximate Kelly) keeps it valid.
- The same processes for all m at once give the lower bound of a confidence sequence.

Items must come in an order that does not depend on their outcome, and be independent: judge whole clusters
and pass their means. With unequal clusters that is the mean over clusters, not over items.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from evals.errors import EvalError
from evals.stats import inputs
from evals.stats.inputs import Floats

# Shares of the greatest stake that cannot lose everything.
STAKES = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)
# The confidence sequence is computed on this grid of means.
GRID = 401


def even_games(wins: ArrayLike, losses: ArrayLike) -> Floats:
    """log E after each of (T,) looks, from wins and losses so far. Stop for a difference at log(1 / alpha).

    Ties are no games. Raises `EvalError` for counts that are negative or fall.
    """
    from scipy.special import betaln

    win_T, loss_T = inputs.between("wins", wins, 0, math.inf), inputs.between("losses", losses, 0, math.inf)
    inputs.aligned(wins=win_T, losses=loss_T)
    if (np.diff(win_T) < 0).any() or (np.diff(loss_T) < 0).any():
        raise EvalError("wins and losses are counts so far; they cannot fall from one look to the next")
    return np.asarray((win_T + loss_T) * math.log(2) + betaln(1 + win_T, 1 + loss_T), dtype=np.float64)


def noninferiority_wealth(differences: ArrayLike, margin: float) -> Floats:
    """log wealth after each of (T,) differences in [-1, 1] (candidate - other), or of (S, T) sequences at
    once.

    Non-inferior once it reaches log(1 / alpha); valid at any look. 0 <= margin < 1; 0 tests superiority.
    Raises `EvalError` for another margin, no differences, or differences outside [-1, 1].
    """
    array = np.asarray(differences, dtype=np.float64)
    if array.ndim not in (1, 2) or array.size == 0 or not np.isfinite(array).all() or np.abs(array).max() > 1:
        raise EvalError("differences: expected finite numbers from -1 to 1, one or more")
    if not 0 <= margin < 1:
        raise EvalError(f"margin is {margin:g}; expected at least 0 and less than 1")
    wealth_ST = _wealth(np.atleast_2d(array), np.array([-margin]))[0]
    return wealth_ST[0] if array.ndim == 1 else wealth_ST


def _wealth(difference_ST: Floats, mean_M: Floats) -> Floats:
    """log wealth (M, S, T) against "mean <= m": the mean over stakes of products of 1 + stake (d - m)."""
    gain_MST = difference_ST[None] - mean_M[:, None, None]
    most_M11 = (1 / np.maximum(mean_M + 1, 1e-9))[:, None, None]  # d - m is at least -1 - m
    paths = [np.log1p(np.minimum(share, 0.99) * most_M11 * gain_MST).cumsum(-1) for share in STAKES]
    followed = np.log1p(_kelly(gain_MST, most_M11) * gain_MST).cumsum(-1)
    stacked = np.stack([*paths, followed])
    top = stacked.max(0)
    return np.asarray(top + np.log(np.exp(stacked - top).mean(0)), dtype=np.float64)


def _kelly(gain_MST: Floats, most_M11: Floats) -> Floats:
    """Stakes from the past alone: mean gain over mean square gain, with a prior of weight 1, at most half."""
    steps_T = np.arange(gain_MST.shape[-1])
    before = np.zeros_like(gain_MST)
    square = np.zeros_like(gain_MST)
    before[..., 1:], square[..., 1:] = gain_MST.cumsum(-1)[..., :-1], (gain_MST**2).cumsum(-1)[..., :-1]
    stake = (before / (steps_T + 1)) / ((square + 0.25) / (steps_T + 1))
    return np.clip(stake, 0, 0.5 * most_M11)


def lower_sequence(differences: ArrayLike, alpha: float = 0.05) -> Floats:
    """Lower bounds (T,) of the mean difference, valid at all looks together with probability 1 - alpha.

    The greatest mean on a grid of step 0.005 that every look so far rejects; -1 while there is none.
    """
    difference_T = inputs.between("differences", differences, -1, 1)
    mean_M = np.linspace(-1, 1, GRID)[:-1]
    threshold = math.log(1 / inputs.share("alpha", alpha, 0, 0.5))
    rejected_MT = np.maximum.accumulate(_wealth(difference_T[None], mean_M)[:, 0], axis=-1) >= threshold
    # Wealth falls with m only nearly; the bound stops at the first mean that is not rejected.
    count_T = np.cumprod(rejected_MT, axis=0).sum(0)
    return np.where(count_T > 0, mean_M[np.maximum(count_T - 1, 0)], -1.0)


@dataclass
class Betting:
    """The wealth of `noninferiority_wealth`, fed one difference at a time."""

    margin: float
    alpha: float = 0.05
    seen: list[float] = field(default_factory=list)

    def add(self, difference: float) -> bool:
        """Take one more difference; True once non-inferiority has been shown, at this or an earlier look."""
        self.seen.append(float(inputs.between("difference", [difference], -1, 1)[0]))
        return self.decided

    @property
    def decided(self) -> bool:
        """Whether the wealth has ever reached 1 / alpha."""
        if not self.seen:
            return False
        return bool(noninferiority_wealth(self.seen, self.margin).max() >= math.log(1 / self.alpha))
