"""Exact match after normalisation, and what a score must beat."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.baselines import chance, majority
from evals.scoring import exact_match, normalise


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ("Ёжик", " ежик."),
        ("-54", "−54"),
        ("3,5", "3.5"),
        ("кое-где", "кое где"),
        ("Москва", "«Москва»!"),
        ("две  кошки", "Две кошки"),
        ("%", "%"),
    ],
)
def test_equal_after_normalisation(gold: str, answer: str) -> None:
    assert exact_match(gold, answer) == 1.0


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ("-54", "54"),
        ("35", "3,5"),
        ("12", "1 2"),
        ("да", ""),
        ("%", "#"),
        ("<", ">"),
        ("10", "10 яблок"),
        ("", "да"),
    ],
)
def test_different_after_normalisation(gold: str, answer: str) -> None:
    assert exact_match(gold, answer) == 0.0


@given(st.text())
def test_normalisation_is_idempotent_and_folds_case(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)


def test_majority_is_the_best_constant_answer() -> None:
    assert majority(["1", "1", "2", "11"], ["1", "2"]) == 0.5
    assert majority(["11", "11", "1"], ["1", "2"]) == pytest.approx(1 / 3)
    assert majority(["Ёж", "еж.", "кот"], None) == pytest.approx(2 / 3)


def test_chance_counts_answers_outside_the_choices_as_lost() -> None:
    assert chance(["1", "2", "2", "1"], ["1", "2"]) == 0.5
    assert chance(["1", "11"], ["1", "2"]) == 0.25
    assert chance(["слово"], None) == 0.0
