"""Answers out of the cache: the same results as asking, and nothing that changed is ever found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from evaluation_models import make_model, make_tokenizer

from evals import harness, prompts, recall, suites
from evals.answers import Answers
from evals.mera import dialogue
from evals.prompts import Request
from evals.recall import Known, Remembering, UnknownError
from evals.records import Layout, Record
from evals.suites import Task

WORDS = ["кот", "дом", "река", "лес", "мост", "снег"]
SCOPE = {"weights": "a"}


def _records(answers: list[str]) -> tuple[Record, ...]:
    options = [
        {"word": WORDS[i % 6], "n": str(i), "a": WORDS[i % 6], "b": "пень"} for i in range(len(answers))
    ]
    return tuple(
        Record("Слово {word}, номер {n}.\nОтвет:", given, answer, str(i), f"f{i // 2}", "")
        for i, (given, answer) in enumerate(zip(options, answers, strict=True))
    )


def _turn(number: int) -> Record:
    inputs = {"question": f"Вопрос {number}?", "choice1": "да", "choice2": "нет"}
    meta = {"dialog_id": 0, "question_id": number}
    text = "Диалог:\n{context}\n{question}\n1. {choice1}\n2. {choice2}\nОтвет:"
    return Record(text, inputs, "12"[number % 2], f"0:{number}", "0", "f", meta)


def _tasks() -> list[Task]:
    shots = (Record("Слово {word}?", {"word": "мост"}, "да", "s1", "s1", ""),)
    made = _records(["да", "нет"] * 3)
    plain = Task("words", "ru", "choice", ("да", "нет"), Layout(frame="{word}:"), "1", made, shots)
    cloze = Task(
        "cloze", "ru", "choice", ("A", "B"), Layout(), "1", _records(["A", "B"] * 2), options=("a", "b")
    )
    shown = {record.id: (cloze.test[0],) for record in cloze.test[1:]}
    cloze = replace(cloze, test=cloze.test[1:], shown=shown)
    written = Task("plural", "ru", "generate", None, Layout(), "1", _records(["коты", "дома"]))
    talk = replace(suites.describe("rutie"), test=tuple(dialogue.ordered([_turn(n) for n in range(3)], "f")))
    return [plain, cloze, written, talk]


@pytest.fixture(scope="module")
def model() -> Any:
    return make_model(make_tokenizer(WORDS), positions=1200)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return make_tokenizer(WORDS)


@pytest.fixture(scope="module")
def lm(model: Any, tokenizer: Any) -> Any:
    return harness.wrap(model, tokenizer, 4)


class _Counting:
    """Passes requests on and counts them by kind."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.asked: list[tuple[str, tuple[Any, ...]]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def loglikelihood(self, requests: list[Any], **settings: Any) -> list[Any]:
        self.asked += [("loglikelihood", request.arguments) for request in requests]
        return list(self._inner.loglikelihood(requests, **settings))

    def generate_until(self, requests: list[Any], **settings: Any) -> list[Any]:
        self.asked += [("generate_until", request.arguments) for request in requests]
        return list(self._inner.generate_until(requests, **settings))


def _versions(tasks: list[Task]) -> dict[str, str]:
    return {task.name: task.version for task in tasks}


def _ask(lm: Any, tasks: list[Task], folder: Path) -> tuple[Any, list[Any]]:
    counting = _Counting(lm)
    answers = Answers(folder, SCOPE)
    found = harness.run(Remembering(counting, answers, _versions(tasks)), tasks)
    answers.close()
    return found, counting.asked


@pytest.fixture(scope="module")
def filled(lm: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, list[Any]]:
    """A cache with every answer, the results of the run that filled it, and what that run asked."""
    folder = tmp_path_factory.mktemp("answers")
    return folder, *_ask(lm, _tasks(), folder)


def _recalled(folder: Path, tasks: list[Task], cut: dict[str, int | None]) -> Any:
    known = Known(Answers(folder, SCOPE), _versions(tasks))
    return recall.run(known, tasks, lambda task, _: cut[task.name])


def test_recalled_results_are_those_of_lm_eval(filled: tuple[Path, Any, list[Any]]) -> None:
    """Shots, frames, cloze options and a dialogue: prompts and hashes too, or nothing was found."""
    folder, asked, requests = filled
    assert len(requests) == 6 * 2 + 3 * 2 + 2 + 3 * 2
    found = _recalled(folder, _tasks(), asked.cut)
    assert found == asked
    assert {item.task for item in found.items} == {"words", "cloze", "plural", "rutie"}


def test_a_second_run_asks_nothing(lm: Any, filled: tuple[Path, Any, list[Any]]) -> None:
    folder, asked, _ = filled
    again, requests = _ask(lm, _tasks(), folder)
    assert requests == []
    assert again == asked


def _shorter(tasks: list[Task]) -> list[Task]:
    return [replace(tasks[0], test=tasks[0].test[:3]), *tasks[1:]]


