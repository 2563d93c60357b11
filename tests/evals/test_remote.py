"""Tasks asked of a model behind an address: a real server on loopback, whose answers are known beforehand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from judge_server import Writing, serve

from evals import recall, remote, suites
from evals.errors import EvalError
from evals.judge.endpoint import Endpoint, Settings
from evals.mera import dialogue
from evals.records import Layout, Record
from evals.suites import Task


@contextmanager
def writing(answer: Callable[[str], str], plan: Any = lambda *_: None) -> Iterator[Writing]:
    """A server as long as the block lasts."""
    server = Writing(plan=plan, answer=answer)
    with serve(server):
        yield server


def _remote(server: Writing, cache: Path | None = None, **changes: Any) -> remote.Remote:
    settings = Settings(server.address, "m", timeout=2.0, pause=0.0, **{"retries": 1, **changes})
    redact = lambda text: text.replace("+7 912 345-67-89", "[ТЕЛЕФОН]")  # noqa: E731
    return remote.Remote(Endpoint(settings, redact, True, cache, role="model"))


def _task(*answers: str) -> Task:
    records = [
        Record("Слово {n}, позвони +7 912 345-67-89.\nОтвет:", {"n": str(n)}, answer, str(n), str(n), "")
        for n, answer in enumerate(answers)
    ]
    return Task("plural", "ru", "generate", None, Layout(), "1", tuple(records))


def _turn(number: int) -> Record:
    inputs = {"question": f"Вопрос {number}?", "choice1": "да", "choice2": "нет"}
    meta = {"dialog_id": 0, "question_id": number}
    text = "Диалог:\n{context}\n{question}\n1. {choice1}\n2. {choice2}\nОтвет:"
    return Record(text, inputs, "2", f"0:{number}", "0", "f", meta)


def test_answers_are_cut_at_the_stop_and_scored_and_nothing_personal_is_sent() -> None:
    task = _task("дома", "реки", "коты")
    with writing(lambda prompt: {"0": "Дома.\nИ ещё", "1": "река"}.get(prompt[6], "")) as server:
        found = recall.run(_remote(server), [task], lambda *_: None)
        assert [answer.written for answer in found.answers["plural"]] == [("Дома.",), ("река",), ("",)]
        assert [item.value for item in found.items] == [1.0, 0.0, 0.0]
        assert found.cut == {"plural": None}
        assert all("[ТЕЛЕФОН]" in prompt and "345" not in prompt for prompt in server.attempts)
        assert {request["max_tokens"] for request in server.requests} == {16}
        assert all(len(request["messages"]) == 1 for request in server.requests)


def test_a_dialogue_goes_on_with_the_models_own_answers() -> None:
    turns = tuple(dialogue.ordered([_turn(n) for n in range(3)], "f"))
    task = replace(suites.describe("rutie", "generate"), test=turns)
    with writing(lambda prompt: f"Ответ {1 + prompt.count('Ответ:') % 2}") as server:
        found = recall.run(_remote(server), [task], lambda *_: None)
        assert [answer.text for answer in found.answers[task.name]] == ["2", "1", "2"]
        assert "Ответ: 2\n\nВопрос 1?" in list(server.attempts)[2]


def test_what_cannot_be_asked_is_refused_by_name() -> None:
    tasks = [suites.describe("rcb"), suites.describe("rucodeeval"), suites.describe("rcb", "generate")]
    assert remote.refused(tasks) == {"rcb": remote.NO_CHOICES, "rucodeeval": remote.NO_SAMPLES}


def test_prompts_without_a_reply_end_in_one_line_and_only_they_are_asked_again(tmp_path: Path) -> None:
    task, cache = _task("а", "б", "в"), tmp_path / "replies.jsonl"
    failing = {1: 2}  # the second prompt fails for both tries of the first run
    plan = lambda prompt, attempt: "500" if attempt < failing.get(prompt, 0) else None  # noqa: E731
    with writing(lambda _: "а", plan) as server:
        with pytest.raises(EvalError, match=r"`m` left 1 of 3 prompts without a reply \(server: status 500"):
            recall.run(_remote(server, cache, concurrency=1), [task], lambda *_: None)
        asked = server.attempts.total()
        found = recall.run(_remote(server, cache), [task], lambda *_: None)
        assert [answer.text for answer in found.answers["plural"]] == ["а", "а", "а"]
        assert server.attempts.total() == asked + 1
        assert recall.run(_remote(server, cache), [task], lambda *_: None) == found
        assert server.attempts.total() == asked + 1


def test_another_model_or_length_is_asked_anew(tmp_path: Path) -> None:
    cache = tmp_path / "replies.jsonl"
    request = recall.Request("plural", {}, ("Слово:", {"until": ["\n"], "max_gen_toks": 16}))
    longer = replace(request, arguments=("Слово:", {"until": ["\n"], "max_gen_toks": 32}))
    with writing(lambda _: "а") as server:
        first = _remote(server, cache)
        assert first.generate_until([request, longer]) == ["а", "а"]
        assert server.attempts.total() == 2
        first.generate_until([request, longer])
        assert server.attempts.total() == 2


def test_an_endpoint_gives_no_log_probabilities() -> None:
    with writing(lambda _: "а") as server, pytest.raises(EvalError, match="no log-probabilities"):
        _remote(server).loglikelihood([recall.Request("x", {}, ("a", " b"))])
