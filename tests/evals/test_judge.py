"""The embedded judge: layout, verdicts by log-probability in both orders; the model is planted."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from evals.errors import EvalError
from evals.judge import layout, passport
from evals.judge.local import embedded
from evals.judge.verdicts import Missing, Pair, Verdict

real_layout = layout.layout
VOCABULARY = 256
# Log-odds that the first answer is better, from the prompt.
Opinion = Callable[[str], float]


class Letters:
    """A tokenizer of Latin-1 bytes: one token a character, so that a verdict is two tokens long."""

    bos_token_id, eos_token_id = None, 0

    def __call__(self, texts: list[str], **options: Any) -> dict[str, list[list[int]]]:
        return {"input_ids": [[ord(sign) % VOCABULARY for sign in text] for text in texts]}


class Oracle:
    """A causal model with an opinion: after the prompt's space, sign 1 or 2 with these odds."""

    def __init__(self, opinion: Opinion, positions: int = 4096) -> None:
        self.opinion, self.rows = opinion, 0
        self.device = torch.device("cpu")
        settings = SimpleNamespace(max_position_embeddings=positions, vocab_size=VOCABULARY)
        self.config = SimpleNamespace(get_text_config=lambda: settings)

    def __call__(self, input_ids: torch.Tensor, use_cache: bool, logits_to_keep: int) -> SimpleNamespace:
        logits = torch.full((*input_ids.shape, VOCABULARY), -30.0)
        logits[..., ord(" ")] = 0.0
        for row, ids in enumerate(input_ids.tolist()):
            self.rows += 1
            text = "".join(chr(token) for token in ids if token)
            at = len(text) - 1
            odds = self.opinion(text[:at])
            logits[row, at, ord("1")], logits[row, at, ord("2")] = odds, 0.0
            logits[row, at, ord(" ")] = -30.0
        return SimpleNamespace(logits=logits[:, -logits_to_keep:])


@pytest.fixture(autouse=True)
def latin_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same layout in letters that the planted tokenizer knows."""
    monkeypatch.setattr(layout, "layout", lambda: "{question}\n1) {first}\n2) {second}\nbest:")


def answers(prompt: str) -> tuple[str, str]:
    """The two answers as the planted judge reads them."""
    lines = prompt.splitlines()
    return lines[1][3:], lines[2][3:]


def knows(prompt: str) -> float:
    """A perfect judge: the answer `right` is better."""
    return 4.0 if answers(prompt)[0] == "right" else -4.0


def pairs(count: int = 6) -> list[Pair]:
    """Questions of different length, half of them with the right answer as ours."""
    return [
        Pair(str(i), f"c{i}", "q" * (i + 1), *(("right", "wrong") if i % 2 else ("wrong", "right")))
        for i in range(count)
    ]


def judge(model: Any, pairs: list[Pair], batch_size: int = 32) -> tuple[list[Verdict], list[str]]:
    """The verdicts, and the ids of pairs that are missing as too long."""
    results = embedded(model, Letters(), "digest", batch_size).pairs(pairs)
    missing = [result for result in results if isinstance(result, Missing)]
    assert {result.kind for result in missing} <= {"too_long"}
    return [result for result in results if isinstance(result, Verdict)], [result.id for result in missing]


def test_a_perfect_judge_prefers_the_right_answer_in_both_orders() -> None:
    verdicts, long = judge(Oracle(knows), pairs(), batch_size=4)
    assert not long
    for index, verdict in enumerate(verdicts):
        expected = 1 / (1 + math.exp(-4.0)) if index % 2 else 1 / (1 + math.exp(4.0))
        assert verdict.p_first == pytest.approx(expected, abs=1e-6)
        assert verdict.p_second == pytest.approx(expected, abs=1e-6)
        assert verdict.consistent


def test_a_judge_that_takes_the_first_answer_is_a_draw_and_never_consistent() -> None:
    verdicts, _ = judge(Oracle(lambda _: 2.0), pairs())
    assert [verdict.preference for verdict in verdicts] == pytest.approx([0.5] * 6)
    found = passport.without_labels(verdicts)
    assert (found["consistency"].value, found["primacy"].value) == (0.0, 1.0)


def test_the_batch_size_changes_nothing() -> None:
    one, _ = judge(Oracle(knows), pairs(), batch_size=1)
    many, _ = judge(Oracle(knows), pairs(), batch_size=64)
    assert [v.preference for v in one] == pytest.approx([v.preference for v in many], abs=1e-7)


def test_equal_answers_are_a_draw_without_a_call() -> None:
    oracle = Oracle(knows)
    verdicts, _ = judge(oracle, [Pair("a", "c", "q", " right\n", "right")])
    assert (verdicts[0].preference, verdicts[0].consistent, oracle.rows) == (0.5, None, 0)


def test_a_pair_that_does_not_fit_is_reported_and_neither_won_nor_lost() -> None:
    long = Pair("long", "c", "q" * 200, "right", "wrong")
    verdicts, left_out = judge(Oracle(knows, positions=100), [*pairs(2), long])
    assert left_out == ["long"]
    assert [verdict.id for verdict in verdicts] == ["0", "1"]


def test_a_judge_with_broken_weights_is_refused() -> None:
    with pytest.raises(EvalError, match="not finite"):
        judge(Oracle(lambda _: float("nan")), pairs(1))


def test_a_layout_must_name_every_place(tmp_path: Path) -> None:
    bad = tmp_path / "layout.txt"
    bad.write_text("{question} {first}", encoding="utf-8")
    with pytest.raises(EvalError, match="once each"):
        real_layout(bad)


def test_our_layout_is_russian_and_ends_where_the_verdict_begins() -> None:
    assert real_layout().splitlines()[-1] == "Лучший ответ:"


@given(st.text(max_size=30), st.text(max_size=30), st.text(max_size=30))
def test_texts_with_braces_go_through_unchanged(question: str, first: str, second: str) -> None:
    prompt = layout.render(question + "{first}", first, second)
    assert prompt.startswith((question + "{first}").strip() + "\n1) ")
    assert f"1) {layout.tidy(first)}\n2) {layout.tidy(second)}\n" in prompt
