"""What the templates see: every section of the page as plain values, every judgement already made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stages.report.curve import Curve
from stages.report.data import Data
from stages.report.models import Estimate, Model, estimate
from stages.report.provenance import Provenance
from stages.report.wording import count, percent

GLYPHS = {"pass": "✓", "fail": "✗", "not comparable": "≠", "not enough data": "?"}


@dataclass(frozen=True)
class TaskScore:
    """One task of one model. `beats` is whether its whole interval lies above what needs no model."""

    found: Estimate
    beats: bool


@dataclass(frozen=True)
class TaskLine:
    """One task for all models, in their order; None where a model has no score."""

    name: str
    language: str
    metric: str
    n: int
    majority: float | None
    chance: float | None
    scores: list[TaskScore | None]


@dataclass(frozen=True)
class Page:
    """Everything on the page."""

    decision: dict[str, Any]
    models: list[Model]
    beside: list[Model]
    prompt: str | None
    majority: float | None
    curve: Curve
    data: Data
    provenance: Provenance
    gate: Any
    pictures: dict[str, str | None]

    @property
    def winner(self) -> Model | None:
        """The candidate that the gate chose."""
        return next((model for model in self.models if model.winner), None)

    @property
    def champion(self) -> Model:
        """What the candidates are compared with."""
        return self.models[0]

    @property
    def candidates(self) -> list[Model]:
        """All but the champion."""
        return self.models[1:]

    @property
    def scored(self) -> list[Model]:
        """All that answered the tasks: the models, then those scored beside them."""
        return [*self.models, *self.beside]

    @property
    def counts(self) -> list[tuple[str, int]]:
        """How many candidates got each verdict, none left out but those that nobody got."""
        verdicts = [model.verdict for model in self.candidates]
        return [(verdict, verdicts.count(verdict)) for verdict in GLYPHS if verdict in verdicts]

    @property
    def reason(self) -> str:
        """Why there is this winner, or none, as a sentence."""
        text = str(self.decision["winner_reason"]).removeprefix(f"{self.decision['winner']}: ")
        return f"{text[:1].upper()}{text[1:]}."

    def decode(self, model: Model) -> float | None:
        """Tokens per second of decoding at the prompt length that all models share."""
        times = model.speeds.get(self.prompt) if self.prompt else None
        return times.decode.value if times and times.decode else None

    @property
    def champion_name(self) -> str:
        """Version of the champion, or that it is the base model: nothing has been promoted yet."""
        version = self.decision["champion"].get("version")
        return "the base model (nothing promoted yet)" if version is None else f"version {version}"

    @property
    def champion_digest(self) -> str | None:
        """Digest of the weights that the candidates were compared with."""
        known = self.decision["champion"]
        return known.get("digest") or known.get("compared")

    @property
    def languages(self) -> list[str]:
        """Languages with bits per character, Russian first."""
        found = {language for model in self.models for language in model.bpc}
        return sorted(found, key=lambda language: (language != "ru", language))

    @property
    def largest(self) -> int | None:
        """Bytes of the largest model, for the unit of the column of sizes."""
        known = [model.measure("bytes") for model in self.models]
        return max((value for value in known if value is not None), default=None)

    @property
    def cut(self) -> str | None:
        """What the adaptation removed, as a sentence; None when it removed nothing."""
        model = next((model for model in self.candidates if model.cut), None)
        if model is None or model.cut is None:
            return None
        found, told = model.cut, model.adaptation
        asked, before, after = (percent(found[key]) for key in ("asked", "before_rounding", "after_rounding"))
        return (
            f"{told['method']} trained {count(told['trainable_parameters'])} parameters and removed "
            f"{count(found['removed_parameters'])} of {count(found['parameters_before'])}: {after} % of the "
            f"{count(found['gateable_parameters'])} that it may remove, {before} % before widths were "
            f"rounded, {asked} % were asked for."
        )

    @property
    def prompts(self) -> list[str]:
        """Prompt lengths that any model was measured with, ascending."""
        return sorted({length for model in self.models for length in model.speeds}, key=int)

    @property
    def gpu(self) -> bool:
        """Whether anything was measured on a GPU."""
        return any(
            timing.measures.get("device") == "cuda" for model in self.models for timing in model.timings
        )

    @property
    def new_tokens(self) -> int | None:
        """How many tokens every timed run generated."""
        for model in self.models:
            for found in ((model.measures or {}).get("prompts") or {}).values():
                if found:
                    return int(found["new_tokens"])
        return None

    @property
    def machine(self) -> str:
        """The machine of the measurements in words."""
        measures = next((model.measures for model in self.models if model.measures), None)
        if measures is None:
            return "not measured"
        machine = measures["machine"]
        parts = [
            machine.get("gpu"),
            machine.get("cpu"),
            f"{machine.get('cores')} cores",
            "1 thread used" if machine.get("threads") == 1 else f"{machine.get('threads')} threads used",
            f"torch {machine.get('torch')}",
        ]
        return ", ".join(str(part) for part in parts if part)

    @property
    def baseline(self) -> int | None:
        """Peak memory before the model was loaded, the least that any model's process had."""
        known = [model.measure("baseline_rss_bytes") for model in self.models]
        return min((value for value in known if value is not None), default=None)

    @property
    def busy(self) -> str | None:
        """A warning when other processes took time on the machine that was measured."""
        machines = [model.measures["machine"] for model in self.models if model.measures]
        loads = [machine["load_average"] for machine in machines if machine.get("load_average") is not None]
        cores = [machine["logical_cores"] for machine in machines if machine.get("logical_cores")]
        if not loads or not cores or max(loads) <= 1.5 * min(cores):
            return None
        return (
            f"The machine was busy with other work (load average up to {max(loads):.1f} on {min(cores)} "
            "logical cores): times are longer than on an idle one."
        )

    @property
    def judged(self) -> list[Model]:
        """Candidates whose answers the judge compared with the champion's."""
        return [model for model in self.candidates if model.preference]

    @property
    def graded(self) -> list[Model]:
        """Candidates whose answers the judge graded apart."""
        return [model for model in self.candidates if model.grades]

    @staticmethod
    def lacking(missing: dict[str, int]) -> str:
        """`3 unparsable, 1 server`; `0` where nothing is missing."""
        return ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in missing.items()) or "0"

    @staticmethod
    def vote(model: Model) -> str:
        """Whether the judge's preference counts at the gate, and why not."""
        judge = model.judge or {}
        return "votes" if judge.get("votes") else f"does not vote: {judge.get('reason') or 'no reason given'}"

    @property
    def no_judge(self) -> str:
        """Why no candidate was judged."""
        reasons = sorted({str(model.judge.get("reason")) for model in self.candidates if model.judge})
        known = [reason for reason in reasons if reason != "None"]
        return f"No candidate was judged{': ' + '; '.join(known) if known else ''}."

    @staticmethod
    def accuracy(model: Model) -> Estimate | None:
        """How often the judge prefers the true answer to a wrong one, by the generator's truth."""
        judge = model.judge or {}
        return estimate({"value": judge.get("accuracy"), "ci": judge.get("accuracy_ci")})

    @staticmethod
    def passport(model: Model) -> str | None:
        """Whether the judge of this candidate's answers has a valid passport, and by whose truth."""
        found = model.passport
        if found is None:
            return None
        if found.get("valid") is not True:
            return f"no valid passport: {'; '.join(found.get('reasons') or ['no reason given'])}"
        return f"valid passport, by {found.get('pairs')} pairs labelled by {found.get('truth')}"

    @staticmethod
    def rule(check: dict[str, Any]) -> str:
        """What a check is about: `non-inferiority of total to champion`, `floor of truth`."""
        about = "" if check["metric"] in ("bytes", check["rule"]) else f" of {check['metric']}"
        against = check.get("against")
        return f"{check['rule'].replace('_', ' ')}{about}{f', {against}' if against else ''}"

    @staticmethod
    def power(model: Model) -> str | None:
        """How likely an equal model would have held every comparison; None where nobody knows."""
        bounds = model.decision.get("equal_passes_all")
        if not bounds:
            return None
        low, high = (f"{100 * value:.0f} %" for value in bounds)
        chance = low if low == high else f"between {low} and {high}"
        return (
            "The probability that a model exactly as good, and as different item by item, holds every "
            f"comparison is {chance}."
        )

    def digest(self, model: Model) -> str | None:
        """Digest of the weights of `model`."""
        if model.champion:
            return self.champion_digest
        known = model.decision.get("digest")
        return known if known is None else str(known)

    @property
    def tasks(self) -> list[TaskLine]:
        """Every task that any model was scored on, by language and name."""
        known: dict[str, dict[str, Any]] = {}
        for model in self.scored:
            for name, task in model.tasks.items():
                known.setdefault(name, task)
        lines = [self._line(name, task) for name, task in known.items()]
        return sorted(lines, key=lambda line: (line.language != "ru", line.language, line.name))

    def _line(self, name: str, task: dict[str, Any]) -> TaskLine:
        baselines = [task[key] for key in ("majority", "chance") if task.get(key) is not None]
        scores = [_score(model.tasks.get(name), baselines) for model in self.scored]
        return TaskLine(
            name,
            task.get("language", ""),
            task["metric"],
            task["n"],
            task.get("majority"),
            task.get("chance"),
            scores,
        )

    @property
    def gaps(self) -> list[str]:
        """What is missing, in words; a sentence that several models share is said once."""
        found: dict[str, list[str]] = {}
        for model in self.scored:
            for gap in model.gaps:
                name, _, sentence = gap.partition(": ")
                found.setdefault(sentence, []).append(name)
        return [f"{', '.join(names)}: {sentence}" for sentence, names in found.items()]

    @staticmethod
    def glyph(verdict: str | None) -> str:
        """A sign that tells the verdict without colour."""
        return GLYPHS.get(verdict or "", "·")

    @staticmethod
    def held(model: Model) -> list[str]:
        """Sentences of the checks that the candidate did not pass."""
        return [check["text"] for check in model.decision.get("checks", []) if check["verdict"] != "pass"]

    @staticmethod
    def notes(model: Model) -> list[str]:
        """What the gate says about the candidate beside its checks."""
        texts = {check["text"] for check in model.decision.get("checks", [])}
        return [reason for reason in model.decision.get("reasons", []) if reason not in texts]


def _score(task: dict[str, Any] | None, baselines: list[float]) -> TaskScore | None:
    if task is None or task.get("value") is None:
        return None
    found = estimate(task)
    assert found
    return TaskScore(found, found.low is not None and all(found.low > baseline for baseline in baselines))
