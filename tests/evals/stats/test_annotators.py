"""The alternative annotator test on planted judges and on the real votes of ruhhh."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from evals.errors import EvalError
from evals.stats.annotators import alternative_annotator

Votes = tuple[list[int], list[str], list[int]]


def _crowd(seed: int, items: int, raters: int, skill: float) -> tuple[np.ndarray, Votes]:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 3, items)
    labels = np.where(rng.random((raters, items)) < skill, truth, rng.integers(0, 3, (raters, items)))
    rows = [(i, f"r{r}", int(labels[r, i])) for r in range(raters) for i in range(items)]
    columns = list(zip(*rows, strict=True))
    return truth, (list(columns[0]), list(columns[1]), list(columns[2]))


def test_a_judge_that_knows_the_truth_beats_every_rater() -> None:
    truth, columns = _crowd(0, 100, 5, 0.7)
    found = alternative_annotator(*columns, dict(enumerate(truth.tolist())), epsilon=0.1)
    assert found.omega == 1
    assert found.passed
    assert all(rater.judge > rater.human for rater in found.raters)


def test_a_judge_that_guesses_beats_nobody() -> None:
    _, columns = _crowd(1, 100, 5, 0.9)
    guesses = np.random.default_rng(9).integers(0, 3, 100).tolist()
    found = alternative_annotator(*columns, dict(enumerate(guesses)), epsilon=0.2)
    assert found.omega == 0
    assert not found.passed


def test_a_judge_just_epsilon_worse_is_seldom_let_through() -> None:
    """A judge right half as often as the crowd is beyond an epsilon of .1: 5 % of raters at most."""
    beaten = []
    for seed in range(40):
        truth, columns = _crowd(seed, 60, 3, 0.9)
        rng = np.random.default_rng(1000 + seed)
        labels = np.where(rng.random(60) < 0.6, truth, rng.integers(0, 3, 60)).tolist()
        beaten.append(alternative_annotator(*columns, dict(enumerate(labels)), epsilon=0.1).omega)
    assert np.mean(beaten) <= 0.05


def test_one_rater_by_hand() -> None:
    _, (items, raters, labels) = _crowd(3, 40, 3, 0.8)
    judge = dict(zip(items, labels, strict=False))
    found = alternative_annotator(items, raters, labels, judge, epsilon=0.15)
    table = dict(zip(zip(raters, items, strict=True), labels, strict=True))
    leads = []
    for item in range(40):
        others = [table["r0", item], table["r2", item]]
        machine, human = others.count(judge[item]), others.count(table["r1", item])
        leads.append(float(human >= machine) - float(machine >= human) - 0.15)
    expected = ttest_1samp(leads, 0, alternative="less").pvalue
    assert next(rater.p for rater in found.raters if rater.name == "r1") == pytest.approx(expected)


def test_ruhhh(crowd_votes: dict[str, tuple[list[Any], list[Any], list[Any]]]) -> None:
    """The crowd's own majority stands in for its raters; a judge that always says 1 does not."""
    items, raters, labels = crowd_votes["ruhhh"]
    by_item: dict[int, Counter[str]] = {}
    for item, label in zip(items, labels, strict=True):
        by_item.setdefault(item, Counter())[label] += 1
    majority = {item: counted.most_common(1)[0][0] for item, counted in by_item.items()}
    found = alternative_annotator(items, raters, labels, majority, epsilon=0.1)
    assert len(found.raters) >= 3
    assert len(found.raters) + len(found.left_out) == len(set(raters))
    assert found.passed
    constant = alternative_annotator(items, raters, labels, dict.fromkeys(by_item, "1"), epsilon=0.1)
    assert constant.omega < 0.5
    assert constant.advantage < found.advantage


@pytest.mark.parametrize(
    ("items", "raters", "labels", "said"),
    [
        ([1, 1], ["a", "b"], ["x"], "labels 1"),
        ([1, 1, 1], ["a", "a", "b"], ["x", "y", "x"], "twice"),
        ([1, 1, 1], ["a", "b", "c"], ["x", "y", "x"], "found 0 of 3"),
    ],
)
def test_votes_that_cannot_be_tested_are_refused(
    items: list[int], raters: list[str], labels: list[str], said: str
) -> None:
    with pytest.raises(EvalError, match=said):
        alternative_annotator(items, raters, labels, {1: "x"}, epsilon=0.1)
