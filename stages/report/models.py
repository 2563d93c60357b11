"""The models of the report: the champion and every candidate, with all that was found out about them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stages.common.atomic import read_json

CHAMPION = "champion"


@dataclass(frozen=True)
class Estimate:
    """A value and its 95 % interval; a bound that nothing is known about is None."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Speed:
    """Times of one prompt length: milliseconds and tokens per second. `decode` is None with one new token."""

    first_ms: Estimate
    first_p95: float
    latency_ms: Estimate
    latency_p95: float
    prefill: Estimate
    decode: Estimate | None


@dataclass(frozen=True)
class Timing:
    """One row of the table of times; `measures` is measures.json or its part `on_cpu`."""

    measures: dict[str, Any]
    length: str
    speed: Speed


@dataclass(frozen=True)
class Grading:
    """Mean grades by one rubric, on its `scale`; `missing`: answers of both without a grade, by kind."""

    rubric: str
    scale: tuple[int, int]
    candidate: Estimate | None
    champion: Estimate | None
    difference: Estimate | None
    pairs: int
    missing: dict[str, int]


@dataclass(frozen=True)
class Model:
    """One row of every table. What was not measured is None or absent, never filled in."""

    name: str
    decision: dict[str, Any]
    scores: dict[str, Any] | None
    judge: dict[str, Any] | None
    measures: dict[str, Any] | None
    winner: bool = False
    passport: dict[str, Any] | None = None
    adaptation: dict[str, Any] = field(default_factory=dict)
    gaps: list[str] = field(default_factory=list)

    @property
    def champion(self) -> bool:
        """Whether this is the champion, which the candidates are compared with."""
        return self.name == CHAMPION

    @property
    def verdict(self) -> str | None:
        """The gate's verdict; None for the champion."""
        return self.decision.get("verdict")

    @property
    def total(self) -> Estimate | None:
        """Mean of the task scores, 0..1."""
        return estimate((self.scores or {}).get("total"))

    @property
    def bpc(self) -> dict[str, Estimate]:
        """Bits per character by language."""
        found = {name: estimate(item) for name, item in (self.scores or {}).get("bpc", {}).items()}
        return {name: value for name, value in sorted(found.items()) if value is not None}

    @property
    def tasks(self) -> dict[str, dict[str, Any]]:
        """Task results as scores.json has them."""
        return dict((self.scores or {}).get("tasks", {}))

    @property
    def preference(self) -> Estimate | None:
        """Probability, by the judge, that this model's answer is better than the champion's."""
        return estimate(self.judge, "preference")

    @property
    def grades(self) -> list[Grading]:
        """How the judge graded this model's and the champion's answers apart, by rubric."""
        return [_grading(name, found) for name, found in ((self.judge or {}).get("grades") or {}).items()]

    def measure(self, key: str) -> Any:
        """One number of measures.json, or None."""
        return (self.measures or {}).get(key)

    @property
    def cut(self) -> dict[str, Any] | None:
        """What the adaptation cut away, as the manifest has it; None for a model that was not cut."""
        return self.adaptation.get("removed")

    @property
    def removed_parameters(self) -> int | None:
        """Parameters that the model before the cut had and this one has not, cut or left out by `distill`."""
        own = self.measure("parameters")
        return None if self.cut is None or own is None else int(self.cut["parameters_before"]) - int(own)

    @property
    def removed_share(self) -> float | None:
        """The same as a share of the parameters before the cut."""
        removed = self.removed_parameters
        return None if self.cut is None or removed is None else removed / int(self.cut["parameters_before"])

    @property
    def speeds(self) -> dict[str, Speed]:
        """Times by prompt length; lengths that the model has no positions for are absent."""
        return speeds(self.measures)

    @property
    def timings(self) -> list[Timing]:
        """Everything timed, by device and prompt length; the CPU beside a GPU comes second."""
        found = []
        for measures in (self.measures, (self.measures or {}).get("on_cpu")):
            if measures:
                lengths = sorted(speeds(measures).items(), key=lambda item: int(item[0]))
                found += [Timing(measures, length, times) for length, times in lengths]
        return found


def estimate(item: dict[str, Any] | None, key: str = "value") -> Estimate | None:
    """`{value, ci: [lo, hi]}` as an `Estimate`; None when the value is absent."""
    if not item or item.get(key) is None:
        return None
    low, high = item.get("ci") or (None, None)
    return Estimate(float(item[key]), low, high)


