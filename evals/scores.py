"""From per-item values to scores.json: task scores beside what they must beat, total, bits per character."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evals import baselines
from evals.bpc import Bits
from evals.harness import Results
from evals.items import Item
from evals.minimal_pairs import TASK as PAIRS_TASK
from evals.minimal_pairs import Pair
from evals.stats import intervals
from evals.suites import Suite

ROUNDS = 2000
SEED = 0


def describe(suite: Suite, results: Results, pair_items: Sequence[Item]) -> dict[str, Any]:
    """The parts `tasks`, `total`, `refused` and `ignored` of scores.json.

    Intervals are 95 %, over clusters. `majority` is the best constant answer on the same items, `chance` a
    uniform guess. The total is the plain mean of the task scores, whatever their sizes; `missing` names tasks
    of the suites that were not scored.
    """
    tasks = {}
    for task in suite.tasks:
        outputs = [record.outputs for record in task.test]
        tasks[task.name] = {
            "language": task.language,
            "metric": task.metric,
            **_mean([item for item in results.items if item.task == task.name]),
            "majority": baselines.majority(outputs, task.choices),
            "chance": baselines.chance(outputs, task.choices),
            "unanswered": task.unanswered,
            "cut_prompts": results.cut[task.name],
        }
    if suite.pairs:
        tasks[PAIRS_TASK] = _pairs(suite.pairs, pair_items)
    return {
        "tasks": tasks,
        "total": total([*results.items, *pair_items], sorted(suite.refused)),
        "refused": suite.refused,
        "ignored": sorted(suite.ignored),
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
