"""lm-eval drives our tasks: scores against answers known beforehand and directly computed probabilities."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from evaluation_models import Oracle, direct_logprob, make_model, make_tokenizer

from evals import harness
from evals.errors import EvalError
from evals.records import Layout, Record
from evals.suites import Task

WORDS = ["кот", "дом", "река", "лес", "мост", "снег", "окно", "хлеб"]


def _records(answers: list[str]) -> tuple[Record, ...]:
    return tuple(
        Record(
            "Слово {word}, номер {n}.\nОтвет:",
            {"word": WORDS[i % 8], "n": str(i)},
            answer,
            str(i),
            f"f{i // 2}",
            "",
        )
        for i, answer in enumerate(answers)
    )


def _task(name: str, answers: list[str], choices: tuple[str, ...] | None = None, **changes: Any) -> Task:
    kind = "choice" if choices else "generate"
    return replace(Task(name, "ru", kind, choices, Layout(), "1", _records(answers)), **changes)


def _prompts(task: Task) -> list[str]:
    return [task.layout.full(record) for record in task.test]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    texts = [f"Слово {word}, номер {n}.\nОтвет: {word} да нет" for n, word in enumerate(WORDS * 3)]
    return make_tokenizer(texts)


@pytest.fixture(scope="module")
def model(tokenizer: Any) -> Any:
    return make_model(tokenizer)


def test_choices_are_those_of_a_direct_computation(model: Any, tokenizer: Any) -> None:
    """One-token and many-token choices, several tasks in one call, batches smaller than a task."""
    tasks = [
        _task("digits", ["2", "1", "2", "1", "3", "3"] * 3, ("1", "2", "3")),
        _task("words", ["да", "Вероятно, нет", "да", "да", "да"] * 3, ("да", "Вероятно, нет")),
    ]
    found = harness.run(harness.wrap(model, tokenizer, 4), tasks)
    expected = []
    for task in tasks:
        for record, prompt in zip(task.test, _prompts(task), strict=True):
            logprobs = {
                choice: direct_logprob(model, tokenizer, prompt, f" {choice}")
                for choice in task.choices or ()
            }
            expected.append(
                (task.name, record.cluster, float(max(logprobs, key=logprobs.__getitem__) == record.outputs))
            )
    assert [(item.task, item.cluster, item.value) for item in found.items] == expected
    assert {value for *_, value in expected} == {0.0, 1.0}
    assert {item.metric for item in found.items} == {"acc"}


def _cloze(answers: list[str]) -> Task:
    task = _task("cloze", answers, ("A", "B"), options=("option_a", "option_b"))
    options = [{"option_a": WORDS[i % 8], "option_b": WORDS[(i + 3) % 8]} for i in range(len(answers))]
    records = [
        replace(record, inputs={**record.inputs, **pair})
        for record, pair in zip(task.test, options, strict=True)
    ]
    return replace(task, test=tuple(records))


def test_cloze_scores_the_texts_of_the_options(model: Any, tokenizer: Any) -> None:
    task = _cloze(["A", "B", "B", "A"] * 4)
    found = harness.run(harness.wrap(model, tokenizer, 4), [task])
    expected = []
    for record, prompt in zip(task.test, _prompts(task), strict=True):
        scores = {
            sign: direct_logprob(model, tokenizer, prompt, f" {record.inputs[name]}")
            for sign, name in (("A", "option_a"), ("B", "option_b"))
        }
        expected.append(float(max(scores, key=scores.__getitem__) == record.outputs))
    assert [item.value for item in found.items] == expected
    assert {*expected} == {0.0, 1.0}


def test_cloze_refuses_equal_and_missing_options() -> None:
    task = _cloze(["A", "B"])
    inputs = task.test[0].inputs
    twice = replace(task.test[0], inputs={**inputs, "option_b": inputs["option_a"]})
    with pytest.raises(EvalError, match="item 0: two options are the same text"):
        task.continuations(twice)
    with pytest.raises(EvalError, match="item 0: inputs lack the option `option_b`"):
        task.continuations(replace(task.test[0], inputs={"option_a": "дом"}))


def test_digits_are_matched_by_value_not_by_place(tokenizer: Any) -> None:
    """The digit trap: a gold "1" among ("1", "2") must be the first choice, "2" the second."""
    task = _task("digits", ["1", "2", "2", "1"], ("1", "2"))
    right = ["1", "2", "1", "1"]
    lm = harness.wrap(Oracle.of(tokenizer, dict(zip(_prompts(task), right, strict=True))), tokenizer, 3)
    assert [item.value for item in harness.run(lm, [task]).items] == [1.0, 1.0, 0.0, 1.0]


def test_written_answers_are_compared_after_normalisation(tokenizer: Any) -> None:
    task = _task("plural", ["Ёлки", "-12", "дома", "реки", "окна"])
    given = ["елки.", "12", "Дома", "река", "окна и двери"]
    lm = harness.wrap(Oracle.of(tokenizer, dict(zip(_prompts(task), given, strict=True))), tokenizer, 2)
    found = harness.run(lm, [task])
    assert [item.value for item in found.items] == [1.0, 0.0, 1.0, 0.0, 0.0]
    assert found.cut == {"plural": 0}


def test_open_answers_stop_at_the_line_end_and_keep_their_order(tokenizer: Any) -> None:
    prompts = ["Что это?\nОтвет:", "Кто там, за дверью, и почему он молчит?\nОтвет:", "Где?\nОтвет:"]
    answers = ["большой дом", "сосед", "в лесу"]
    lm = harness.wrap(Oracle.of(tokenizer, dict(zip(prompts, answers, strict=True))), tokenizer, 2)
    assert harness.answer(lm, prompts) == answers
    assert harness.answer(lm, []) == []


def test_shots_stand_before_the_item_and_are_used(tokenizer: Any) -> None:
    """With shots the prompt is the shots' turns with their answers, blank lines between, then the item."""
    shots = (
        Record("Слово {word}?", {"word": "мост"}, "да", "s1", "s1", ""),
        Record("Слово?", "", "нет", "s2", "s2", ""),
    )
    task = _task("words", ["да", "нет"], ("да", "нет"), shots=shots)
    prefix = "Слово мост? да\n\nСлово? нет\n\n"
    answers = {prefix + prompt: answer for prompt, answer in zip(_prompts(task), ["да", "да"], strict=True)}
    found = harness.run(harness.wrap(Oracle.of(tokenizer, answers), tokenizer, 8), [task])
    assert [item.value for item in found.items] == [1.0, 0.0]
    zero = harness.run(harness.wrap(Oracle.of(tokenizer, answers), tokenizer, 8), [replace(task, shots=())])
    assert [item.doc_hash for item in zero.items] == [item.doc_hash for item in found.items]
    assert all(a.prompt_hash != b.prompt_hash for a, b in zip(zero.items, found.items, strict=True))


