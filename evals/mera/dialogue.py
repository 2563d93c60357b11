"""ruTiE: one long dialogue, where each question stands after all earlier ones with the model's OWN answers.

An item's prompt therefore exists only after all earlier turns were answered. lm-eval asks everything at once,
so a wrapper around its model fills the dialogues turn by turn; other requests pass through as they are.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from evals.errors import EvalError
from evals.mera import answers
from evals.records import Layout, Record

PLACE = "{context}"
BLANK = "\n\n"


def ordered(records: Sequence[Record], where: str) -> list[Record]:
    """The turns of all dialogues in their order.

    Raises `EvalError` when the questions of a dialogue are not numbered 0, 1, 2, ..., or when an instruction
    does not name `{context}` once.
    """
    turns = sorted(records, key=lambda record: (dialogue(record), turn(record)))
    expected: dict[int, int] = {}
    for record in turns:
        number = expected.get(dialogue(record), 0)
        if turn(record) != number:
            raise EvalError(
                f"{where}: dialogue {dialogue(record)} lacks question {number}, so later ones have no context"
            )
        expected[dialogue(record)] = number + 1
        if record.instruction.count(PLACE) != 1:
            raise EvalError(f"{record.where}: the instruction must name `{PLACE}` once")
    return turns


def dialogue(record: Record) -> int:
    """Which dialogue a record belongs to. Raises `EvalError`."""
    return _number(record, "dialog_id")


def turn(record: Record) -> int:
    """The place of a record in its dialogue, from 0. Raises `EvalError`."""
    return _number(record, "question_id")


def _number(record: Record, name: str) -> int:
    value = record.meta.get(name)
    if not isinstance(value, int):
        raise EvalError(f"{record.where}: field `meta.{name}` is missing or no number; a dialogue needs it")
    return value


def template(record: Record) -> str:
    """The prompt of a turn before its context is known: the same for all models, and what is hashed."""
    head, tail = record.instruction.split(PLACE)
    return head + PLACE + record.fill(tail)


def prompt(layout: Layout, record: Record, earlier: Sequence[Record], told: Sequence[str]) -> str:
    """The prompt of a turn after `earlier` turns and the answers `told` to them (MERA v1.2).

    The head of the tested item's instruction, the earlier turns in their frame, then its tail. The first turn
    begins with the blank line that would separate it from turns before.
    """
    head, tail = record.instruction.split(PLACE)
    if not earlier:
        return BLANK + (head + record.fill(tail)).strip()
    turns = [f"{layout.later_turn(shot)} {answer}" for shot, answer in zip(earlier, told, strict=True)]
    return head + BLANK.join(turns) + BLANK + record.fill(tail).strip()


@dataclass(frozen=True)
class Turns:
    """A dialogue task: its turns in order; `choices`, or the filter of its generative twin."""

    layout: Layout
    records: tuple[Record, ...]
    choices: tuple[str, ...] | None
    twin: str

    @cached_property
    def by_id(self) -> dict[str, Record]:
        """The turns by their ids."""
        return {record.id: record for record in self.records}

    @cached_property
    def by_dialogue(self) -> dict[int, list[Record]]:
        """The turns of each dialogue, in order."""
        found: dict[int, list[Record]] = {}
        for record in self.records:
            found.setdefault(dialogue(record), []).append(record)
        return found

    def told(self, replies: Sequence[Any]) -> str:
        """What the dialogue shows as the answer to a turn: the likeliest choice, or what was written."""
        if self.choices is None:
            return answers.choice(self.twin, str(replies[0]))
        return answers.likeliest([logprob for logprob, _ in replies], self.choices)


def tasks(among: Iterable[Any]) -> dict[str, Turns]:
    """The dialogues among tasks (`evals.suites.Task`), by task name."""
    return {
        task.name: Turns(task.layout, task.test, task.choices, task.spec["twin"])
        for task in among
        if task.spec.get("dialogue")
    }


class Dialogues:
    """An lm-eval model whose requests of dialogue tasks are asked turn by turn.

    `asked`: (task, record id) -> the prompt that was really asked.
    """

    def __init__(self, inner: Any, tasks: Mapping[str, Turns]) -> None:
        self._inner = inner
        self._tasks = tasks
        self.asked: dict[tuple[str, str], str] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def loglikelihood(self, requests: list[Any], **settings: Any) -> list[Any]:
        """lm-eval's hook: (log-probability, greedy) of every request."""
        return self._all("loglikelihood", requests, settings)

    def generate_until(self, requests: list[Any], **settings: Any) -> list[Any]:
        """lm-eval's hook: what the model writes after every request."""
        return self._all("generate_until", requests, settings)

    def _all(self, kind: str, requests: list[Any], settings: dict[str, Any]) -> list[Any]:
        plain = [place for place, request in enumerate(requests) if request.task_name not in self._tasks]
        results: list[Any] = [None] * len(requests)
        self._ask(kind, {place: requests[place] for place in plain}, results, settings)
        waiting: dict[tuple[str, int], dict[int, list[int]]] = {}
        for place, request in enumerate(requests):
            if request.task_name in self._tasks:
                record = self._tasks[request.task_name].by_id[request.doc["id"]]
                turns = waiting.setdefault((request.task_name, dialogue(record)), {})
                turns.setdefault(turn(record), []).append(place)
        self._turns(kind, waiting, requests, results, settings)
        return results

    def _turns(
        self,
        kind: str,
        waiting: Mapping[tuple[str, int], Mapping[int, list[int]]],
        requests: list[Any],
        results: list[Any],
        settings: dict[str, Any],
    ) -> None:
        """All dialogues advance together, one turn at a time, so that a batch holds one turn of each."""
        told: dict[tuple[str, int], list[str]] = {key: [] for key in waiting}
        for number in range(max((len(turns) for turns in waiting.values()), default=0)):
            open_now = {key: turns[number] for key, turns in waiting.items() if number in turns}
            filled = {
                place: self._filled(requests[place], told[key])
                for key, places in open_now.items()
                for place in places
            }
            self._ask(kind, filled, results, settings)
            for key, places in open_now.items():
                told[key].append(self._tasks[key[0]].told([results[place] for place in places]))

    def _filled(self, request: Any, told: Sequence[str]) -> Any:
        task = self._tasks[request.task_name]
        record = task.by_id[request.doc["id"]]
        earlier = task.by_dialogue[dialogue(record)][: turn(record)]
        text = prompt(task.layout, record, earlier, told)
        self.asked[request.task_name, record.id] = text
        # A copy: lm-eval hashes the request's own prompt, which must not depend on a model's answers.
        asked = copy.copy(request)
        asked.arguments = (text, *request.arguments[1:])
        return asked

    def _ask(
        self, kind: str, requests: Mapping[int, Any], results: list[Any], settings: dict[str, Any]
    ) -> None:
        if requests:
            replies = getattr(self._inner, kind)(list(requests.values()), **settings)
            for place, reply in zip(requests, replies, strict=True):
                results[place] = reply
