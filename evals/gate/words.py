"""Sentences that a release manager reads: rounded numbers, what they were compared with, and what follows."""

from __future__ import annotations

import math
from collections.abc import Callable

from evals.gate.plan import POWER, Compared, Plan, plan
from evals.gate.policy import NOT_ENOUGH, PASS, Budget, Floor, Policy, Rule, Slices
from evals.stats.intervals import Interval

MEASURES = {
    "ttft_ms": "time to the first token",
    "latency_ms": "latency",
    "load_s": "time to load",
    "peak_rss_bytes": "peak memory",
    "peak_device_bytes": "peak memory on the GPU",
}


def finite(value: float) -> float | None:
    """`value`, or None when it is infinite or NaN, which JSON has no word for."""
    return value if math.isfinite(value) else None


def comparison(
    rule: Rule, against: str, ours: float, theirs: float, difference: Compared, verdict: str, policy: Policy
) -> str:
    """`total 0.712 against 0.450 of the champion: +0.262, at least +0.221 (95 % confidence), above ...`."""
    owner = "the champion" if against == "champion" else against
    held = difference.lower > rule.threshold
    if not rule.is_bpc:
        head = f"{rule.metric} {ours:.3f} against {theirs:.3f} of {owner}"
        change = (
            f"{difference.mean:+.3f}, at least {_signed(difference.lower)} ({policy.confidence} confidence)"
        )
        outcome = f"{'above' if held else 'not above'} the margin of {rule.threshold:+.3f}"
    else:
        language = rule.metric.removeprefix("bpc_")
        head = f"bits per character ({language}) {ours:.3f} against {theirs:.3f} of {owner}"
        change = (
            f"{_amount(-difference.mean, rule.relative)}, at most {_amount(-difference.lower, rule.relative)}"
            f" ({policy.confidence} confidence)"
        )
        limit = _amount(-rule.threshold, rule.relative)
        outcome = f"{'within' if held else 'not within'} the margin of {limit}"
    if rule.kind == "superiority":
        return f"{head}: {change}, {outcome}{_not_better(rule, difference, verdict, policy)}"
    return f"{head}: {change}, {outcome}{_consequence(difference, rule.margin, verdict, policy)}"


def sight(rule: Rule, found: Compared, planned: Plan) -> str | None:
    """What the items can see, in words; None where that is not known."""
    if planned.visible is None:
        return None
    unit = "documents" if rule.is_bpc else "items"
    seen, margin = _width(planned.visible, rule), _width(rule.margin, rule)
    what = "margin" if rule.kind == "non-inferiority" else "gain"
    here = f"{rule.metric}: {found.n:,} {unit} in {found.clusters:,} clusters can see a {what} of {seen}"
    if rule.kind == "superiority":
        needed = f"; to show the gain seen here {_needs(planned, unit)}" if planned.clusters else ""
    elif planned.clusters:
        needed = f"; the margin of {margin} {_needs(planned, unit)}"
    else:
        needed = f"; for the margin of {margin} no number would do"
    chance = ""
    if planned.equal_passes is not None:
        chance = f"; an equal model with this spread passes with a probability of {planned.equal_passes:.2f}"
    return f"{here} (power {POWER:g}){needed}{chance}"


def _needs(planned: Plan, unit: str) -> str:
    return f"needs {planned.items:,} {unit} in {planned.clusters:,} clusters"


def _width(value: float, rule: Rule) -> str:
    return f"{100 * value:.1f} %" if rule.relative else f"{value:.3f}"


def slice_(metric: str, family: Slices, found: Compared, p: float, verdict: str, policy: Policy) -> str:
    """One slice: how it differs, and whether it is shown to be worse."""
    head = f"slice {metric} of {family.name}: {found.mean:+.3f} against the champion"
    if found.clusters < policy.least_clusters:
        return f"{head}{_few(found, policy)}"
    shown = "shown" if verdict != PASS else "not shown"
    return (
        f"{head}, {shown} to be worse by more than {family.margin:.3f}"
        f" (p {p:.3f}, corrected for {len(family.metrics)} slices)"
    )


