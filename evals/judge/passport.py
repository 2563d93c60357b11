"""How far a judge can be trusted: what it did on labelled pairs, against thresholds that were set beforehand.

A passport is bound to the judge's identity and its rubric; it says nothing about another one. Each number has
a 95 % interval; one that could not be measured has the reason instead, and a threshold on it is not met.

| measure | what it is |
|---|---|
| consistency | share of asked pairs with the same winner in both orders |
| primacy | share of pairs whose first-shown answer won both times, minus the share whose second-shown did |
| accuracy | share of right verdicts, mean over both orders, a tie as a half, on pairs with a better answer |
| kappa | Cohen's, of the judge's outcome (what won in both orders, else a tie) with the label |
| sensitivity, specificity | share of outcomes that are right where `ours`, and where `theirs` is better |
| alpha | Krippendorff's, of three or more raters among themselves |
| alternative | share of raters that the judge may stand in for (`evals.stats.annotators`) |
| missing, unparsable | shares of pairs without a verdict, and of verdicts that cannot be read |
| injection | share of right verdicts that are lost to an instruction inside the wrong answer |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from evals.errors import EvalError
from evals.judge.labelled import VALUE, Labelled
from evals.judge.probes import Probe
from evals.judge.protocol import Identity
from evals.judge.verdicts import Missing, Verdict, tally
from evals.stats import agreement, annotators, binary, intervals
from evals.stats.correction import Known
from evals.stats.intervals import Interval

SCHEMA = 1
SEED = 0
INJECTIONS = "injection"
Raters = Literal["expert", "trained", "crowd"]
Limit = Literal["at_least", "at_most", "lower_bound", "upper_bound"]
Name = Literal[
    "consistency",
    "primacy",
    "accuracy",
    "kappa",
    "sensitivity",
    "specificity",
    "alpha",
    "alternative",
    "missing",
    "unparsable",
    "injection",
]
# What the pairs of a comparison show as well as labelled ones do.
UNLABELLED: tuple[Name, ...] = ("consistency", "primacy", "missing", "unparsable")
Results = Sequence[Verdict | Missing]


@dataclass(frozen=True)
class Measure:
    """A number with its 95 % interval and the number of items behind it; or the reason why there is none."""

    value: float | None = None
    lo: float | None = None
    hi: float | None = None
    n: int = 0
    reason: str = ""

    @staticmethod
    def of(found: Interval) -> Measure:
        """An interval as a measure."""
        low, high = found.pair()
        return Measure(found.mean, low, high, found.n)

    def pair(self) -> list[float | None] | None:
        """`[lo, hi]`; None where nothing was measured."""
        return None if self.value is None else [self.lo, self.hi]


@dataclass(frozen=True)
class Threshold:
    """What a measure, or a bound of its interval, must keep to, and where that number comes from."""

    measure: Name
    limit: Limit
    value: float
    source: str

    def failure(self, found: Measure) -> str | None:
        """Why `found` does not meet it, in words; None when it does."""
        if found.value is None:
            return f"{self.measure} is not known: {found.reason}"
        seen = {"lower_bound": found.lo, "upper_bound": found.hi}.get(self.limit, found.value)
        upwards = self.limit in ("at_least", "lower_bound")
        if seen is not None and (seen >= self.value if upwards else seen <= self.value):
            return None
        what = {"lower_bound": "the lower bound of ", "upper_bound": "the upper bound of "}.get(
            self.limit, ""
        )
        said = "nothing known" if seen is None else f"{seen:.3f}"
        side = "at least" if upwards else "at most"
        return f"{what}{self.measure} is {said} on {found.n} pairs, {side} {self.value:g} is asked for"


def without_labels(results: Results) -> dict[Name, Measure]:
    """The measures of `UNLABELLED`, for any pairs that a judge was asked about."""
    asked = [result for result in results if isinstance(result, Missing) or result.asked]
    counts = tally(asked)
    lost = counts.missing.get("unparsable", 0)
    verdicts = [result for result in asked if isinstance(result, Verdict)]
    same = [float(bool(verdict.consistent)) for verdict in verdicts]
    taste = [_taste(verdict) for verdict in verdicts]
    clusters = [verdict.cluster for verdict in verdicts]
    return {
        "consistency": _mean(same, clusters, intervals.UNIT),
        "primacy": _mean(taste, clusters, intervals.UNIT_DIFFERENCE),
        "missing": _share(len(asked) - counts.judged, len(asked)),
        "unparsable": _share(lost, counts.judged + lost),
    }


def measure(
    results: Results, labelled: Sequence[Labelled], probes: Sequence[Probe], raters: Raters
) -> dict[Name, Measure]:
    """Everything that a passport holds; `results` are the judge's on `labelled`, in their order.

    `raters`: who labelled, which sets the discount of the alternative annotator test.
    """
    judged = [
        (result, known)
        for result, known in zip(results, labelled, strict=True)
        if isinstance(result, Verdict)
    ]
    better = [(verdict, known) for verdict, known in judged if known.truth != "tie"]
    hits = [_hit(verdict, known) for verdict, known in better]
    flips = [flip for probe in probes if probe.name.startswith(INJECTIONS) for flip in probe.flips]
    return {
        **without_labels(results),
        "accuracy": _mean(hits, [verdict.cluster for verdict, _ in better], intervals.UNIT),
        "kappa": _try(
            lambda: agreement.cohen_kappa(
                [verdict.outcome for verdict, _ in judged],
                [known.truth for _, known in judged],
                clusters=[verdict.cluster for verdict, _ in judged],
                seed=SEED,
            )
        ),
        "sensitivity": _detected(better, "ours"),
        "specificity": _detected(better, "theirs"),
        **_against_raters([verdict for verdict, _ in judged], labelled, raters),
        "injection": _mean(
            [float(flipped) for *_, flipped in flips], [cluster for _, cluster, _ in flips], intervals.UNIT
        ),
    }


def _taste(verdict: Verdict) -> float:
    """1 when the first-shown answer won in both orders, -1 when the second-shown did, else 0."""
    if verdict.outcomes == ("ours", "theirs"):
        return 1.0
    return -1.0 if verdict.outcomes == ("theirs", "ours") else 0.0


def _hit(verdict: Verdict, known: Labelled) -> float:
    """The share of both orders in which the better answer won, a tie as a half."""
    ours = sum(VALUE[outcome] for outcome in verdict.outcomes) / 2
    return ours if known.truth == "ours" else 1 - ours


def _mean(values: Sequence[float], clusters: Sequence[str], bounds: intervals.Bounds) -> Measure:
    if not values:
        return Measure(reason="there is no such pair")
    return Measure.of(intervals.cluster_interval(values, clusters, seed=SEED, bounds=bounds))


def _share(count: int, of: int) -> Measure:
    if not of:
        return Measure(reason="nothing was asked")
    return Measure(count / of, *binary.wilson(count, of), of)


def _detected(better: Sequence[tuple[Verdict, Labelled]], side: Literal["ours", "theirs"]) -> Measure:
    found = [(verdict.outcome == side, verdict.cluster) for verdict, known in better if known.truth == side]
    if not found:
        return Measure(reason=f"there is no pair whose `{side}` is better")
    right, clusters = zip(*found, strict=True)
    return _mean([float(hit) for hit in right], clusters, intervals.UNIT)


def _try(compute: Callable[[], Interval]) -> Measure:
    try:
        return Measure.of(compute())
    except EvalError as error:
        return Measure(reason=str(error))


def _against_raters(
    verdicts: Sequence[Verdict], labelled: Sequence[Labelled], raters: Raters
) -> dict[Name, Measure]:
    """Krippendorff's alpha and the alternative annotator test, where three or more people labelled."""
    votes = [(known.pair.id, rater, outcome) for known in labelled for rater, outcome in known.votes]
    people = {rater for _, rater, _ in votes}
    if len(people) < annotators.MIN_RATERS:
        few = Measure(reason=f"{annotators.MIN_RATERS} raters are needed, there is {len(people)}")
        return {"alpha": few, "alternative": few}
    items, names, outcomes = (list(column) for column in zip(*votes, strict=True))
    alpha = _try(lambda: agreement.krippendorff_alpha(items, outcomes, seed=SEED))

    def beaten() -> Interval:
        found = annotators.alternative_annotator(
            items, names, outcomes, {v.id: v.outcome for v in verdicts}, annotators.EPSILON[raters]
        )
        count = len(found.raters)
        return Interval(found.omega, *binary.wilson(found.omega * count, count), count, count)

    return {"alpha": alpha, "alternative": _try(beaten)}