def _changed(place: int, change: Callable[[Task], Task]) -> Callable[[list[Task]], list[Task]]:
    return lambda tasks: [change(task) if number == place else task for number, task in enumerate(tasks)]


def _with(record: Record, name: str, value: str) -> Record:
    assert isinstance(record.inputs, dict)
    return replace(record, inputs={**record.inputs, name: value})


def _new_word(task: Task) -> Task:
    return replace(task, test=(_with(task.test[0], "word", "пень"), *task.test[1:]))


def _new_turn(task: Task) -> Task:
    first, second, third = task.test
    return replace(task, test=(first, _with(second, "question", "Что?"), third))


CHANGES: dict[str, tuple[Callable[[list[Task]], list[Task]], int]] = {
    "an item less": (_shorter, 0),
    "a prompt": (_changed(0, _new_word), 2),
    "shots": (_changed(0, lambda task: replace(task, shots=())), 12),
    "the version": (_changed(2, lambda task: replace(task, version="2")), 2),
    "a choice more": (_changed(0, lambda task: replace(task, choices=("да", "нет", "оба"))), 6),
    # Turns after the changed one see another context.
    "a turn": (_changed(3, _new_turn), 4),
}


@pytest.mark.parametrize("name", CHANGES)
def test_only_what_is_new_is_asked(
    lm: Any, filled: tuple[Path, Any, list[Any]], tmp_path: Path, name: str
) -> None:
    folder, asked, _ = filled
    change, expected = CHANGES[name]
    tasks = change(_tasks())
    copy = tmp_path / "answers"
    copy.mkdir()
    (file,) = folder.glob("*.jsonl")
    (copy / file.name).write_bytes(file.read_bytes())
    if expected:
        with pytest.raises(UnknownError):
            _recalled(copy, tasks, asked.cut)
    found, requests = _ask(lm, tasks, copy)
    assert len(requests) == expected
    assert _recalled(copy, tasks, found.cut) == found


def test_another_setting_of_generation_is_not_found(filled: tuple[Path, Any, list[Any]]) -> None:
    folder, _, asked = filled
    known = Known(Answers(folder, SCOPE), {"plural": "1"})
    prompt, settings = next(arguments for kind, arguments in asked if kind == "generate_until")
    assert known.generate_until([Request("plural", {}, (prompt, settings))])
    for change in ({"max_gen_toks": 99}, {"until": ["."]}, {"do_sample": True}):
        with pytest.raises(UnknownError):
            known.generate_until([Request("plural", {}, (prompt, {**settings, **change}))])


def _code(*instructions: str) -> Task:
    meta = {"entry_point": "f", "canonical_solution": "pass"}
    inputs = {"function": "def f():", "tests": "[]"}
    made = [Record(text, inputs, '["1"]', text, text, "f", meta) for text in instructions]
    return replace(suites.describe("rucodeeval"), test=tuple(made))


class _Drawing:
    """A model whose samples are numbered in the order in which they are drawn, from 0 in every call."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def set_cache_hook(self, hook: Any) -> None:
        self.hook = hook

    def generate_until(self, requests: list[Any]) -> list[str]:
        self.calls.append(len(requests))
        return [f"{request.arguments[0]} {number}" for number, request in enumerate(requests)]


def test_samples_are_drawn_together_or_not_at_all(tmp_path: Path) -> None:
    """A sample depends on those drawn before it: with an item more all are drawn anew, as without a cache."""
    model, answers = _Drawing(), Answers(tmp_path, SCOPE)
    wrapped = Remembering(model, answers, {"rucodeeval": "1"})
    one = recall.run(wrapped, [_code("а")], lambda *_: 0)
    assert recall.run(wrapped, [_code("а")], lambda *_: 0) == one
    assert one.answers["rucodeeval"][0].written == tuple(f"а {number}" for number in range(10))
    both = recall.run(wrapped, [_code("б", "а")], lambda *_: 0)
    assert model.calls == [10, 20]
    assert both == recall.run(Known(answers, {"rucodeeval": "1"}), [_code("б", "а")], lambda *_: 0)
    assert both.answers["rucodeeval"][1].written[0] == "а 10"


def test_samples_are_asked_as_lm_eval_asks_them() -> None:
    task = _code("а")
    config = harness.configured(task).config
    (found,) = prompts.requests(task)
    assert [request.arguments for request in found] == [("а", config.generation_kwargs)] * config.repeats


def test_a_run_that_is_killed_goes_on_from_its_last_batch(lm: Any, tmp_path: Path) -> None:
    class KilledError(Exception):
        pass

    class Dying(Answers):
        def put(self, value: Any, *request: Any) -> None:
            if self.asked == 5:
                raise KilledError
            super().put(value, *request)

    tasks = _tasks()[:1]
    with pytest.raises(KilledError):
        harness.run(Remembering(lm, Dying(tmp_path, SCOPE), _versions(tasks)), tasks)
    found, requests = _ask(lm, tasks, tmp_path)
    assert len(requests) == 12 - 5
    assert len(found.items) == 6
