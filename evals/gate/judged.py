"""What a judge's verdicts mean at the gate: the rate behind them, corrected for the judge's own errors."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from evals.errors import EvalError
from evals.gate import plan, words
from evals.gate.policy import FAIL, Check, Policy, Rule
from evals.gate.rules import verdict_of
from evals.judge import winrate
from evals.judge.winrate import Evidence
from evals.stats.inputs import normal_quantile
from evals.stats.intervals import Difference


@dataclass(frozen=True)
class Vote:
    """What the judge said about one candidate: whether it may vote, why not, and its verdicts."""

    votes: bool
    reason: str
    evidence: Evidence = field(default_factory=lambda: Evidence((), ()))


def check_judge(vote: Vote, policy: Policy) -> Check:
    """The rate at which the candidate's answers are better must stay above one half minus the margin.

    It is corrected for the judge's errors (`evals.judge.winrate`); without verdicts, or without anything that
    tells these errors, a number is missing and the gate is closed.
    """
    head = ("judge", "champion", "preference", policy.judge_margin)
    try:
        found = winrate.rate(vote.evidence, policy.alpha)
    except EvalError as error:
        text = f"the judge votes, but its rate is missing: {error}; a missing number closes the gate"
        return Check(*head, FAIL, text)
    se = (found.mean - found.lower) / normal_quantile(1 - policy.alpha)
    difference = Difference(
        found.mean - 0.5, found.lower - 0.5, found.upper - 0.5, se, found.n, found.clusters
    )
    verdict = verdict_of(difference, policy.judge_margin, policy.min_clusters)
    text = words.preference(difference, verdict, policy)
    planned = _plan(vote.evidence, found, difference, policy)
    ways = {
        "anytime": "corrected for its errors, at whatever pair it stopped",
        "prediction-powered": "combined with the labels of people",
        "corrected": "corrected for its errors",
    }
    return Check(
        *head,
        verdict,
        f"{text} ({ways[found.method]})",
        difference.mean,
        difference.lower,
        difference.n,
        difference.clusters,
        power=planned.as_json() if planned else None,
        plan=words.sight(Rule("preference", policy.judge_margin), difference, planned) if planned else None,
    )


def _plan(
    evidence: Evidence, found: winrate.Rate, difference: Difference, policy: Policy
) -> plan.Plan | None:
    """What this many pairs can see; None where judging stops by itself."""
    if found.method == "anytime" or difference.clusters < 2:
        return None
    spread = difference.se * math.sqrt(difference.clusters)
    if found.method == "corrected":
        better, worse = ([item.verdict for item in evidence.known if item.truth == side] for side in (1, 0))
        lead_C = winrate.cluster_means(evidence.preferences, evidence.clusters)
        spread = float(lead_C.std(ddof=1)) / (sum(better) / len(better) - sum(worse) / len(worse))
    return plan.of_rate(difference, spread, policy.judge_margin, policy.alpha, policy.least_clusters)
