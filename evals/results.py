"""From the replies of a model to per-item results, whoever asked: lm-eval, the cache, or an endpoint."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from evals.errors import EvalError
from evals.items import Answer, Item
from evals.mera import answers as read_as
from evals.mera import metrics
from evals.prompts import Row
from evals.scoring import exact_match
from evals.suites import Task


@dataclass
class Results:
    """`items` in the order of tasks and records; `cut`: task -> prompts that were too long and lost their
    beginning, None where nobody can tell; `answers`: task -> what was answered, in the order of its records;
    `refused`: task -> why it was not asked.
    """

    items: list[Item] = field(default_factory=list)
    cut: dict[str, int | None] = field(default_factory=dict)
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    def take(self, task: Task, rows: Sequence[Row], cut: int | None) -> None:
        """Add one task. Raises `EvalError` when a log-probability is not finite, or when two documents of
        the task have the same hash.
        """
        if len({row.doc_hash for row in rows}) < len(rows):
            raise EvalError(
                f"task `{task.name}`: two records are equal, so results could not be paired; remove one"
            )
        self.answers[task.name] = [_answer(task, row) for row in rows]
        for row, given in zip(rows, self.answers[task.name], strict=True):
            value = _value(task, row, given) if row.record.outputs else None
            if value is not None:
                cluster = task.cluster(row.record)
                self.items.append(Item(task.name, row.doc_hash, row.prompt_hash, cluster, *value))
        self.cut[task.name] = cut


def _answer(task: Task, row: Row) -> Answer:
    """What the model answered to one item, read as its task reads it."""
    name = row.record.id
    if task.kind == "choice":
        logprobs = tuple(float(value) for value in row.replies)
        if not all(math.isfinite(value) for value in logprobs):
            raise EvalError(
                f"task `{task.name}`, item {name}: the model gives a log-probability that is not finite;"
                " its weights are broken"
            )
        return Answer(name, read_as.likeliest(logprobs, task.choices or ()), logprobs=logprobs)
    written = tuple(str(text) for text in row.replies)
    twin = task.spec.get("choices") and task.spec["twin"]
    text = read_as.choice(twin, written[0]) if twin else read_as.written(written[0])
    return Answer(name, text, written=written)


def _value(task: Task, row: Row, given: Answer) -> tuple[str, float] | None:
    if task.declared:
        return metrics.item_value(task.spec, row.record, given)
    if task.kind == "choice":
        return task.metric, float(given.text == row.record.outputs)
    return task.metric, exact_match(row.record.outputs, given.written[0])


def cut(task: Task, tokens: Sequence[int], max_length: int) -> int:
    """How many prompts of so many tokens lose their beginning in a model that holds `max_length`."""
    if task.kind == "choice":
        room = max_length + 1
    else:
        room = max_length - int(task.config["generation_kwargs"]["max_gen_toks"])
    return sum(count > room for count in tokens)


def too_long(tasks: Sequence[Task], max_length: int) -> dict[str, str]:
    """Tasks whose answers could take more than half of what a model of `max_length` tokens can hold."""
    refused = {}
    for task in tasks:
        room = 0 if task.kind == "choice" else int(task.config["generation_kwargs"]["max_gen_toks"])
        if 2 * room > max_length:
            refused[task.name] = f"answers may take {room} tokens, and the model holds {max_length} in all"
    return refused
