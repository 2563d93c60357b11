"""Gorn's prompts and metric values beside those that MERA's own code made (data/mera_golden)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from evals import harness, suites
from evals.mera import answers, dialogue, metrics, total
from evals.records import Record, parse
from evals.suites import Task

FILES = ("prompts.jsonl", "prompts_made_up.jsonl")


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of one file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def records(golden: Path) -> dict[tuple[str, str, str], Record]:
    """(task, id, source file) -> the record as MERA's code saw it."""
    found = {}
    for row in read(golden / "records.jsonl"):
        shape = suites.describe(row["task"]).spec.get("answer", "text")
        record = parse(row["record"], f"{row['task']}:{row['item_id']}", shape)
        found[row["task"], str(row["item_id"]), row["source_file"]] = record
    return found


def prompts(golden: Path, file: str) -> Iterator[tuple[dict[str, Any], dict[str, tuple[Any, Any]]]]:
    """Every row of `file` with what differs from it: field -> (ours, MERA's)."""
    known = records(golden)
    for row in read(golden / file):
        task = prepared(suites.describe(row["task"]), row, known)
        asked: list[Any]
        if task.spec.get("dialogue"):
            context = dialogue.prompt(task.layout, task.test[0], task.shots, row["earlier_answers"])
            asked = [(context, f" {choice}") for choice in task.choices or ()]
        else:
            context, asked = requests(task)
        pairs = {
            "context": (context, row["context"]),
            "target": (metrics.target(task.spec, task.test[0]), row["target"]),
        }
        if row["continuations"] is not None:
            place = row["continuations"].index(f" {row['target']}") if row["gold_index"] is not None else None
            pairs["continuations"] = ([end for _, end in asked], row["continuations"])
            pairs["gold_index"] = (place, row["gold_index"])
        else:
            pairs["until"] = (asked[0][1]["until"], row["until"])
        if row["mode"] == "mera_shots" and not task.spec.get("dialogue"):
            pairs["shots"] = (task.spec["shots"], len(row["shots"]))
        yield row, {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def twins(golden: Path, file: str) -> Iterator[tuple[dict[str, Any], str, list[str]]]:
    """Every row of `file` that has a generative twin, with the twin's prompt and where it stops."""
    known = records(golden)
    for row in read(golden / file):
        if row["continuations"] is None or suites.describe(row["task"]).spec.get("dialogue"):
            continue
        twin = suites.describe(row["task"], "generate")
        assert twin.name == f"{row['task']}_gen" and twin.choices is None
        context, [(_, settings)] = requests(prepared(twin, row, known))
        yield row, context, settings["until"]


def values(golden: Path) -> Iterator[tuple[dict[str, Any], Any]]:
    """Every row of metrics.jsonl with our value of it."""
    for row in read(golden / "metrics.jsonl"):
        yield row, VALUES[row["function"]](**row["inputs"])


def prepared(task: Task, row: dict[str, Any], records: dict[tuple[str, str, str], Record]) -> Task:
    """The task with the one item and the shots of a golden row."""
    source = row.get("shot_source") or row["source_file"]
    item = records[row["task"], str(row["item_id"]), row["source_file"]]
    shots = [records[row["task"], str(name), source] for name in row["shots"]]
    return replace(task, test=(item,), shots=tuple(shots))


def requests(task: Task) -> tuple[str, list[Any]]:
    """The prompt of the one item of `task`, and the arguments of what the harness asks."""
    made_ready = harness.configured(task)
    (doc,) = list(made_ready.eval_docs)
    context = made_ready.fewshot_context(doc, len(task.shots))
    made = made_ready.construct_requests(doc, context, metadata=(task.name, 0, 1))
    return context, [request.arguments for request in (made if isinstance(made, list) else [made])]


def close(found: Any, expected: Any) -> bool:
    """Whether every number is within 1e-9 and everything else is equal."""
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(close(found[key], expected[key]) for key in expected)
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(close, found, expected))
    if isinstance(expected, str):
        return bool(found == expected)
    return abs(found - expected) <= 1e-9


def _one(statistic: metrics.Statistic, count: int) -> float:
    return float(statistic(np.ones(count)))


def _squad(outputs: str, prediction: str) -> dict[str, float]:
    em, f1 = metrics.em_f1(outputs, prediction)
    return {"em": em, "f1": f1}


