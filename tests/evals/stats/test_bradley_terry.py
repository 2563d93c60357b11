"""Bradley-Terry: planted strengths, an independent likelihood, ties, groups that never met."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import minimize

from evals.errors import EvalError
from evals.stats.bradley_terry import PRIOR, bradley_terry

PLANTED = {"a": 1.0, "b": 0.3, "c": -0.2, "d": -1.1}


def _games(seed: int, prompts: int) -> tuple[list[str], list[str], list[float], list[int]]:
    """Every two models meet once a prompt; one game in five ends in a tie."""
    rng, rows = np.random.default_rng(seed), []
    names = list(PLANTED)
    for prompt in range(prompts):
        for i, first in enumerate(names):
            for second in names[i + 1 :]:
                p = 1 / (1 + math.exp(PLANTED[second] - PLANTED[first]))
                # A tie keeps the expected score: it is as likely from either side.
                tie = rng.random() < 0.4 * min(p, 1 - p)
                q = (p - 0.2 * min(p, 1 - p)) / (1 - 0.4 * min(p, 1 - p))
                rows.append((first, second, 0.5 if tie else float(rng.random() < q), prompt))
    first, second, scores, prompts_N = zip(*rows, strict=True)
    return list(first), list(second), list(scores), list(prompts_N)


def test_planted_strengths_are_recovered_within_their_intervals() -> None:
    covered = 0
    for seed in range(10):
        found = bradley_terry(*_games(seed, 300), rounds=100, seed=seed)
        assert [item.name for item in found] == list(PLANTED)
        assert max(abs(item.value.mean - PLANTED[item.name]) for item in found) < 0.25
        covered += sum(item.value.lo <= PLANTED[item.name] <= item.value.hi for item in found)
    assert covered >= 34


def test_the_fit_is_the_maximum_of_the_likelihood() -> None:
    first, second, scores, prompts = _games(1, 40)
    names = sorted(PLANTED)
    wins = np.full((4, 4), PRIOR) - PRIOR * np.eye(4)
    for i, j, score in zip(first, second, scores, strict=True):
        wins[names.index(i), names.index(j)] += score
        wins[names.index(j), names.index(i)] += 1 - score

    def loss(b: np.ndarray) -> float:
        return float((wins * np.logaddexp(0, b[None, :] - b[:, None])).sum() + b.sum() ** 2)

    expected = minimize(loss, np.zeros(4), tol=1e-12).x
    found = {item.name: item.value.mean for item in bradley_terry(first, second, scores, prompts, rounds=5)}
    np.testing.assert_allclose([found[name] for name in names], expected, atol=1e-4)


def test_who_never_lost_keeps_a_finite_strength_and_ties_make_equals() -> None:
    found = bradley_terry(["a"] * 20, ["b"] * 20, [1.0] * 20, range(20), rounds=20)
    assert found[0].name == "a"
    assert math.isfinite(found[0].value.mean)
    assert found[0].elo > 1000 > found[1].elo
    even = bradley_terry(["a"] * 9, ["b"] * 9, [0.5] * 9, range(9), rounds=20)
    assert even[0].value.mean == pytest.approx(0)


def test_a_win_rate_of_three_quarters_is_log_three() -> None:
    scores = [1.0] * 750 + [0.0] * 250
    found = bradley_terry(["a"] * 1000, ["b"] * 1000, scores, range(1000), rounds=20)
    assert found[0].value.mean - found[1].value.mean == pytest.approx(math.log(3), abs=0.01)


@pytest.mark.parametrize(
    ("first", "second", "scores", "said"),
    [
        (["a"], ["a"], [1.0], "itself"),
        (["a", "c"], ["b", "d"], [1.0, 0.0], "never met"),
        (["a"], ["b"], [2.0], "outside"),
        (["a"], ["b", "c"], [1.0], "second 2"),
        ([], [], [], "at least one"),
    ],
)
def test_bad_games_are_refused(first: list[str], second: list[str], scores: list[float], said: str) -> None:
    with pytest.raises(EvalError, match=said):
        bradley_terry(first, second, scores, range(len(scores)))
