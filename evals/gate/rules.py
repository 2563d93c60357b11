"""One rule, one candidate: from paired items to a check with a verdict and a sentence.

The order of the verdicts, for a difference that counts upwards with one-sided bounds `lower` and `upper`, and
the threshold -margin, or +margin for superiority:

1. a number is missing                                      -> fail (the gate is closed)
2. the two models were not scored alike                     -> not comparable
3. fewer clusters than the policy, or any test, wants       -> not enough data
4. lower > threshold                                        -> pass
5. upper < 0, or for superiority upper <= margin            -> fail: shown to be worse, or not so much better
6. mean - lower >= margin: even a model exactly equal to the other one could not pass with so few data;
   for superiority mean > margin: better here, but not shown -> not enough data
7. otherwise                                                -> fail
"""

from __future__ import annotations

from evals.gate import words
from evals.gate.plan import Compared, plan
from evals.gate.policy import (
    FAIL,
    NOT_COMPARABLE,
    NOT_ENOUGH,
    PASS,
    TOTAL,
    Check,
    Kind,
    Policy,
    Rule,
    Verdict,
)
from evals.gate.tables import (
    Evaluation,
    IncomparableError,
    MissingError,
    bits_and_characters,
    paired,
    rows_of,
)
from evals.stats import noninferiority
from evals.stats.noninferiority import Comparison


def verdict_of(
    difference: Compared, margin: float, min_clusters: int, kind: Kind = "non-inferiority"
) -> Verdict:
    """Steps 3 to 7 of the module's order."""
    if difference.clusters < max(min_clusters, noninferiority.MIN_CLUSTERS):
        return NOT_ENOUGH
    if kind == "superiority":
        if difference.lower > margin:
            return PASS
        return NOT_ENOUGH if difference.mean > margin else FAIL
    if difference.lower > -margin:
        return PASS
    if difference.upper < 0:
        return FAIL
    if difference.mean - difference.lower >= margin:
        return NOT_ENOUGH
    return FAIL


def check(candidate: Evaluation, other: Evaluation, against: str, rule: Rule, policy: Policy) -> Check:
    """Apply `rule` to `candidate` and `other` (named `against`)."""
    try:
        difference, ours, theirs = compare(candidate, other, rule, policy)
    except MissingError as error:
        text = f"{rule.metric} against {against}: {error}; a missing number closes the gate"
        return Check(rule.kind, against, rule.metric, rule.margin, FAIL, text)
    except IncomparableError as error:
        text = f"{rule.metric} against {against}: {error}; evaluate both again under the same conditions"
        return Check(rule.kind, against, rule.metric, rule.margin, NOT_COMPARABLE, text)
    verdict = verdict_of(difference, rule.margin, policy.min_clusters, rule.kind)
    planned = plan(difference, rule.margin, policy.alpha, rule.kind, policy.least_clusters)
    return Check(
        rule.kind,
        against,
        rule.metric,
        rule.margin,
        verdict,
        words.comparison(rule, against, ours, theirs, difference, verdict, policy),
        words.finite(difference.mean),
        words.finite(difference.lower),
        difference.n,
        difference.clusters,
        method=difference.method,
        power=planned.as_json(),
        plan=words.sight(rule, difference, planned),
    )


def compare(
    candidate: Evaluation, other: Evaluation, rule: Rule, policy: Policy
) -> tuple[Comparison, float, float]:
    """The difference (upwards is better), and the plain values of the candidate and of the other model."""
    rows = paired(candidate, other, rule.metric, policy.groups)
    options = (policy.alpha, policy.rounds, policy.seed)
    if rule.is_bpc:
        documents = bits_and_characters(rows)
        ours, theirs = documents["candidate"], documents["other"]
        clusters, chars = list(documents["cluster"]), documents["chars"]
        below = theirs if rule.relative else chars
        fall = noninferiority.compare_ratios(ours, theirs, below, clusters, *options)
        return fall, float(ours.sum() / chars.sum()), float(theirs.sum() / chars.sum())
    difference = noninferiority.compare(
        rows["candidate"],
        rows["other"],
        list(rows["cluster"]),
        list(rows["task"]),
        policy.alpha,
        rounds=policy.rounds,
        seed=policy.seed,
    )
    by_task = rows.groupby("task")[["candidate", "other"]].mean().mean()
    return difference, float(by_task["candidate"]), float(by_task["other"])


def total_of(model: Evaluation) -> float | None:
    """The plain mean over tasks of the mean over items; None without items or for a value not finite."""
    try:
        return float(rows_of(model, TOTAL).groupby("task")["value"].mean().mean())
    except MissingError:
        return None
