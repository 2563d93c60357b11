"""Slices: of many tasks or groups of them, is any shown to be worse than the champion's?

An alarm, not a proof of equality: a slice passes when it is not shown to be worse by more than the margin.
The p-values of one family are corrected by Holm, so that an equal model is held by any of them in at most
`alpha` of all cases.
"""

from __future__ import annotations

from dataclasses import dataclass

from evals.gate import words
from evals.gate.plan import plan
from evals.gate.policy import FAIL, NOT_COMPARABLE, NOT_ENOUGH, PASS, Check, Policy, Slices
from evals.gate.tables import Evaluation, IncomparableError, MissingError, paired
from evals.stats import noninferiority
from evals.stats.multiplicity import holm
from evals.stats.noninferiority import Comparison

RULE = "slice"


@dataclass(frozen=True)
class _Seen:
    """One slice: the comparison at the level of the whole family divided by its size, and its p-value."""

    metric: str
    found: Comparison
    p: float


def check_slices(candidate: Evaluation, champion: Evaluation, family: Slices, policy: Policy) -> list[Check]:
    """One check per slice of `family`, in its order. A slice that cannot be compared counts in the family."""
    seen: dict[str, _Seen] = {}
    checks: dict[str, Check] = {}
    for metric in family.metrics:
        try:
            seen[metric] = _look(candidate, champion, metric, family, policy)
        except MissingError as error:
            text = f"slice {metric} of {family.name}: {error}; a missing number closes the gate"
            checks[metric] = Check(RULE, champion.name, metric, family.margin, FAIL, text)
        except IncomparableError as error:
            text = f"slice {metric} of {family.name}: {error}; evaluate both again under the same conditions"
            checks[metric] = Check(RULE, champion.name, metric, family.margin, NOT_COMPARABLE, text)
    adjusted = holm([seen[metric].p if metric in seen else 1.0 for metric in family.metrics])
    for metric, p in zip(family.metrics, adjusted, strict=True):
        if metric in seen:
            checks[metric] = _judged(seen[metric], champion.name, family, float(p), policy)
    return [checks[metric] for metric in family.metrics]


def _look(candidate: Evaluation, champion: Evaluation, metric: str, family: Slices, policy: Policy) -> _Seen:
    rows = paired(candidate, champion, metric, policy.groups)
    ours, theirs = rows["candidate"], rows["other"]
    where = list(rows["cluster"]), list(rows["task"])
    rounds, seed = policy.rounds, policy.seed
    level = policy.alpha / len(family.metrics)
    found = noninferiority.compare(ours, theirs, *where, alpha=level, rounds=rounds, seed=seed)
    # Exchanged: how unlikely is it that the champion is not ahead by more than the margin?
    p = noninferiority.p_value(theirs, ours, *where, threshold=family.margin, rounds=rounds, seed=seed)
    return _Seen(metric, found, p)


def _judged(seen: _Seen, against: str, family: Slices, p: float, policy: Policy) -> Check:
    found = seen.found
    verdict = FAIL if p <= policy.alpha else PASS
    if found.clusters < policy.least_clusters:
        verdict = NOT_ENOUGH
    planned = plan(found, family.margin, policy.alpha / len(family.metrics))
    drop = None if planned.visible is None else family.margin + planned.visible
    return Check(
        RULE,
        against,
        seen.metric,
        family.margin,
        verdict,
        words.slice_(seen.metric, family, found, p, verdict, policy),
        words.finite(found.mean),
        words.finite(found.lower),
        found.n,
        found.clusters,
        method=found.method,
        p=p,
        power={"visible": drop},
        plan=None if drop is None else words.drop(seen.metric, found, drop),
    )
