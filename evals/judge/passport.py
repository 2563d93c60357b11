"""How far a judge can be trusted: consistency, primacy, accuracy against the generator's truth, vote."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from evals.judge.verdicts import Verdict
from evals.stats import intervals

MAX_UNJUDGED = 0.05
LEVEL = 0.95
ROUNDS = 2000


@dataclass(frozen=True)
class Bias:
    """`consistency`: share of asked pairs with the same winner in both orders; None for none.

    `primacy`: share of pairs whose first-shown answer won both times, minus the share whose second-shown did.
    """

    asked: int
    consistency: float | None
    primacy: float | None
    primacy_ci: list[float | None] | None


def position_bias(verdicts: Sequence[Verdict], seed: int = 0) -> Bias:
    """Consistency and primacy over the asked pairs, with a 95 % interval over clusters for primacy."""
    asked = [verdict for verdict in verdicts if verdict.asked]
    if not asked:
        return Bias(0, None, None, None)
    consistency = sum(bool(verdict.consistent) for verdict in asked) / len(asked)
    taste = [_taste(verdict) for verdict in asked]
    clusters = [verdict.cluster for verdict in asked]
    interval = intervals.cluster_interval(taste, clusters, LEVEL, ROUNDS, seed, intervals.UNIT_DIFFERENCE)
    return Bias(len(asked), consistency, interval.mean, interval.pair())


def _taste(verdict: Verdict) -> float:
    """1 when the first-shown answer won in both orders, -1 when the second-shown did, else 0."""
    if verdict.p_first > 0.5 > verdict.p_second:
        return 1.0
    return -1.0 if verdict.p_first < 0.5 < verdict.p_second else 0.0


def accuracy(verdicts: Sequence[Verdict], seed: int = 0) -> intervals.Interval | None:
    """Share of (right, wrong) pairs in which the right answer was preferred; a draw counts half.

    The truth is the generator's, never human. None when there is no such pair.
    """
    hits = [float(verdict.preference > 0.5) + 0.5 * (verdict.preference == 0.5) for verdict in verdicts]
    if not hits:
        return None
    clusters = [verdict.cluster for verdict in verdicts]
    return intervals.cluster_interval(hits, clusters, LEVEL, ROUNDS, seed, intervals.UNIT)


def summarise(
    verdicts: Sequence[Verdict],
    truth: Sequence[Verdict],
    unjudged: int,
    min_consistency: float,
    seed: int = 0,
) -> dict[str, Any]:
    """The numbers of summary.json and whether the judge may vote on them.

    `verdicts`: candidate against champion. `truth`: right against wrong answers of the same questions.
    `unjudged`: pairs of either that did not fit into the judge's context.
    """
    bias, right = position_bias(verdicts, seed), accuracy(truth, seed)
    preference = None
    if verdicts:
        preference = intervals.cluster_interval(
            [verdict.preference for verdict in verdicts],
            [verdict.cluster for verdict in verdicts],
            LEVEL,
            ROUNDS,
            seed,
            intervals.UNIT,
        )
    total = len(verdicts) + len(truth) + unjudged
    reason = refusal(bias, right, unjudged / total if total else 0.0, min_consistency)
    return {
        "preference": preference.mean if preference else None,
        "ci": preference.pair() if preference else None,
        "pairs": len(verdicts),
        "asked": bias.asked,
        "clusters": preference.clusters if preference else 0,
        "unjudged": unjudged,
        "consistency": bias.consistency,
        "primacy": bias.primacy,
        "primacy_ci": bias.primacy_ci,
        "accuracy": right.mean if right else None,
        "accuracy_ci": right.pair() if right else None,
        "truth": "generator",
        "truth_consistency": position_bias(truth, seed).consistency,
        "votes": reason is None,
        "reason": reason or "consistent enough, and right more often than a coin",
    }


def refusal(
    bias: Bias, right: intervals.Interval | None, unjudged: float, min_consistency: float
) -> str | None:
    """Why the judge may not vote, in words; None when it may."""
    reasons = []
    if unjudged > MAX_UNJUDGED:
        reasons.append(f"{100 * unjudged:.0f} % of the pairs do not fit into its context")
    if bias.consistency is None:
        reasons.append("there was nothing to judge: no question, or equal answers everywhere")
    elif bias.consistency < min_consistency:
        reasons.append(
            f"its winner is the same in both orders in {bias.consistency:.2f} of {bias.asked} pairs,"
            f" at least {min_consistency:.2f} is asked for"
        )
    if right is None:
        reasons.append("no pair of the generator's right and wrong answers tells how often it is right")
    elif right.lo <= 0.5:
        reasons.append(
            f"it is right in {right.mean:.2f} of {right.n} pairs of the generator's truth"
            f" (95 % interval {right.lo:.2f} to {right.hi:.2f}), which a coin could reach"
        )
    return "; ".join(reasons) or None