def _use(type: str, id_task: str, outputs: str, prediction: str) -> float:  # noqa: A002
    return metrics.use_points(type, id_task, outputs, prediction)


def _grades(items: list[dict[str, Any]]) -> dict[str, float]:
    points = [_use(row["type"], row["id_task"], row["outputs"], row["prediction"]) for row in items]
    best = [row["score"] for row in items]
    whole = metrics.grade_norm(points, best, [row["variant"] for row in items])
    found = {"grade_norm": _one(whole, len(items))}
    for name in {row["id_task"] for row in items}:
        shares = [p / b for p, b, row in zip(points, best, items, strict=True) if row["id_task"] == name]
        found[f"grade_norm.task{name}"] = _one(metrics.mean(shares), len(shares))
    return found


def _ethics(items: list[dict[str, Any]]) -> dict[str, float]:
    found = metrics.ethics(*([row[key] for row in items] for key in ("question", "outputs", "answer")))
    return {f"mcc_{name.replace('.', '_')}": value for name, value in found.items() if value is not None}


def _macro(gold: list[str], pred: list[str]) -> float:
    return _one(metrics.f1_macro(gold, pred), len(gold))


def _choice(choices: list[str], outputs: str, loglikelihoods: list[float]) -> float:
    return float(answers.likeliest(loglikelihoods, choices) == outputs)


def _solution(outputs: list[str], results: list[Any]) -> dict[str, int]:
    typed = metrics.solved(outputs, results, typed=True)
    return {"local": int(metrics.solved(outputs, results)), "server": int(typed)}


def _pass_table(items: list[dict[str, Any]]) -> dict[str, Any]:
    rows = [metrics.passes(row["outputs"], row["results"]) for row in items]
    return {"per_item": rows, "mean": {key: sum(row[key] for row in rows) / len(rows) for key in rows[0]}}


def _nesting(
    outputs: list[str], submission_outputs_nested: list[Any], submission_outputs_flat: list[Any]
) -> dict[str, Any]:
    given = {"nested": submission_outputs_nested, "flat": submission_outputs_flat}
    return {name: metrics.passes(outputs, value[0]) for name, value in given.items()}


def _withheld(outputs: str, prediction: str) -> dict[str, float]:
    """MERA's harness gives 0 to an answer that is withheld; here such a record is never scored at all."""
    record = {"instruction": "?", "inputs": "", "outputs": outputs, "meta": {"id": 1}}
    assert not parse(record, "f:1").outputs and prediction == ""
    return {"em": 0, "f1": 0}


def _total(metrics: dict[str, dict[str, float]]) -> dict[str, Any]:
    scores = {name: total.task_score(values) for name, values in metrics.items()}
    found = total.total({name: total.Score(value, 0.0) for name, value in scores.items()})
    missing = sorted({*total.in_total()} - {*metrics})
    assert found.missing == missing and found.official == (not missing)
    return {
        "total": found.value,
        "in_total": sorted(set(metrics) & {*total.in_total()}),
        "task_scores": {name: value for name, value in scores.items() if value is not None},
    }


VALUES: dict[str, Any] = {
    "squad_em_f1": _squad,
    "squad_em_f1.server": _squad,
    "squad_em_f1.local": _withheld,
    "use.item_score": _use,
    "use.grade_norm": _grades,
    "ruethics.mcc": _ethics,
    "ruethics.generative_answer": lambda completions: [int(metrics.ethics_answer(t)) for t in completions],
    "ruethics.doc_to_target": lambda outputs: metrics.ethics_target(outputs),
    "total_score": _total,
    "pass_at_k": lambda n, c, k: metrics.pass_at_k(n, c, k),
    "code.check_solution": _solution,
    "code.pass_table": _pass_table,
    "code.submission_nesting.server": _nesting,
    "f1_macro": _macro,
    "choice.acc": _choice,
    "filter.digit": lambda response: answers.choice("digit", response),
    "filter.letter": lambda response: answers.choice("letter", response),
    "filter.yes_no": lambda response: answers.choice("yes_no", response),
    "filter.generate": lambda response: answers.written(response),
    "exact_match": lambda outputs, prediction: float(outputs == prediction),
}
