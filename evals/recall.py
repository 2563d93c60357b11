"""Evaluation without lm-eval's loop: by a model whose answers are known already, or one behind an address.

lm-eval takes seconds to import; with every answer in the cache nothing of it is needed. The results are those
of evals/harness.py, which asks what is not known and keeps it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from evals import prompts
from evals.answers import Answers
from evals.mera import dialogue
from evals.prompts import Request, Row
from evals.results import Results
from evals.suites import Task

Cut = Callable[[Task, Sequence[Row]], int | None]


class UnknownError(Exception):
    """A request whose answer is not in the cache."""


def run(lm: Any, tasks: Sequence[Task], cut: Cut) -> Results:
    """Results of `tasks` by the replies of `lm`, which has `loglikelihood` and `generate_until` of lm-eval's
    models. `cut` says how many prompts lost their beginning.

    Raises `EvalError` as `evals.results.Results.take` does, and whatever `lm` raises.
    """
    asked = dialogue.Dialogues(lm, dialogue.tasks(tasks))
    made = {task.name: prompts.requests(task) for task in tasks}
    replies: dict[str, list[Any]] = {}
    for kind, ask in (("choice", asked.loglikelihood), ("generate", asked.generate_until)):
        of_kind = [task for task in tasks if task.kind == kind]
        flat = [request for task in of_kind for item in made[task.name] for request in item]
        given = iter(ask(flat) if flat else ())
        for task in of_kind:
            replies[task.name] = [[next(given) for _ in item] for item in made[task.name]]
    results = Results()
    for task in tasks:
        rows = [
            _row(task, number, requests, given, asked.asked)
            for number, (requests, given) in enumerate(zip(made[task.name], replies[task.name], strict=True))
        ]
        results.take(task, rows, cut(task, rows))
    return results


def _row(
    task: Task,
    number: int,
    requests: Sequence[Request],
    replies: Sequence[Any],
    asked: Mapping[tuple[str, str], str],
) -> Row:
    record, prompt = task.test[number], requests[0].arguments[0]
    text = asked.get((task.name, record.id), prompt)
    if task.kind == "choice":
        text += max((request.arguments[1] for request in requests), key=len)
        replies = [value for value, _ in replies]
    hashes = prompts.doc_hash(task, record), prompts.sha256(prompt)
    return Row(record, *hashes, text, tuple(replies))


class _Keys:
    """The key of every request of a call: kind, task version, arguments, and the number of a sample."""

    def __init__(self, versions: Mapping[str, str]) -> None:
        self._versions = versions

    def of(self, kind: str, requests: Sequence[Any]) -> list[tuple[Any, ...]]:
        seen: dict[str, int] = {}
        keys = []
        for request in requests:
            version = self._versions.get(request.task_name or "", "")
            key: tuple[Any, ...] = (kind, version, *request.arguments)
            if _sampled(request):
                same = json.dumps(key, sort_keys=True)
                seen[same] = seen.get(same, -1) + 1
                key = (*key, seen[same])
            keys.append(key)
        return keys


def _sampled(request: Any) -> bool:
    settings = request.arguments[1]
    return isinstance(settings, dict) and bool(settings.get("do_sample"))


class Known:
    """A model that is not there: it answers out of the cache, or raises `UnknownError`."""

    def __init__(self, answers: Answers, versions: Mapping[str, str]) -> None:
        self._answers, self._keys = answers, _Keys(versions)

    def loglikelihood(self, requests: Sequence[Any]) -> list[Any]:
        """lm-eval's hook."""
        return self._all("loglikelihood", requests)

    def generate_until(self, requests: Sequence[Any]) -> list[Any]:
        """lm-eval's hook."""
        return self._all("generate_until", requests)

    def _all(self, kind: str, requests: Sequence[Any]) -> list[Any]:
        found = [self._answers.get(*key) for key in self._keys.of(kind, requests)]
        if None in found:
            raise UnknownError
        return found


class Remembering:
    """A wrapper around lm-eval's model that asks it only what is not in the cache, and keeps each answer as
    soon as its batch is done.

    Samples are asked all together or not at all: each depends on how many were drawn before it.
    """

    def __init__(self, inner: Any, answers: Answers, versions: Mapping[str, str]) -> None:
        self._inner, self._answers, self._keys = inner, answers, _Keys(versions)
        self._open: dict[str, list[tuple[Any, ...]]] = {}
        inner.set_cache_hook(self)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def loglikelihood(self, requests: Sequence[Any], **settings: Any) -> list[Any]:
        """lm-eval's hook: (log-probability, greedy) of every request."""
        return self._all("loglikelihood", requests, settings)

    def generate_until(self, requests: Sequence[Any], **settings: Any) -> list[Any]:
        """lm-eval's hook: what the model writes after every request."""
        return self._all("generate_until", requests, settings)

    def add_partial(self, kind: str, arguments: Sequence[Any], reply: Any) -> None:
        """lm-eval's hook for its own cache: told of every answer after its batch."""
        for key in self._open.pop(_name(kind, arguments), ()):
            self._answers.put(_plain(reply), *key)

    def _all(self, kind: str, requests: Sequence[Any], settings: dict[str, Any]) -> list[Any]:
        keys = self._keys.of(kind, requests)
        found = [self._answers.get(*key) for key in keys]
        sampled = [place for place, request in enumerate(requests) if _sampled(request)]
        if any(found[place] is None for place in sampled):
            for place in sampled:
                found[place] = None
        todo = [place for place, reply in enumerate(found) if reply is None]
        if not todo:
            return found
        self._open = {}
        for place in set(todo) - set(sampled):
            self._open.setdefault(_name(kind, requests[place].arguments), []).append(keys[place])
        replies = getattr(self._inner, kind)([requests[place] for place in todo], **settings)
        for place, reply in zip(todo, replies, strict=True):
            found[place] = _plain(reply)
            if place in sampled or self._answers.get(*keys[place]) is None:
                self._answers.put(found[place], *keys[place])
        return found


def _name(kind: str, arguments: Sequence[Any]) -> str:
    return json.dumps([kind, *arguments], sort_keys=True, default=str)


def _plain(reply: Any) -> Any:
    if isinstance(reply, str):
        return reply
    value, greedy = reply
    return [float(value), bool(greedy)]