@dataclass(frozen=True)
class Passport:
    """The measures of one judge, the thresholds, and whether they are all met.

    `truth`: `people` or `generator`, who says which answer is better. `pairs`: how many labelled pairs.
    """

    identity: Identity
    truth: str
    pairs: int
    measures: Mapping[Name, Measure]
    thresholds: Sequence[Threshold]
    probes: Sequence[Probe] = ()

    @property
    def failures(self) -> list[str]:
        """Why it is not valid: one line a threshold that is not met."""
        found = (threshold.failure(self.measures[threshold.measure]) for threshold in self.thresholds)
        return [why for why in found if why]

    def as_json(self) -> dict[str, Any]:
        """The content of passport.json."""
        return {
            "schema": SCHEMA,
            "judge": {**asdict(self.identity), "digest": self.identity.digest},
            "truth": self.truth,
            "pairs": self.pairs,
            "measures": {name: asdict(found) for name, found in self.measures.items()},
            "thresholds": [asdict(threshold) for threshold in self.thresholds],
            "probes": {probe.name: _probe(probe) for probe in self.probes},
            "valid": not self.failures,
            "reasons": self.failures,
        }


def _probe(probe: Probe) -> dict[str, Any]:
    told = {"right": probe.right, "flipped": probe.flipped, "wrong": probe.wrong, "missing": probe.missing}
    clusters = [cluster for _, cluster, _ in probe.flips]
    rate = _mean([float(flipped) for *_, flipped in probe.flips], clusters, intervals.UNIT)
    return {**told, "rate": rate.value, "ci": rate.pair()}


def none(reason: str) -> dict[str, Any]:
    """The passport.json of a judge that was not examined."""
    return {"schema": SCHEMA, "judge": None, "valid": False, "reasons": [reason]}


def refusal(told: Any, digest: str | None, rubric: str | None) -> str | None:
    """Why a passport.json does not let the judge `digest` with `rubric` vote; None when it does."""
    if not isinstance(told, dict) or told.get("schema") != SCHEMA or "valid" not in told:
        return "its passport is not of this version; run `dvc repro`"
    if told["valid"] is not True:
        return f"no valid passport: {'; '.join(told.get('reasons') or ['no reason given'])}"
    bound = told.get("judge") or {}
    if digest is None or bound.get("digest") != digest:
        return f"the passport is another judge's ({str(bound.get('digest'))[:12]})"
    if rubric is None or bound.get("rubric") != rubric:
        return f"the passport is for another rubric ({str(bound.get('rubric'))[:12]})"
    return None


def known(results: Results, labelled: Sequence[Labelled]) -> list[Known]:
    """The judge's verdicts on the labelled pairs that it was asked about: what tells of its errors."""
    return [
        Known(result.preference, VALUE[item.truth], item.pair.cluster)
        for result, item in zip(results, labelled, strict=True)
        if isinstance(result, Verdict) and result.asked
    ]
