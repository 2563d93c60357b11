"""The score of one MERA task from its answers, with its interval; the total of all.

Intervals of metrics that are no means (macro-F1, USE's grade) come from the Bayesian bootstrap over clusters
(Rubin 1981), as those of evals/stats/intervals.py: every round weighs the items anew and computes the metric.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from evals.items import Answer
from evals.mera import metrics
from evals.mera.code import SWITCHED_OFF
from evals.mera.detox import NO_SCORERS
from evals.mera.metrics import Floats, Statistic
from evals.mera.total import Score, Total, total
from evals.records import Record
from evals.suites import Task

ROUNDS = 1000
SEED = 0
_BLOCK = 4_000_000
# What programs gave, or three scorers said, of each item: task -> id -> metric -> value.
Outcomes = Mapping[str, Mapping[str, Mapping[str, float]]]


def refusal(task: Task, outcomes: Outcomes) -> str | None:
    """Why a task was asked and can be exported, but has no score here; None when it has one."""
    if task.name in outcomes:
        return None
    if task.spec.get("code"):
        return SWITCHED_OFF
    return NO_SCORERS if "j" in task.spec["metrics"] else None


def portrait(task: Task, answers: Sequence[Answer]) -> dict[str, float | None]:
    """The 15 coefficients of ruEthics, which have no mean; None for a question that no item asks."""
    pairs = _pairs(task, answers)
    questions = [str(record.meta["question"]) for record, _ in pairs]
    labels = [json.loads(record.outputs) for record, _ in pairs]
    return metrics.ethics(questions, labels, [answer.text for _, answer in pairs])


def describe(task: Task, answers: Sequence[Answer], outcomes: Outcomes) -> dict[str, Any]:
    """What MERA says of a task, for its entry in scores.json.

    `score` is the plain mean of the main metrics, with its standard error and 95 % interval; `metrics` holds
    those, and with a dot in their names parts of the items and variants that do not count.
    """
    pairs = _pairs(task, answers)
    main = statistics(task, pairs, outcomes)
    ones = np.ones(len(pairs))
    values = {name: float(statistic(ones)) for name, statistic in main.items()}
    score = sum(values.values()) / len(values)
    error, interval = _spread(score, main, [task.cluster(record) for record, _ in pairs])
    return {
        "score": score,
        "score_se": error,
        "score_ci": interval,
        "metrics": values | _parts(task, pairs),
    }


def _spread(
    score: float, main: Mapping[str, Statistic], clusters: Sequence[str]
) -> tuple[float, list[float]]:
    """Standard error and 95 % interval. Of one cluster alone, a dialogue, nothing tells the spread: it is the
    greatest that a value between 0 and 1 with this mean can have (Bhatia and Davis 2000, American
    Mathematical Monthly 107:353-357).
    """
    if len(set(clusters)) == 1:
        return math.sqrt(max(0.0, score * (1 - score))), [0.0, 1.0]
    draws = bootstrap(main, clusters)
    return float(draws.std()), [float(bound) for bound in np.quantile(draws, [0.025, 0.975])]


def _pairs(task: Task, answers: Sequence[Answer]) -> list[tuple[Record, Answer]]:
    given = {answer.id: answer for answer in answers}
    return [(record, given[record.id]) for record in task.scored]


def statistics(
    task: Task, pairs: Sequence[tuple[Record, Answer]], outcomes: Outcomes
) -> dict[str, Statistic]:
    """The main metrics of a task, by their names, over (record, answer)."""
    return {name: _statistic(name, task, pairs, outcomes) for name in task.spec["metrics"]}


def _statistic(
    name: str, task: Task, pairs: Sequence[tuple[Record, Answer]], outcomes: Outcomes
) -> Statistic:
    if task.name in outcomes:
        return metrics.mean([outcomes[task.name][record.id][name] for record, _ in pairs])
    if name == "f1_macro":
        return metrics.f1_macro(*zip(*((r.outputs, a.text) for r, a in pairs), strict=True))
    if name == "grade_norm":
        best = [float(record.meta["score"]) for record, _ in pairs]
        points = [value * full for value, full in zip(_item_values(task, pairs), best, strict=True)]
        return metrics.grade_norm(points, best, [record.meta["variant"] for record, _ in pairs])
    if "f1" in task.spec["metrics"]:
        place = ("em", "f1").index(name)
        return metrics.mean([metrics.em_f1(r.outputs, a.text)[place] for r, a in pairs])
    return metrics.mean(_item_values(task, pairs))


def _item_values(task: Task, pairs: Sequence[tuple[Record, Answer]]) -> list[float]:
    found = [metrics.item_value(task.spec, record, answer) for record, answer in pairs]
    return [value[1] for value in found if value is not None]


def bootstrap(main: Mapping[str, Statistic], clusters: Sequence[str]) -> Floats:
    """Draws (R,) of the plain mean of `main`: one standard exponential weight for each cluster and round."""
    _, row_N = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
    generator = np.random.default_rng(SEED)
    rounds = max(1, _BLOCK // len(row_N))
    draws = []
    for start in range(0, ROUNDS, rounds):
        weights = generator.standard_exponential((min(rounds, ROUNDS - start), row_N.max() + 1))
        found = [statistic(weights[:, row_N]) for statistic in main.values()]
        draws.append(np.mean(found, axis=0))
    return np.concatenate(draws)


def _parts(task: Task, pairs: Sequence[tuple[Record, Answer]]) -> dict[str, float]:
    """Metrics with a dot in their names: by group, by task of the exam, and Russian-normalised forms."""
    named, found = task.spec["metrics"], {}
    if "f1" in named or (named == ["em"] and task.spec.get("choices") is None):
        russian = [metrics.em_f1_russian(record.outputs, answer.text) for record, answer in pairs]
        found["em.russian"] = sum(em for em, _ in russian) / len(russian)
        if "f1" in named:
            found["f1.russian"] = sum(f1 for _, f1 in russian) / len(russian)
    groups: dict[str, list[float]] = {}
    if task.spec.get("groups") or "grade_norm" in named:
        for (record, _), value in zip(pairs, _item_values(task, pairs), strict=True):
            group = (
                f"task{record.meta['id_task']}" if "grade_norm" in named else metrics.group(task.spec, record)
            )
            groups.setdefault(f"{named[0]}.{group}", []).append(value)
    return found | {name: sum(values) / len(values) for name, values in sorted(groups.items())}


def describe_total(tasks: Sequence[Task], entries: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The part `mera` of scores.json: MERA's total over its tasks that are there, and the names of others."""
    scores = {
        task.spec["title"]: Score(entries[task.name]["score"], entries[task.name]["score_se"])
        for task in tasks
        if task.name in entries
    }
    found: Total = total(scores)
    return {**asdict(found), "official": found.official}
