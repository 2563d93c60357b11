"""What is asked of one item and how lm-eval hashes it, without lm-eval: an answer that is known is found
without loading it.

lm-eval builds the same prompts out of the same pieces (evals/harness.py); tests compare the two.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from evals.mera import metrics
from evals.records import Record
from evals.suites import Task

NEW_TOKENS = 24  # of an answer to an open question


@dataclass
class Request:
    """One request in the form of lm-eval's `Instance`, as far as a model or a wrapper around one reads it.

    `arguments`: (context, continuation) or (context, generation settings).
    """

    task_name: str
    doc: dict[str, str]
    arguments: tuple[Any, ...]

    @property
    def args(self) -> tuple[Any, ...]:
        """lm-eval's other name for them."""
        return self.arguments


def shot(task: Task, record: Record, place: int) -> str:
    """The turn of a shot that stands at `place`, without its answer."""
    return task.layout.later_turn(record) if place else task.layout.first_shot(record)


def target(task: Task, record: Record) -> str:
    """The answer that a shot shows."""
    if task.options is not None:
        return task.continuations(record)[(task.choices or ()).index(record.outputs)]
    return metrics.target(task.spec, record) if task.declared else record.outputs


def context(task: Task, record: Record) -> str:
    """The whole prompt of an item: the turns of its shots with their answers, then its own."""
    config, turns = task.config, []
    for place, shown in enumerate(task.before(record)):
        answer = target(task, shown)
        end = f"{config['target_delimiter']}{answer}{config['fewshot_delimiter']}" if answer else ""
        turns.append(shot(task, shown, place) + end)
    return "".join(turns) + task.turn(record)


def requests(task: Task) -> list[list[Request]]:
    """The requests of every item of `task`: one a choice, or one a sample."""
    config, found = task.config, []
    for record in task.test:
        doc, text = document(task, record), context(task, record)
        ends: Sequence[Any]
        if task.kind == "choice":
            ends = [f"{config['target_delimiter']}{choice}" for choice in task.continuations(record)]
        else:
            ends = [deepcopy(config["generation_kwargs"])] * int(config.get("repeats", 1))
        found.append([Request(task.name, doc, (text, end)) for end in ends])
    return found


def open_requests(texts: Sequence[str], new_tokens: int = NEW_TOKENS) -> list[Request]:
    """Open questions: greedy until the line ends."""
    settings = {"until": ["\n"], "do_sample": False, "max_gen_toks": new_tokens}
    return [Request("", {}, (text, dict(settings))) for text in texts]


def document(task: Task, record: Record) -> dict[str, str]:
    """What lm-eval hashes: the record itself, not the prompt made of it. Inputs of any shape become JSON
    text, and so do the meta fields that the task reads.
    """
    inputs = json.dumps(record.inputs, ensure_ascii=False, sort_keys=True)
    doc = {
        "id": record.id,
        "cluster": task.cluster(record),
        "instruction": record.instruction,
        "inputs": inputs,
        "outputs": record.outputs,
    }
    if named := task.spec.get("meta"):
        doc["meta"] = json.dumps({name: record.meta[name] for name in named}, ensure_ascii=False)
    return doc


def doc_hash(task: Task, record: Record) -> str:
    """lm-eval's `doc_hash` of an item, by which results of two models are joined."""
    return sha256(json.dumps(document(task, record), indent=2, ensure_ascii=False))


def sha256(text: str) -> str:
    """Hex SHA-256 of a text: lm-eval's `prompt_hash`."""
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Row:
    """One asked item: `asked` is the prompt that the model saw, longest continuation included; `replies` are
    log-probabilities of the choices, or what was written, once for every sample.
    """

    record: Record
    doc_hash: str
    prompt_hash: str
    asked: str
    replies: tuple[Any, ...] = field(default=())
