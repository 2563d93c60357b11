"""From per-item values to scores.json: task scores beside what they must beat, total, bits per character."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evals import baselines
from evals.bpc import Bits
from evals.items import Item
from evals.mera import score
from evals.minimal_pairs import TASK as PAIRS_TASK
from evals.minimal_pairs import Pair
from evals.results import Results
from evals.stats import intervals
from evals.suites import Suite, Task

ROUNDS = 2000
SEED = 0


def describe(
    suite: Suite, results: Results, pair_items: Sequence[Item], outcomes: score.Outcomes | None = None
) -> dict[str, Any]:
    """The parts `tasks`, `total`, `mera`, `portraits`, `refused` and `ignored` of scores.json.

    Intervals are 95 %, over clusters. `majority` is the best constant answer on the same items, `chance` a
    uniform guess. The total is the plain mean of the means of the tasks' items, whatever their sizes;
    `missing` names tasks of the suites that were not scored. `mera` is MERA's own total, where a suite has
    tasks of it. `outcomes`: what programs gave, or classifiers said, for the tasks that need them; without,
    those tasks are refused by name.
    """
    tasks, refused = {}, suite.refused | results.refused
    portraits: dict[str, dict[str, float | None]] = {}
    for task in suite.tasks:
        if task.name in results.refused:
            continue
        reason = _unscored(task, outcomes or {})
        if reason is not None:
            refused[task.name] = reason
        elif task.spec.get("answer") == "labels":
            portraits[task.name] = score.portrait(task, results.answers[task.name])
        else:
            tasks[task.name] = _task(task, results, outcomes or {})
    if suite.pairs and PAIRS_TASK not in refused:
        tasks[PAIRS_TASK] = _pairs(suite.pairs, pair_items)
    declared = [task for task in suite.tasks if task.declared]
    return {
        "tasks": tasks,
        "total": total([*results.items, *pair_items], sorted(refused)),
        **({"mera": score.describe_total(declared, tasks)} if declared else {}),
        **({"portraits": portraits} if portraits else {}),
        "refused": refused,
        "ignored": sorted(suite.ignored),
    }


def _unscored(task: Task, outcomes: score.Outcomes) -> str | None:
    """Why a task that was asked has no score; None when it has one."""
    if not task.scored:
        return f"none of its {task.unanswered} records has an answer"
    return score.refusal(task, outcomes) if task.declared else None


def _task(task: Task, results: Results, outcomes: score.Outcomes) -> dict[str, Any]:
    """The entry of one task; what MERA says of its own stands beside the mean over items."""
    outputs = [record.outputs for record in task.scored]
    choices = task.choices or task.spec.get("choices")
    items = [item for item in results.items if item.task == task.name]
    entry: dict[str, Any] = {"language": task.language, "metric": items[0].metric if items else task.metric}
    own = score.describe(task, results.answers[task.name], outcomes) if task.declared else {}
    if items:
        entry |= _mean(items)
    else:  # programs and classifiers judge items later than the harness
        entry |= {"metric": "+".join(task.spec["metrics"]), "value": own["score"], "ci": own["score_ci"]}
        entry |= {"n": len(outputs), "clusters": len({task.cluster(record) for record in task.scored})}
    return {
        **entry,
        **own,
        "majority": baselines.majority(outputs, choices),
        "chance": baselines.chance(outputs, choices),
        "unanswered": task.unanswered,
        "cut_prompts": results.cut[task.name],
    }


def total(items: Sequence[Item], missing: Sequence[str]) -> dict[str, Any]:
    """Plain mean of the means of every task, with its interval over clusters."""
    interval = intervals.stratified_interval(
        [item.value for item in items],
        [item.task for item in items],
        [item.cluster for item in items],
        rounds=ROUNDS,
        seed=SEED,
        bounds=intervals.UNIT,
    )
    return {
        "value": interval.mean,
        "ci": interval.pair(),
        "n": interval.n,
        "clusters": interval.clusters,
        "tasks": len({item.task for item in items}),
        "missing": list(missing),
    }


def describe_bits(by_language: Mapping[str, Bits]) -> dict[str, Any]:
    """The part `bpc` of scores.json; a document is a cluster."""
    described = {}
    for language, bits in sorted(by_language.items()):
        interval = intervals.ratio_interval(
            bits.bits, bits.characters, [document.id for document in bits.documents], rounds=ROUNDS, seed=SEED
        )
        described[language] = {
            "value": bits.value,
            "ci": interval.pair(),
            "documents": len(bits.documents),
            "characters": sum(bits.characters),
            "unknown_tokens": bits.unknown,
        }
    return described


def _mean(items: Sequence[Item]) -> dict[str, Any]:
    interval = intervals.cluster_interval(
        [item.value for item in items],
        [item.cluster for item in items],
        rounds=ROUNDS,
        seed=SEED,
        bounds=intervals.UNIT,
    )
    return {"value": interval.mean, "ci": interval.pair(), "n": interval.n, "clusters": interval.clusters}


def _pairs(pairs: Sequence[Pair], items: Sequence[Item]) -> dict[str, Any]:
    phenomena: dict[str, list[Item]] = {}
    for pair, item in zip(pairs, items, strict=True):
        phenomena.setdefault(pair.phenomenon, []).append(item)
    return {
        "language": "ru",
        "metric": "acc",
        **_mean(items),
        "majority": 0.5,
        "chance": 0.5,
        "unanswered": 0,
        "cut_prompts": 0,
        "phenomena": {name: _mean(found) for name, found in sorted(phenomena.items())},
    }
