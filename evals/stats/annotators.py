"""The alternative annotator test: may a judge stand in for a human rater (Calderon et al. 2025, 2501.10970)?

For rater j and an item that j, at least one other rater and the judge have seen, each of j and the judge is
scored by the share of the OTHER raters with whose labels its own agrees. The judge wins the item with at
least j's score, j with at least the judge's; a tie counts for both. With rho_f and rho_h the shares of items
won by judge and human, the one-sided paired test is of

    H0: rho_f <= rho_h - epsilon

(t test from 30 items on, Wilcoxon's signed ranks below). P-values are corrected over raters by Benjamini and
Yekutieli, since raters share items. The winning rate omega is the share of raters beaten; the judge passes
with at least one half. Its average advantage probability is the mean of rho_f. Epsilon discounts the cost of
a human: .2 for experts, .15 for trained raters, .1 for a crowd (section 3.3).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from evals.errors import EvalError
from evals.stats import inputs, multiplicity

MIN_RATERS = 3
FEW = 30
EPSILON = {"expert": 0.2, "trained": 0.15, "crowd": 0.1}


@dataclass(frozen=True)
class Rater:
    """One rater against the judge: items compared, both advantage shares, raw and adjusted p-value."""

    name: str
    items: int
    judge: float
    human: float
    p: float
    adjusted: float


@dataclass(frozen=True)
class Alternative:
    """`omega`: share of raters the judge beats; `advantage`: mean of its shares; who was left out and why."""

    omega: float
    advantage: float
    raters: tuple[Rater, ...]
    left_out: tuple[str, ...]
    epsilon: float

    @property
    def passed(self) -> bool:
        """Whether the judge may replace a rater: omega of at least one half."""
        return self.omega >= 0.5


def alternative_annotator(
    items: Sequence[Any],
    raters: Sequence[Any],
    labels: Sequence[Any],
    judge: Mapping[Any, Any],
    epsilon: float,
    least_items: int = FEW,
    alpha: float = 0.05,
) -> Alternative:
    """Votes (N,) as item, rater, label, and the judge's label per item, by exact match.

    Raters with fewer than `least_items` comparable items are left out and named; their votes still stand
    among the other raters'. Raises `EvalError` for unequal lengths, no vote, a rater who voted twice on an
    item, or fewer than three raters with enough items.
    """
    inputs.aligned(items=items, raters=raters, labels=labels)
    if not 0 <= epsilon < 1:
        raise EvalError(f"epsilon is {epsilon:g}; expected at least 0 and less than 1")
    wins = _wins(items, raters, labels, judge)
    kept = {name: pairs for name, pairs in sorted(wins.items()) if len(pairs) >= least_items}
    if len(kept) < MIN_RATERS:
        raise EvalError(
            f"the alternative annotator test needs {MIN_RATERS} raters with {least_items} items each that"
            f" others and the judge have labelled too; found {len(kept)} of {len(set(map(str, raters)))}"
        )
    shares = {name: np.asarray(pairs, dtype=np.float64) for name, pairs in kept.items()}
    p_values = [_p_value(pairs_N2, epsilon) for pairs_N2 in shares.values()]
    adjusted = multiplicity.benjamini_yekutieli(p_values)
    found = tuple(
        Rater(
            name,
            len(pairs_N2),
            float(pairs_N2[:, 0].mean()),
            float(pairs_N2[:, 1].mean()),
            p,
            float(corrected),
        )
        for (name, pairs_N2), p, corrected in zip(shares.items(), p_values, adjusted, strict=True)
    )
    omega = sum(rater.adjusted <= alpha for rater in found) / len(found)
    advantage = float(np.mean([rater.judge for rater in found]))
    return Alternative(omega, advantage, found, tuple(sorted(set(map(str, raters)) - set(kept))), epsilon)


def _wins(
    items: Sequence[Any], raters: Sequence[Any], labels: Sequence[Any], judge: Mapping[Any, Any]
) -> dict[str, list[tuple[bool, bool]]]:
    """Per rater and comparable item: whether the judge won, whether the human did."""
    votes: dict[Any, dict[str, Any]] = defaultdict(dict)
    for item, rater, label in zip(items, raters, labels, strict=True):
        if str(rater) in votes[item]:
            raise EvalError(f"rater {rater} labelled item {item} twice; keep one vote of each rater and item")
        votes[item][str(rater)] = label
    wins: dict[str, list[tuple[bool, bool]]] = defaultdict(list)
    for item, given in votes.items():
        if item not in judge:
            continue
        for rater, own in given.items():
            others = [label for name, label in given.items() if name != rater]
            if others:
                machine, human = others.count(judge[item]), others.count(own)
                wins[rater].append((machine >= human, human >= machine))
    return wins


def _p_value(pairs_N2: np.ndarray, epsilon: float) -> float:
    """One-sided p of "the human's share exceeds the judge's by epsilon or more" over paired items."""
    from scipy import stats

    lead_N = pairs_N2[:, 1] - pairs_N2[:, 0] - epsilon
    if np.ptp(lead_N) == 0:
        # Every item ends alike: its sign is certain, and n equal items give the sign test's evidence.
        return 0.5 ** len(lead_N) if lead_N[0] < 0 else 1.0
    if len(lead_N) < FEW:
        return float(stats.wilcoxon(lead_N, alternative="less").pvalue)
    statistic = lead_N.mean() / (lead_N.std(ddof=1) / math.sqrt(len(lead_N)))
    return float(stats.t.cdf(statistic, len(lead_N) - 1))