def test_shots_and_items_of_equal_ids_are_told_apart(tokenizer: Any) -> None:
    """Both splits of a task number their records from 0."""
    task = _task("words", ["да", "нет"], ("да", "нет"))
    shots = (replace(task.test[0], instruction="Образец {word}:", inputs={"word": "мост"}),)
    prepared = harness.configured(replace(task, shots=shots))
    contexts = [prepared.fewshot_context(doc, 1) for doc in prepared.eval_docs]
    assert contexts == [f"Образец мост: да\n\n{prompt}" for prompt in _prompts(task)]

    cloze = _cloze(["A", "B"])
    first = cloze.test[0]
    other = replace(first, inputs={**first.inputs, "option_a": "мост", "option_b": "окно"})
    prepared = harness.configured(replace(cloze, shots=(other,)))
    shown = f"{_prompts(cloze)[0]} мост\n\n"
    assert [prepared.fewshot_context(doc, 1) for doc in prepared.eval_docs] == [
        shown + prompt for prompt in _prompts(cloze)
    ]
    assert [prepared.doc_to_choice(doc) for doc in prepared.eval_docs] == [["кот", "лес"], ["дом", "мост"]]


def test_a_frame_replaces_every_turn_but_the_first(tokenizer: Any) -> None:
    layout = Layout(frame="{word}:", shot_suffix="\nСлово:")
    task = _task("words", ["да", "нет", "да"], ("да", "нет"), layout=layout)
    task = replace(task, test=task.test[2:], shots=task.test[:2])
    prepared = harness.configured(task)
    context = prepared.fewshot_context(prepared.eval_docs[0], 2)
    assert context == "Слово кот, номер 0.\nОтвет:\nСлово: да\n\nдом: нет\n\nрека:"


