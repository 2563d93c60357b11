"""Sentences that a release manager reads: rounded numbers, what they were compared with, and what follows."""

from __future__ import annotations

import math
from collections.abc import Callable

from evals.gate.policy import NOT_ENOUGH, PASS, Policy, Rule
from evals.stats.intervals import Difference, required_clusters


def finite(value: float) -> float | None:
    """`value`, or None when it is infinite or NaN, which JSON has no word for."""
    return value if math.isfinite(value) else None


def comparison(
    rule: Rule, against: str, ours: float, theirs: float, difference: Difference, verdict: str, policy: Policy
) -> str:
    """`total 0.712 against 0.450 of the champion: +0.262, at least +0.221 (95 % confidence), above ...`."""
    owner = "the champion" if against == "champion" else against
    if not rule.is_bpc:
        head = f"{rule.metric} {ours:.3f} against {theirs:.3f} of {owner}"
        change = (
            f"{difference.mean:+.3f}, at least {_signed(difference.lower)} ({policy.confidence} confidence)"
        )
        limit = f"the margin of -{rule.margin:.3f}"
        outcome = f"above {limit}" if difference.lower > -rule.margin else f"not above {limit}"
    else:
        language = rule.metric.removeprefix("bpc_")
        head = f"bits per character ({language}) {ours:.3f} against {theirs:.3f} of {owner}"
        change = (
            f"{_amount(-difference.mean, rule.relative)}, at most {_amount(-difference.lower, rule.relative)}"
            f" ({policy.confidence} confidence)"
        )
        limit = f"the margin of {_amount(rule.margin, rule.relative)}"
        outcome = f"within {limit}" if difference.lower > -rule.margin else f"not within {limit}"
    return f"{head}: {change}, {outcome}{_consequence(difference, rule.margin, verdict, policy)}"


def preference(difference: Difference, verdict: str, policy: Policy) -> str:
    """The judge's preference and what follows from it."""
    bound, limit = 0.5 + difference.lower, 0.5 - policy.judge_margin
    head = f"the judge prefers its answers to the champion's by {0.5 + difference.mean:.3f} (0.5 is a draw)"
    outcome = f"{'above' if bound > limit else 'not above'} {limit:.3f}"
    change = f"at least {bound:.3f} ({policy.confidence} confidence), {outcome}"
    return f"{head}, {change}{_consequence(difference, policy.judge_margin, verdict, policy)}"


def _consequence(difference: Difference, margin: float, verdict: str, policy: Policy) -> str:
    if verdict == PASS:
        return " and significantly better" if difference.lower > 0 else ""
    if verdict != NOT_ENOUGH:
        worse = (
            "significantly worse" if difference.upper < 0 else "not shown to hold where an equal model would"
        )
        return f": {worse}"
    if difference.clusters < policy.min_clusters:
        return f"; only {difference.clusters} independent clusters, at least {policy.min_clusters} are needed"
    needed = required_clusters(difference, margin, policy.alpha)
    if needed is None:
        return "; a margin of zero is held only by a model that is truly better, which is not shown here"
    wanted = max(needed, difference.clusters + 1)
    return (
        f"; even an equal model could not pass with {difference.clusters:,} independent clusters,"
        f" about {wanted:,} are needed"
    )


def size(count: float, largest: float | None = None, digits: Callable[[float], str] = "{:.2f}".format) -> str:
    """Bytes in words: `1.25 MB` (powers of ten), in the unit of `largest` where a column has one."""
    power = min(4, int(math.log10(max(largest or count, 1)) // 3))
    if power == 0:
        return f"{count:.0f} B"
    return f"{digits(count / 1000**power)} {('kB', 'MB', 'GB', 'TB')[power - 1]}"


def _signed(value: float) -> str:
    return f"{value:+.3f}" if math.isfinite(value) else "nothing known"


def _amount(value: float, relative: bool) -> str:
    if not math.isfinite(value):
        return "nothing known"
    return f"{100 * value:+.1f} %" if relative else f"{value:+.3f}"
