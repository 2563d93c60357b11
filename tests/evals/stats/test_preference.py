"""What judges prefer: the real verdicts of LLMBar, planted tastes, symmetry."""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from evals.errors import EvalError
from evals.stats import preference

# LLMBar (2310.07641), plain prompt, pairs judged in both orders: n, same, first, second, accuracy.
TABLE = {
    "GPT-4": (734, 0.877, 0.071, 0.052, 0.760),
    "ChatGPT": (734, 0.586, 0.386, 0.029, 0.432),
    "Falcon": (734, 0.420, 0.568, 0.012, 0.527),
}
MIN_CONSISTENCY, MIN_ACCURACY = 0.8, 0.65

Verdicts = tuple[list[float], list[float], list[int], list[str]]


@pytest.fixture(scope="module")
def llmbar(shared_data: Path) -> dict[str, Verdicts]:
    """Per judge, prompting Vanilla: verdict for output 1 shown first, second; is it better; pair."""
    judges: dict[str, Verdicts] = defaultdict(lambda: ([], [], [], []))
    with gzip.open(shared_data / "llmbar/judge_verdicts.jsonl.gz", "rt", encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            orders = (row["order_ab"], row["order_ba"])
            if row["prompting"] != "Vanilla" or not all(order in ("1", "2") for order in orders):
                continue
            first, second, better, pair = judges[row["judge"]]
            first.append(float(orders[0] == "1"))
            second.append(float(orders[1] == "1"))
            better.append(int(row["gold"] == 1))
            pair.append(row["pair"])
    return dict(judges)


@pytest.mark.parametrize("judge", sorted(TABLE))
def test_llmbar_reproduces_the_table(llmbar: dict[str, Verdicts], judge: str) -> None:
    first, second, better, pair = llmbar[judge]
    n, same, early, late, accuracy = TABLE[judge]
    found = preference.position(first, second)
    assert len(first) == n
    assert found.consistency.mean == pytest.approx(same, abs=5.1e-4)
    assert (found.primacy.mean, found.recency.mean) == pytest.approx((early, late), abs=5.1e-4)
    right = preference.accuracy(first, second, better, pair)
    assert right.mean == pytest.approx(accuracy, abs=5.1e-4)


def test_only_gpt_4_passes_the_thresholds(llmbar: dict[str, Verdicts]) -> None:
    passing = []
    for judge, (first, second, better, pair) in llmbar.items():
        consistent = preference.position(first, second).consistency.mean >= MIN_CONSISTENCY
        right = preference.accuracy(first, second, better, pair).lo >= MIN_ACCURACY
        if consistent and right:
            passing.append(judge)
    assert set(llmbar) >= set(TABLE)
    assert passing == ["GPT-4"]


def test_position_of_planted_tastes() -> None:
    always_first = preference.position([1] * 20, [0] * 20)
    assert (always_first.consistency.mean, always_first.primacy.mean, always_first.taste) == (0, 1, 1)
    assert always_first.taste_p == pytest.approx(2 * 0.5**20)
    fair = preference.position([1, 0, 1, 0.5], [1, 0, 0.5, 0.5])
    assert (fair.consistency.mean, fair.taste, fair.taste_p) == (0.75, 0, 1)


def test_a_constant_taste_for_one_place_cancels_in_the_win_rate() -> None:
    assert preference.win_rate([1] * 30, [0] * 30, range(30)).mean == 0.5
    found = preference.win_rate([1, 1, 0.5, 0], [1, 0, 0.5, 0], range(4))
    assert found.mean == pytest.approx((1 + 0.5 + 0.5 + 0) / 4)


def test_exchanging_the_sides_mirrors_the_win_rate() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.random(60), rng.random(60)
    ours = preference.win_rate(first, second, np.arange(60) // 3)
    theirs = preference.win_rate(1 - second, 1 - first, np.arange(60) // 3)
    assert (theirs.mean, theirs.lo, theirs.hi) == pytest.approx((1 - ours.mean, 1 - ours.hi, 1 - ours.lo))


def test_planted_self_preference_is_found_and_a_better_answer_is_none() -> None:
    rng = np.random.default_rng(1)
    quality = rng.normal(0.5, 1, 600)
    logistic = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    others = np.stack([logistic(quality + rng.normal(0, 0.3, 600)) for _ in range(3)])
    fair = logistic(quality + rng.normal(0, 0.3, 600))
    vain = logistic(quality + 0.6 + rng.normal(0, 0.3, 600))
    fair_found = preference.self_preference(fair, others, range(600))
    vain_found = preference.self_preference(vain, others, range(600))
    assert fair_found.lo < 0 < fair_found.hi
    assert vain_found.lo > 0.05


@pytest.mark.parametrize(
    ("first", "second", "clusters", "said"),
    [
        ([], [], [], "at least one"),
        ([1.5], [0], [0], "outside"),
        ([float("nan")], [0], [0], "finite"),
        ([1], [1, 0], [0], "first 1, second 2"),
        ([1], [1], [0, 1], "clusters 2"),
    ],
)
def test_bad_verdicts_are_refused(
    first: list[float], second: list[float], clusters: list[int], said: str
) -> None:
    with pytest.raises(EvalError, match=said):
        preference.win_rate(first, second, clusters)


def test_other_judges_must_have_judged_the_same_pairs() -> None:
    with pytest.raises(EvalError, match="2 pairs"):
        preference.self_preference([0.5, 0.6], [[0.5], [0.4]], [0, 1])