def test_results_are_equal_in_every_run_and_hashes_name_the_record(model: Any, tokenizer: Any) -> None:
    task = _task("words", ["да", "нет"] * 4, ("да", "нет"))
    lm = harness.wrap(model, tokenizer, 4)
    first, second = harness.run(lm, [task]), harness.run(lm, [task])
    assert first.items == second.items
    changed = replace(task, test=(replace(task.test[0], outputs="нет"), *task.test[1:]))
    other = harness.run(lm, [changed]).items
    assert [a.doc_hash == b.doc_hash for a, b in zip(first.items, other, strict=True)] == [False] + [True] * 7
    assert [item.prompt_hash for item in other] == [item.prompt_hash for item in first.items]


def test_the_place_of_the_working_folder_does_not_matter(
    model: Any, tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = _task("words", ["да", "нет"], ("да", "нет"))
    lm = harness.wrap(model, tokenizer, 4)
    here = harness.run(lm, [task]).items
    monkeypatch.chdir(tmp_path)
    assert harness.run(lm, [task]).items == here
    assert not list(tmp_path.iterdir())


def test_prompts_that_lose_their_beginning_are_counted(tokenizer: Any) -> None:
    short = make_model(tokenizer, positions=64)
    long = Record("слово " * 80 + "Ответ:", "", "да", "long", "long", "")
    choice, written = _task("words", ["да", "нет"], ("да", "нет")), _task("plural", ["да", "нет"])
    tasks = [replace(task, test=(*task.test, long)) for task in (choice, written)]
    found = harness.run(harness.wrap(short, tokenizer, 4), tasks)
    assert found.cut == {"words": 1, "plural": 1}
    assert len(found.items) == 6


def test_nothing_is_printed_and_progress_is_told(
    model: Any, tokenizer: Any, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    rows: list[int] = []
    task = _task("words", ["да", "нет"] * 3, ("да", "нет"))
    harness.run(harness.wrap(model, tokenizer, 4), [task, _task("plural", ["да"])], rows.append)
    assert sum(rows) >= 7
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


@pytest.mark.parametrize("weight", ["model.norm.weight", "model.embed_tokens.weight"])
def test_broken_weights_are_refused_before_any_score(tokenizer: Any, weight: str) -> None:
    broken = make_model(tokenizer)
    with torch.no_grad():
        broken.get_parameter(weight).flatten()[0] = float("nan")
    with pytest.raises(EvalError, match="not finite"):
        harness.wrap(broken, tokenizer, 4)


def test_a_score_that_is_not_finite_is_no_answer(tokenizer: Any) -> None:
    """Weights that break on few tokens pass the first look; argmax over NaN would still name a choice."""
    broken = make_model(tokenizer)
    word = tokenizer.encode(" кот")[0]
    with torch.no_grad():
        broken.lm_head.weight = torch.nn.Parameter(broken.lm_head.weight.clone())
        broken.model.embed_tokens.weight[word] = float("nan")
    with pytest.raises(EvalError, match=r"task `words`, item 0: .* not finite"):
        harness.run(harness.wrap(broken, tokenizer, 4), [_task("words", ["да", "нет"], ("да", "нет"))])


def test_a_foreign_tokenizer_is_refused(model: Any, tokenizer: Any) -> None:
    larger = make_tokenizer([" ".join(WORDS)])
    larger.add_tokens([f"слово{n}" for n in range(200)])
    with pytest.raises(EvalError, match="foreign tokenizer"):
        harness.wrap(model, larger, 4)
    other = make_tokenizer([" ".join(WORDS)])
    other.eos_token = "A"
    with pytest.raises(EvalError, match="foreign tokenizer"):
        harness.wrap(model, other, 4)


def test_equal_records_are_refused(model: Any, tokenizer: Any) -> None:
    task = _task("words", ["да", "нет"], ("да", "нет"))
    with pytest.raises(EvalError, match="two records are equal"):
        harness.run(harness.wrap(model, tokenizer, 4), [replace(task, test=task.test[:1] * 2)])