def drop(metric: str, found: Compared, least: float) -> str:
    """What a slice would notice."""
    seen = f"a drop of {least:.3f} would be noticed with a power of {POWER:g}"
    return f"slice {metric}: {seen} by {found.n:,} items in {found.clusters:,} clusters"


def floor(rule: Floor, found: Interval, few: bool, policy: Policy) -> str:
    """A score and its floor."""
    bound = f"at least {found.lo:.3f} ({policy.confidence} confidence)"
    outcome = (
        f"{'at or above' if found.lo >= rule.at_least else 'not above'} the floor of {rule.at_least:.3f}"
    )
    text = f"{rule.metric} {found.mean:.3f}, {bound}, {outcome}"
    if few:
        return f"{text}{_few(found, policy)}"
    unsure = found.lo < rule.at_least <= found.mean
    return f"{text}; its {found.clusters:,} clusters are too few to show more" if unsure else text


def measure(rule: Budget) -> str:
    """`latency (p95, prompt of 512 tokens)`."""
    name = MEASURES.get(rule.measure, rule.measure)
    if rule.prompt_tokens is None:
        return name
    return f"{name} ({rule.quantile}, prompt of {rule.prompt_tokens} tokens)"


def budget(rule: Budget, value: float, upper: float | None, held: bool) -> str:
    """A measure and its budget."""
    most = "" if upper is None else f", at most {_measured(rule, upper)} over repeats"
    outcome = "within" if held else "over"
    limit = _measured(rule, rule.at_most)
    return f"{measure(rule)} {_measured(rule, value)}{most}, {outcome} the budget of {limit}"


def _measured(rule: Budget, value: float) -> str:
    if rule.measure.endswith("_bytes"):
        return size(value)
    return f"{value:.1f} {rule.measure.rpartition('_')[2]}"


def preference(difference: Compared, verdict: str, policy: Policy) -> str:
    """The judge's preference and what follows from it."""
    bound, limit = 0.5 + difference.lower, 0.5 - policy.judge_margin
    head = f"the judge prefers its answers to the champion's by {0.5 + difference.mean:.3f} (0.5 is a draw)"
    outcome = f"{'above' if bound > limit else 'not above'} {limit:.3f}"
    change = f"at least {bound:.3f} ({policy.confidence} confidence), {outcome}"
    return f"{head}, {change}{_consequence(difference, policy.judge_margin, verdict, policy)}"


def _consequence(difference: Compared, margin: float, verdict: str, policy: Policy) -> str:
    if verdict == PASS:
        return " and significantly better" if difference.lower > 0 else ""
    if verdict != NOT_ENOUGH:
        worse = (
            "significantly worse" if difference.upper < 0 else "not shown to hold where an equal model would"
        )
        return f": {worse}"
    if difference.clusters < policy.least_clusters:
        return _few(difference, policy)
    needed = plan(difference, margin, policy.alpha, least_clusters=policy.least_clusters).clusters
    if needed is None:
        return "; a margin of zero is held only by a model that is truly better, which is not shown here"
    wanted = max(needed, difference.clusters + 1)
    return (
        f"; even an equal model could not pass with {difference.clusters:,} independent clusters,"
        f" about {wanted:,} are needed"
    )


def _not_better(rule: Rule, difference: Compared, verdict: str, policy: Policy) -> str:
    if verdict == PASS:
        return ": shown to be better"
    if difference.clusters < policy.least_clusters:
        return _few(difference, policy)
    if verdict != NOT_ENOUGH:
        return ": significantly worse" if difference.upper < 0 else ": not better by so much"
    needed = plan(difference, rule.margin, policy.alpha, rule.kind, policy.least_clusters).clusters
    about = f"; a gain like this needs about {needed:,} independent clusters" if needed else ""
    return f": better here, but not shown{about}"


def _few(found: Compared | Interval, policy: Policy) -> str:
    least = policy.least_clusters
    return f"; only {found.clusters} independent clusters, at least {least} are needed"


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
