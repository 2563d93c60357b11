"""Sequential tests: the formula, validity at any stopping time, power, mirrored bounds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import beta
from scipy.stats import beta as beta_distribution

from evals.errors import EvalError
from evals.stats import sequential

ALPHA = 0.05
LIMIT = math.log(1 / ALPHA)


def test_even_games_is_the_formula() -> None:
    log_e = sequential.even_games([1, 3, 9], [0, 1, 2])
    expected = [2**n * beta(1 + w, 1 + n - w) for w, n in ((1, 1), (3, 4), (9, 11))]
    np.testing.assert_allclose(np.exp(log_e), expected)


def test_the_e_value_is_a_martingale_under_even_games() -> None:
    for wins, losses in ((0, 0), (4, 1), (10, 10)):
        now = math.exp(sequential.even_games([wins], [losses])[0])
        after = np.exp(
            [*sequential.even_games([wins + 1], [losses]), *sequential.even_games([wins], [losses + 1])]
        )
        assert after.mean() == pytest.approx(now)


def test_even_games_seldom_end_in_a_difference_at_any_look() -> None:
    won = (np.random.default_rng(0).random((2000, 400)) < 0.5).cumsum(1)
    games = np.arange(1, 401)
    false = sum((sequential.even_games(row, games - row) >= LIMIT).any() for row in won)
    assert false / 2000 <= ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / 2000)


def test_a_clear_difference_is_found_long_before_the_last_game() -> None:
    won = (np.random.default_rng(1).random((200, 400)) < 0.7).cumsum(1)
    games = np.arange(1, 401)
    first = [int(np.argmax(sequential.even_games(row, games - row) >= LIMIT)) + 1 for row in won]
    assert np.median(first) < 100


def _verdicts(kind: str, seed: int, mean: float, shape: tuple[int, int]) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if kind == "verdicts":
        return rng.choice([-1.0, 0.0, 1.0], shape, p=[0.3 - mean / 2, 0.4, 0.3 + mean / 2])
    if kind == "losses":
        return np.where(rng.random(shape) < -mean, -1.0, 0.0)
    return 2 * beta_distribution.rvs(4 * (1 + mean), 4 * (1 - mean), size=shape, random_state=rng) - 1


@pytest.mark.parametrize("kind", ["verdicts", "losses", "graded"])
def test_a_model_worse_by_the_margin_is_seldom_let_through_at_any_look(kind: str) -> None:
    wealth_ST = sequential.noninferiority_wealth(_verdicts(kind, 2, -0.1, (1500, 300)), 0.1)
    false = (wealth_ST.max(1) >= LIMIT).mean()
    assert false <= ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / 1500)


@pytest.mark.parametrize("kind", ["verdicts", "graded"])
def test_an_equal_model_is_let_through_in_time(kind: str) -> None:
    wealth_ST = sequential.noninferiority_wealth(_verdicts(kind, 3, 0.0, (200, 1000)), 0.1)
    assert (wealth_ST.max(1) >= LIMIT).mean() >= 0.7


def test_the_wealth_starts_fair() -> None:
    """The mean of the wealth after one fair bet is 1."""
    gains = np.array([[-1.0], [0.8]])  # mean -0.1 with equal probability
    assert np.exp(sequential.noninferiority_wealth(gains, 0.1)).mean() == pytest.approx(1)


def test_the_lower_sequence_holds_at_all_looks_and_rises() -> None:
    wrong = 0
    for seed in range(100):
        bound_T = sequential.lower_sequence(_verdicts("verdicts", seed, 0.2, (1, 150))[0])
        assert (np.diff(bound_T) >= 0).all()
        wrong += (bound_T > 0.2).any()
    assert wrong <= 12
    long = sequential.lower_sequence(_verdicts("verdicts", 7, 0.2, (1, 1500))[0])
    assert long[-1] > 0


def test_one_at_a_time_is_the_same_process() -> None:
    differences = _verdicts("verdicts", 4, 0.2, (1, 120))[0]
    game = sequential.Betting(margin=0.1)
    decided = [game.add(float(d)) for d in differences]
    reached = np.maximum.accumulate(sequential.noninferiority_wealth(differences, 0.1)) >= LIMIT
    assert decided == reached.tolist()


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: sequential.noninferiority_wealth([], 0.1), "one or more"),
        (lambda: sequential.noninferiority_wealth([0.0, float("nan")], 0.1), "finite"),
        (lambda: sequential.noninferiority_wealth([2.0], 0.1), "-1 to 1"),
        (lambda: sequential.noninferiority_wealth([0.0], 1.0), "margin"),
        (lambda: sequential.even_games([2, 1], [0, 0]), "cannot fall"),
        (lambda: sequential.even_games([1], [0, 1]), "losses 2"),
        (lambda: sequential.Betting(0.1).add(3.0), "outside"),
    ],
)
def test_bad_games_are_refused(call: object, said: str) -> None:
    with pytest.raises(EvalError, match=said):
        call()  # type: ignore[operator]
