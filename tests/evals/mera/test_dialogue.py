"""ruTiE is asked turn by turn: every question after the model's own earlier answers."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from evaluation_models import Oracle, make_tokenizer

from evals import harness, scores, suites
from evals.errors import EvalError
from evals.mera import dialogue
from evals.records import Record
from evals.suites import Suite, Task

INSTRUCTION = "Диалог:\n{context}\n{question}\n1. {choice1}\n2. {choice2}\nОтвет:"


def _turn(number: int, answer: str = "1", name: int = 0) -> Record:
    inputs = {"question": f"Вопрос {number}?", "choice1": "да {", "choice2": "нет"}
    meta = {"dialog_id": name, "question_id": number}
    return Record(INSTRUCTION, inputs, answer, f"{name}:{number}", f"{name}", f"f:{number}", meta)


def _task(*turns: Record, mode: suites.Mode = "choice") -> Task:
    return replace(suites.describe("rutie", mode), test=tuple(dialogue.ordered(turns, "f")))


def _prompt(task: Task, number: int, told: list[str]) -> str:
    return dialogue.prompt(task.layout, task.test[number], task.test[:number], told)


def test_turns_must_follow_one_another() -> None:
    assert [turn.id for turn in dialogue.ordered([_turn(1), _turn(0)], "f")] == ["0:0", "0:1"]
    with pytest.raises(EvalError, match="f: dialogue 0 lacks question 1"):
        dialogue.ordered([_turn(0), _turn(2)], "f")
    with pytest.raises(EvalError, match=r"must name `\{context\}` once"):
        dialogue.ordered([replace(_turn(0), instruction="{question}")], "f")


class _Told:
    """An lm-eval model that answers 2 after a turn it answered with 1, else 1; it keeps what it was asked."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []

    def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
        self.batches.append([request.arguments[0] for request in requests])
        ones = [text.rpartition("\n\n")[0].endswith("Ответ: 1") for text in self.batches[-1]]
        best = [" 2" if one else " 1" for one in ones]
        return [(float(r.arguments[1] == b), True) for r, b in zip(requests, best, strict=True)]


def test_each_turn_shows_the_models_own_answers_whatever_the_gold() -> None:
    task = _task(*[_turn(number, "2") for number in range(4)], *[_turn(n, "2", 1) for n in range(2)])
    turns = dialogue.Turns(task.layout, task.test, task.choices, "digit")
    lm = _Told()
    wrapped = dialogue.Dialogues(lm, {"rutie": turns})
    requests = [
        SimpleNamespace(
            task_name="rutie", doc={"id": turn.id}, arguments=(dialogue.template(turn), f" {choice}")
        )
        for turn in task.test
        for choice in ("1", "2")
    ]
    other = SimpleNamespace(task_name="rcb", doc={"id": "0:0"}, arguments=("{context}", " 1"))
    found = wrapped.loglikelihood([requests[0], other, *requests[1:]])
    assert len(found) == 13
    # Other tasks first, in one batch; then a turn of every dialogue at a time.
    assert [len(batch) for batch in lm.batches] == [1, 4, 4, 2, 2]
    assert lm.batches[0] == ["{context}"]
    assert wrapped.asked["rutie", "0:3"] == _prompt(task, 3, ["1", "2", "1"])
    assert requests[0].arguments[0] == dialogue.template(task.test[0])


@pytest.mark.parametrize("mode", ["choice", "generate"])
def test_a_dialogue_runs_on_a_real_model(mode: suites.Mode) -> None:
    """Certain answers 2, 1, 2; the middle turn has no gold: it is asked, shown to later ones, not scored."""
    task = _task(_turn(0, "2"), _turn(1, ""), _turn(2, "1"), mode=mode)
    prompts = [_prompt(task, 0, []), _prompt(task, 1, ["2"]), _prompt(task, 2, ["2", "1"])]
    tokenizer = make_tokenizer(prompts)
    model = Oracle.of(tokenizer, dict(zip(prompts, ["2", "1", "2"], strict=True)))
    found = harness.run(harness.wrap(model, tokenizer, 4), [task])
    assert [answer.text for answer in found.answers[task.name]] == ["2", "1", "2"]
    assert [item.value for item in found.items] == [1.0, 0.0]
    described = scores.describe(Suite([replace(task, unanswered=1)]), found, [])
    entry = described["tasks"][task.name]
    assert (entry["value"], entry["score"], entry["n"], entry["unanswered"]) == (0.5, 0.5, 2, 1)
    # One dialogue: nothing tells the spread, so it is the greatest that there can be.
    assert (entry["clusters"], entry["score_se"], entry["score_ci"]) == (1, 0.5, [0.0, 1.0])
    assert (described["mera"]["tasks"], described["mera"]["official"]) == (["ruTiE"], False)
    assert len(described["mera"]["missing"]) == 14
    # What lm-eval hashes is the same for a model that answers otherwise.
    other = Oracle.of(tokenizer, {prompts[0]: "1"})
    again = harness.run(harness.wrap(other, tokenizer, 4), [task])
    assert [a.prompt_hash for a in again.items] == [a.prompt_hash for a in found.items]
