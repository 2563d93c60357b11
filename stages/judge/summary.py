"""summary.json: what the judge prefers, behind its errors and at equal lengths, and whether it may vote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evals.judge.juries import Ballot
    from evals.judge.labelled import Labelled
    from evals.judge.passport import Measure, Passport
    from evals.judge.verdicts import Missing, Pair, Verdict
    from evals.judge.winrate import Evidence

ALPHA = 0.025  # one-sided, for 95 % intervals
SEED = 0


@dataclass(frozen=True)
class Examined:
    """A judge's passport, and its results on the labelled pairs, in their order."""

    passport: Passport
    known: Sequence[Labelled]
    results: Sequence[Verdict | Missing]

    def labels_of(self, pairs: Sequence[Pair]) -> list[float | None]:
        """What people say of `pairs`; the generator says nothing of models' answers."""
        from evals.judge import labelled

        return labelled.labels_of(self.known if self.passport.truth == "people" else [], pairs)

    def evidence(
        self, results: Sequence[Verdict | Missing], labels: Sequence[float | None], sequential: bool
    ) -> Evidence:
        """The verdicts among `results` with what the labelled pairs tell of the judge's errors."""
        from evals.judge import passport
        from evals.judge.verdicts import Verdict
        from evals.judge.winrate import Evidence

        told = [
            (result, label)
            for result, label in zip(results, labels or [None] * len(results), strict=True)
            if isinstance(result, Verdict)
        ]
        return Evidence(
            [verdict.preference for verdict, _ in told],
            [verdict.cluster for verdict, _ in told],
            [verdict.asked for verdict, _ in told],
            [label for _, label in told],
            passport.known(self.results, self.known),
            sequential,
        )


def build(
    pairs: Sequence[Pair],
    ballots: Sequence[Ballot[Verdict]],
    labels: Sequence[float | None],
    examined: Examined,
    sequential: bool,
) -> dict[str, Any]:
    """Everything of summary.json but who was compared and who was left out."""
    from evals.judge import passport
    from evals.judge.verdicts import Missing, tally

    results = [ballot.result for ballot in ballots]
    late = sum(isinstance(result, Missing) and result.kind == "not_asked" for result in results)
    reached = [
        result for result in results if not (isinstance(result, Missing) and result.kind == "not_asked")
    ]
    here, there = passport.without_labels(reached), examined.passport.measures
    evidence = examined.evidence(results, labels, sequential and not examined.passport.failures)
    rates = _rates(pairs, results, evidence)
    counts, identity = tally(reached), examined.passport.identity
    reason = _reason(examined.passport, here, rates)
    return {
        "judge": {
            "kind": identity.kind,
            "name": identity.name,
            "digest": identity.digest,
            "rubric": identity.rubric,
        },
        "votes": reason is None,
        "reason": reason or f"its passport is valid ({examined.passport.pairs} labelled pairs)",
        "truth": examined.passport.truth,
        "sequential": evidence.sequential,
        "pairs": counts.judged,
        "asked": here["consistency"].n,
        "not_asked": late,
        "unjudged": len(reached) - counts.judged,
        "missing": counts.missing,
        "clusters": len(set(evidence.clusters)),
        "win_rate": rates,
        "preference": rates["raw"].get("value"),
        "ci": rates["raw"].get("ci"),
        "consistency": here["consistency"].value,
        "primacy": here["primacy"].value,
        "primacy_ci": here["primacy"].pair(),
        "accuracy": there["accuracy"].value,
        "accuracy_ci": there["accuracy"].pair(),
        "truth_consistency": there["consistency"].value,
    }


def silent(reason: str) -> dict[str, Any]:
    """summary.json of a comparison that nobody judged."""
    nothing = ("preference", "ci", "consistency", "primacy", "primacy_ci", "accuracy", "accuracy_ci")
    counts = ("pairs", "asked", "not_asked", "unjudged", "clusters")
    return {
        "judge": {"kind": "none", "digest": None},
        "votes": False,
        "reason": reason,
        **dict.fromkeys(nothing),
        **dict.fromkeys(counts, 0),
    }


def _reason(found: Passport, here: Mapping[Any, Measure], rates: dict[str, Any]) -> str | None:
    """Why the judge may not vote, in one line; None when it may.

    What it shows on these pairs is held to the thresholds of its passport as well.
    """
    from evals.judge.passport import UNLABELLED

    if found.failures:
        return f"no valid passport: {'; '.join(found.failures)}"
    if not here["consistency"].n:
        return "there was nothing to judge: no question, no verdict, or equal answers everywhere"
    limits = [threshold for threshold in found.thresholds if threshold.measure in UNLABELLED]
    if why := [said for limit in limits if (said := limit.failure(here[limit.measure]))]:
        return f"on the answers compared here {'; '.join(why)}"
    return rates["corrected"].get("reason")


def _rates(pairs: Sequence[Pair], results: Sequence[Verdict | Missing], evidence: Evidence) -> dict[str, Any]:
    """Raw, corrected and length-controlled win rates with 95 % intervals, or the reason without one."""
    from evals.errors import EvalError
    from evals.judge import winrate
    from evals.judge.verdicts import Verdict
    from evals.stats import intervals
    from evals.stats.length_control import length_controlled

    if not evidence.preferences:
        nothing = {"reason": "there is no verdict"}
        return {"raw": nothing, "corrected": nothing, "length_controlled": nothing}
    raw = intervals.cluster_interval(
        evidence.preferences, evidence.clusters, seed=SEED, bounds=intervals.UNIT
    )
    corrected: dict[str, Any]
    try:
        found = winrate.rate(evidence, ALPHA)
        corrected = {"value": found.mean, "ci": [found.lower, found.upper], "method": found.method}
    except EvalError as error:
        corrected = {"reason": str(error)}
    judged = [pair for pair, result in zip(pairs, results, strict=True) if isinstance(result, Verdict)]
    lengths = ([len(pair.ours) for pair in judged], [len(pair.theirs) for pair in judged])
    level = length_controlled(evidence.preferences, *lengths, evidence.clusters, seed=SEED)
    return {
        "raw": {"value": raw.mean, "ci": raw.pair()},
        "corrected": corrected,
        "length_controlled": {
            "value": level.controlled.mean,
            "ci": level.controlled.pair(),
            "taste_for_length": level.phi.mean,
            "taste_ci": level.phi.pair(),
        },
    }


def self_preference(
    ballots: Sequence[Ballot[Verdict]],
    witnesses: Mapping[str, Sequence[Verdict | Missing]],
    sides: Mapping[str, str],
) -> dict[str, Any]:
    """By how much each witness prefers its own side more than the voting judges do (docs/statistics.md).

    A witness is a judge that descends from the base of one side alone, that of `sides`; it does not vote.
    """
    from evals.judge.verdicts import Verdict
    from evals.stats import preference

    told: dict[str, dict[str, Any]] = {}
    for name, results in witnesses.items():
        both = [
            (own, ballot.result)
            for own, ballot in zip(results, ballots, strict=True)
            if isinstance(own, Verdict) and isinstance(ballot.result, Verdict) and own.asked
        ]
        if not both:
            told[name] = {"own": sides[name], "reason": "there is no pair that it and the others have judged"}
            continue
        turn = sides[name] == "champion"
        own, others = (
            [1 - verdict.preference if turn else verdict.preference for verdict in column]
            for column in zip(*both, strict=True)
        )
        found = preference.self_preference(own, others, [verdict.cluster for verdict, _ in both], seed=SEED)
        told[name] = {"own": sides[name], "value": found.mean, "ci": found.pair(), "pairs": found.n}
    return told