def _grading(rubric: str, found: dict[str, Any]) -> Grading:
    missing: Counter[str] = Counter()
    for side in ("candidate", "champion"):
        missing.update(found[side]["missing"])
    low, high = found["scale"]
    ours, theirs, apart = (estimate(found[name]) for name in ("candidate", "champion", "difference"))
    return Grading(
        rubric, (low, high), ours, theirs, apart, found["difference"]["n"], dict(sorted(missing.items()))
    )


def speeds(measures: dict[str, Any] | None) -> dict[str, Speed]:
    """Times by prompt length, without the lengths that were refused."""
    return {
        length: speed(found) for length, found in ((measures or {}).get("prompts") or {}).items() if found
    }


def speed(found: dict[str, Any]) -> Speed:
    """One prompt length of measures.json."""
    first, latency = estimate(found["ttft_ms"], "p50"), estimate(found["latency_ms"], "p50")
    prefill = estimate(found["prefill_tokens_per_s"], "p50")
    assert first and latency and prefill
    return Speed(
        first,
        found["ttft_ms"]["p95"],
        latency,
        found["latency_ms"]["p95"],
        prefill,
        estimate(found["decode_tokens_per_s"], "p50"),
    )


def read_models(
    manifests: Mapping[str, Path], decision: dict[str, Any], root: Mapping[str, Path]
) -> list[Model]:
    """The champion first, then the candidates in the order of `manifests`, by name that of the checkpoint.

    `root` holds the folders `evaluate`, `judge` and `measure`. A file that is absent becomes a gap in words.
    """
    adaptations = {
        name: dict(read_json(path).get("lineage", {}).get("adaptation", {}))
        for name, path in manifests.items()
    }
    return [_read(name, decision, root, adaptations.get(name, {})) for name in (CHAMPION, *manifests)]


def read_beside(names: Sequence[str], evaluate: Path) -> list[Model]:
    """Models that were scored and are no candidates: anchors, and models behind an API."""
    found = []
    for name in names:
        path = evaluate / name / "scores.json"
        gaps = [] if path.is_file() else [f"{name}: evaluate has left no scores.json"]
        scores = None if gaps else dict(read_json(path))
        gaps += _not_in_the_total(name, scores)
        found.append(Model(name, {}, scores, None, None, gaps=gaps))
    return found


def _not_in_the_total(name: str, scores: dict[str, Any] | None) -> list[str]:
    missing = (scores or {}).get("total", {}).get("missing")
    return [f"{name}: not in the total: {', '.join(missing)}"] if missing else []


def _read(name: str, decision: dict[str, Any], root: Mapping[str, Path], adaptation: dict[str, Any]) -> Model:
    gaps: list[str] = []

    def get(stage: str, file: str) -> dict[str, Any] | None:
        path = root[stage] / name / file
        if path.is_file():
            return dict(read_json(path))
        gaps.append(f"{name}: {stage} has left no {file}")
        return None

    scores, measures = get("evaluate", "scores.json"), get("measure", "measures.json")
    # A judge that was never asked has none; then the summary says why.
    passport = root["judge"] / name / "passport.json"
    judge = None if name == CHAMPION else get("judge", "summary.json")
    gaps += _not_in_the_total(name, scores)
    if judge is not None and judge.get("preference") is None:
        gaps.append(f"{name}: not judged: {judge.get('reason') or 'the judge gave no reason'}")
    for reason in (measures or {}).get("reasons", {}).values():
        gaps.append(f"{name}: not measured: {reason}")
    entry = decision["champion"] if name == CHAMPION else decision["candidates"].get(name, {})
    if name != CHAMPION and not entry:
        gaps.append(f"{name}: the gate has given no verdict")
    winner = decision.get("winner") == name
    examined = dict(read_json(passport)) if passport.is_file() else None
    return Model(name, entry, scores, judge, measures, winner, examined, adaptation, gaps)


def shared_prompt(models: Sequence[Model]) -> str | None:
    """The longest prompt length, in tokens, timed for every model that has any times; None without one."""
    measured = [set(model.speeds) for model in models if model.speeds]
    shared = set.intersection(*measured) if measured else set()
    return max(shared, key=int, default=None)


def majority_total(models: Sequence[Model]) -> float | None:
    """What a model of constant best answers would have as total: the plain mean over tasks, 0..1."""
    for model in models:
        values = [task.get("majority") for task in model.tasks.values()]
        known = [float(value) for value in values if value is not None]
        if known and len(known) == len(values):
            return sum(known) / len(known)
    return None
