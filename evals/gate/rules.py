"""One rule, one candidate: from paired items to a check with a verdict and a sentence.

The order of the verdicts, for a difference that counts upwards with one-sided bounds `lower` and `upper`:

1. a number is missing                                      -> fail (the gate is closed)
2. the two models were not scored alike                     -> not comparable
3. fewer clusters than the policy wants                     -> not enough data
4. lower > -margin                                          -> pass
5. upper < 0: significantly worse, and not within margin    -> fail
6. mean - lower >= margin: even a model exactly equal to the other one could not pass with so few data
                                                            -> not enough data
7. otherwise: an equal model would pass, this one does not  -> fail
"""

from __future__ import annotations

from evals.gate import words
from evals.gate.policy import FAIL, NOT_COMPARABLE, NOT_ENOUGH, PASS, TOTAL, Check, Policy, Rule, Verdict
from evals.gate.tables import Evaluation, IncomparableError, MissingError, bits_and_characters, paired
from evals.stats import intervals
from evals.stats.intervals import Difference


def verdict_of(difference: Difference, margin: float, min_clusters: int) -> Verdict:
    """Steps 3 to 7 of the module's order."""
    if difference.clusters < min_clusters:
        return NOT_ENOUGH
    if difference.lower > -margin:
        return PASS
    if difference.upper < 0:
        return FAIL
    if difference.mean - difference.lower >= margin:
        return NOT_ENOUGH
    return FAIL


def check(candidate: Evaluation, other: Evaluation, against: str, rule: Rule, policy: Policy) -> Check:
    """Apply `rule`: `candidate` must not be worse than `other` (named `against`) by the margin."""
    name = "non-inferiority"
    try:
        difference, ours, theirs = compare(candidate, other, rule, policy)
    except MissingError as error:
        text = f"{rule.metric} against {against}: {error}; a missing number closes the gate"
        return Check(name, against, rule.metric, rule.margin, FAIL, text)
    except IncomparableError as error:
        text = f"{rule.metric} against {against}: {error}; evaluate both again under the same conditions"
        return Check(name, against, rule.metric, rule.margin, NOT_COMPARABLE, text)
    verdict = verdict_of(difference, rule.margin, policy.min_clusters)
    text = words.comparison(rule, against, ours, theirs, difference, verdict, policy)
    return Check(
        name,
        against,
        rule.metric,
        rule.margin,
        verdict,
        text,
        words.finite(difference.mean),
        words.finite(difference.lower),
        difference.n,
        difference.clusters,
    )


def compare(
    candidate: Evaluation, other: Evaluation, rule: Rule, policy: Policy
) -> tuple[Difference, float, float]:
    """The difference (upwards is better), and the plain values of the candidate and of the other model."""
    rows = paired(candidate, other, rule.metric)
    if rule.is_bpc:
        documents = bits_and_characters(rows)
        ours, theirs = documents["candidate"], documents["other"]
        clusters, chars = list(documents["cluster"]), documents["chars"]
        options = (policy.alpha, policy.rounds, policy.seed)
        rise = (
            intervals.relative_rise(ours, theirs, clusters, *options)
            if rule.relative
            else intervals.ratio_difference(ours, theirs, chars, clusters, *options)
        )
        return rise.negated(), float(ours.sum() / chars.sum()), float(theirs.sum() / chars.sum())
    difference = intervals.paired_difference(
        rows["candidate"],
        rows["other"],
        list(rows["cluster"]),
        list(rows["task"]),
        policy.alpha,
        policy.rounds,
        policy.seed,
    )
    by_task = rows.groupby("task")[["candidate", "other"]].mean().mean()
    return difference, float(by_task["candidate"]), float(by_task["other"])


def check_bytes(size: int | None, limit: int) -> Check:
    """The absolute budget for the checkpoint on disk."""
    if size is None:
        text = "the size on disk is missing; a missing number closes the gate"
        return Check("max_bytes", None, "bytes", float(limit), FAIL, text)
    held = size <= limit
    text = f"{words.size(size)} on disk, {'within' if held else 'over'} the budget of {words.size(limit)}"
    return Check("max_bytes", None, "bytes", float(limit), PASS if held else FAIL, text, float(limit - size))


def total_of(model: Evaluation) -> float | None:
    """The plain mean over tasks of the mean over items; None without items or for a value not finite."""
    try:
        rows = paired(model, model, TOTAL)
    except MissingError:
        return None
    return float(rows.groupby("task")["candidate"].mean().mean())
