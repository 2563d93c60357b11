"""The two switches of MERA: running programs that a model wrote, and the classifiers of ruDetox."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from evals.items import Answer
from evals.mera import code, detox
from evals.suites import Task


@dataclass
class Outcomes:
    """`values`: task -> id -> metric -> value, for scores. `results`: task -> id -> what every sample of a
    program gave, for a submission.
    """

    values: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    results: dict[str, dict[str, list[list[str | None]]]] = field(default_factory=dict)


def gather(
    tasks: Sequence[Task],
    answers: Mapping[str, Sequence[Answer]],
    execute_code: bool = False,
    detox_scorers: Path | None = None,
) -> Outcomes:
    """What was allowed and is at hand; tasks that lack it are refused by name where they are scored.

    Raises `EvalError` when a named scorer cannot be read, or the tests of a program.
    """
    found = Outcomes()
    for task in tasks:
        if task.name not in answers:
            continue
        if task.spec.get("code") and execute_code:
            values, found.results[task.name] = code.outcomes(task, answers[task.name])
            if values:
                found.values[task.name] = values
        elif task.scored and detox_scorers is not None and "j" in task.spec.get("metrics", ()):
            found.values[task.name] = detox.outcomes(task, answers[task.name], detox_scorers)
    return found
