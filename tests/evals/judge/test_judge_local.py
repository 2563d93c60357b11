"""A local model as judge: its verdicts are the log-probabilities of the words, whatever the batch."""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
from evaluation_models import direct_logprob, make_model, make_tokenizer
from judge_fakes import make_pairs

from evals.errors import EvalError
from evals.judge import local, rubrics
from evals.judge.local import LocalModel
from evals.judge.protocol import Reply, RubricJudge
from evals.judge.verdicts import Grade, Missing, Pair, Single, Verdict

PAIR, GRADE = rubrics.load("pair.ru"), rubrics.load("grade.ru")


@pytest.fixture(scope="module")
def plain() -> Any:
    """A tokenizer without a chat template."""
    return make_tokenizer([PAIR.system, PAIR.prompt], size=500)


def text_of(rubric: Any, prompt: str) -> str:
    return f"{rubric.system}\n{prompt}\n{rubric.cue}"


def test_shares_are_those_of_the_definition(model: Any, plain: Any) -> None:
    item = make_pairs(1)[0]
    prompt, _ = PAIR.pair(item)
    (reply,) = LocalModel(model, plain, "d").ask(PAIR, [prompt])
    assert isinstance(reply, Reply)
    prefix = plain.eos_token
    odds = [
        math.exp(direct_logprob(model, plain, prefix + text_of(PAIR, prompt), f" {label}"))
        for label in PAIR.labels
    ]
    assert reply.shares == pytest.approx([value / sum(odds) for value in odds], rel=1e-4)
    assert sum(reply.shares) == pytest.approx(1)


@pytest.mark.parametrize("chat", [False, True])
def test_one_row_a_prompt_gives_what_one_row_a_verdict_gives(
    model: Any, plain: Any, tokenizer: Any, chat: bool
) -> None:
    names, rows = tokenizer if chat else plain, [0, 0]

    def counter(place: int) -> Any:
        def count(more: int) -> None:
            rows[place] += more

        return count

    pairs = make_pairs(5)
    shared = RubricJudge("a", LocalModel(model, names, "d", 3, True, counter(0)), PAIR).pairs(pairs)
    apart = RubricJudge("b", LocalModel(model, names, "d", 7, False, counter(1)), PAIR).pairs(pairs)
    assert rows == [10, 30]
    for one, other in zip(shared, apart, strict=True):
        assert isinstance(one, Verdict) and isinstance(other, Verdict)
        assert (one.p_first, one.p_second, one.tie_first) == pytest.approx(
            (other.p_first, other.p_second, other.tie_first), abs=1e-5
        )


def test_grades_are_expected_values(model: Any, tokenizer: Any) -> None:
    items = [Single(str(i), "c", "Вопрос", f"Ответ {i}") for i in range(4)]
    for grade in RubricJudge("g", LocalModel(model, tokenizer, "d"), GRADE).grades(items):
        assert isinstance(grade, Grade)
        assert [value for value, _ in grade.shares] == [1, 2, 3, 4, 5]
        assert sum(share for _, share in grade.shares) == pytest.approx(1)
        assert grade.value == pytest.approx(sum(value * share for value, share in grade.shares))


def test_a_template_without_a_system_message_gets_it_with_the_question(model: Any, tokenizer: Any) -> None:
    strict = deepcopy(tokenizer)
    strict.chat_template = (
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        "<{{ m.role }}>\n{{ m.content }}\n{% endfor %}{{ '<assistant>\n' }}"
    )
    text = local._text(strict, PAIR, "PROMPT")
    assert text == f"<user>\n{PAIR.system}\n\nPROMPT\n<assistant>\n"


def test_a_prompt_that_does_not_fit_is_missing(plain: Any) -> None:
    narrow = make_model(plain, positions=700)
    pairs = [*make_pairs(2), Pair("long", "c", "слово " * 400, "да", "нет")]
    results = RubricJudge("n", LocalModel(narrow, plain, "d"), PAIR).pairs(pairs)
    assert [isinstance(result, Verdict) for result in results] == [True, True, False]
    assert isinstance(results[2], Missing)
    assert (results[2].kind, results[2].id) == ("too_long", "long")
    assert "context holds 700" in results[2].reason


@pytest.mark.parametrize("shared", [True, False])
def test_the_longest_prompt_that_fits_is_judged(plain: Any, shared: bool) -> None:
    prompt, _ = PAIR.pair(make_pairs(1)[0])
    length = 1 + len(plain.encode(text_of(PAIR, prompt)))
    for positions, kind in ((length, Reply), (length - 1, local.Failure)):
        backend = LocalModel(make_model(plain, positions=positions), plain, "d", shared=shared)
        # With a row for each verdict its last token stands in the row, but nothing is read from it.
        assert isinstance(backend.ask(PAIR, [prompt])[0], kind)


def test_equal_answers_cost_nothing_and_broken_weights_are_refused(plain: Any) -> None:
    broken = make_model(plain)
    for weight in broken.parameters():
        weight.data.fill_(float("nan"))
    tiny = RubricJudge("b", LocalModel(broken, plain, "d"), rubrics.embedded())
    same = Pair("s", "c", "q", "да", " да\n")
    assert tiny.pairs([same]) == [Verdict("s", "c", 0.5, 0.5, asked=False)]
    with pytest.raises(EvalError, match="not finite"):
        tiny.pairs([same, *make_pairs(1)])


def test_a_judge_is_not_asked_in_the_other_form(model: Any, tokenizer: Any) -> None:
    backend = LocalModel(model, tokenizer, "d")
    with pytest.raises(EvalError, match=r"rubric `grade\.ru` is for the form `grade`"):
        RubricJudge("j", backend, GRADE).pairs(make_pairs(1))
    with pytest.raises(EvalError, match=r"rubric `pair\.ru` is for the form `pair`"):
        RubricJudge("j", backend, PAIR).grades([])


def test_the_identity_is_of_weights_and_rubric_and_not_of_the_name(model: Any, tokenizer: Any) -> None:
    one = RubricJudge("one", LocalModel(model, tokenizer, "d1"), PAIR).identity
    assert RubricJudge("two", LocalModel(model, tokenizer, "d1", 1), PAIR).identity.digest == one.digest
    assert RubricJudge("one", LocalModel(model, tokenizer, "d2"), PAIR).identity.digest != one.digest
    assert RubricJudge("one", LocalModel(model, tokenizer, "d1"), GRADE).identity.digest != one.digest


@pytest.mark.parametrize(
    ("first", "second", "outcomes", "consistent", "outcome"),
    [
        ((0.9, 0.0), (0.8, 0.0), ("ours", "ours"), True, "ours"),
        ((0.9, 0.0), (0.2, 0.0), ("ours", "theirs"), False, "tie"),
        ((0.5, 0.0), (0.5, 0.0), (None, None), False, "tie"),
        ((0.5, 0.6), (0.55, 0.7), ("tie", "tie"), True, "tie"),
        ((0.6, 0.2), (0.6, 0.2), ("ours", "ours"), True, "ours"),
        ((0.5, 1.0), (0.1, 0.1), ("tie", "theirs"), False, "tie"),
    ],
)
def test_outcomes_of_a_verdict(
    first: Any, second: Any, outcomes: Any, consistent: bool, outcome: str
) -> None:
    verdict = Verdict("i", "c", first[0], second[0], True, first[1], second[1])
    assert (verdict.outcomes, verdict.consistent, verdict.outcome) == (outcomes, consistent, outcome)
    assert replace(verdict, asked=False).consistent is None
