"""The rate behind an erring judge: which way is taken, coverage, validity when stopping early."""

from __future__ import annotations

import numpy as np
import pytest

from evals.errors import EvalError
from evals.judge import winrate
from evals.judge.winrate import Evidence, rate
from evals.stats.correction import Known

ALPHA = 0.05


def judged(rng: np.random.Generator, better: np.ndarray, right: float) -> list[float]:
    """Preferences of a judge that is right in this share of pairs."""
    return [float(value) for value in np.where(rng.random(len(better)) < right, better, ~better)]


def known(better: list[float], worse: list[float]) -> list[Known]:
    """Verdicts on labelled pairs, each a cluster of its own."""
    told = [(verdict, 1.0) for verdict in better] + [(verdict, 0.0) for verdict in worse]
    return [Known(verdict, truth, f"known {place}") for place, (verdict, truth) in enumerate(told)]


def evidence(
    seed: int, share: float, right: float = 0.85, n: int = 150, sequential: bool = False
) -> Evidence:
    rng = np.random.default_rng(seed)
    preferences = judged(rng, rng.random(n) < share, right)
    errors = known(*[judged(rng, np.full(80, side), right) for side in (True, False)])
    return Evidence(preferences, [str(i) for i in range(n)], known=errors, sequential=sequential)


@pytest.mark.parametrize("share", [0.4, 0.7])
def test_the_corrected_lower_bound_is_below_the_true_rate(share: float) -> None:
    found = [rate(evidence(seed, share), ALPHA) for seed in range(300)]
    assert {item.method for item in found} == {"corrected"}
    assert np.mean([item.mean for item in found]) == pytest.approx(share, abs=0.02)
    assert np.mean([item.lower <= share for item in found]) >= 0.92
    # The raw share is drawn towards one half, by about a third.
    raw = np.mean([np.mean(evidence(seed, share).preferences) for seed in range(50)])
    assert abs(raw - 0.5) < 0.8 * abs(share - 0.5)


def test_sequential_judging_rarely_decides_wrongly_at_the_margin() -> None:
    """The true rate lies at the margin: neither decision may come often, at whatever pair it would stop."""
    margin, wrong, rounds = 0.1, 0, 40
    for seed in range(rounds):
        # The bound is the best of all looks up to the last one.
        wrong += rate(evidence(seed, 0.5 - margin, 0.95, 120, sequential=True), ALPHA).lower > 0.5 - margin
    assert wrong / rounds <= ALPHA


def test_sequential_judging_is_not_taken_in_by_equal_answers() -> None:
    """Four fifths are equal, a quarter of the others is won: .45. The judge leans to theirs."""
    wrong, rounds = 0, 20
    for seed in range(rounds):
        rng = np.random.default_rng(seed)
        asked = rng.random(120) < 0.2
        better = rng.random(120) < 0.25
        said = rng.random(120) < np.where(better, 0.7, 0.1)
        errors = known(*[[float(v) for v in rng.random(200) < share] for share in (0.7, 0.1)])
        preferences = [float(v) for v in np.where(asked, said, 0.5)]
        told = Evidence(preferences, [str(i) for i in range(120)], list(asked), (), errors, True)
        found = rate(told, ALPHA)
        wrong += found.lower > 0.45
        assert found.lower <= found.mean <= found.upper
    assert wrong / rounds <= ALPHA


@pytest.mark.parametrize(("share", "side"), [(0.95, "pass"), (0.05, "fail")])
def test_sequential_judging_decides_clear_cases(share: float, side: str) -> None:
    found = evidence(1, share, 0.95, 120, sequential=True)
    assert winrate.decided(found, ALPHA, 0.05)
    bounds = rate(found, ALPHA)
    assert bounds.method == "anytime"
    assert bounds.lower > 0.45 if side == "pass" else bounds.upper < 0.45


def test_labels_of_people_on_the_same_pairs_are_used() -> None:
    rng = np.random.default_rng(3)
    better = rng.random(200) < 0.6
    preferences = judged(rng, better, 0.8)
    labels = [float(value) if place < 80 else None for place, value in enumerate(better)]
    clusters = [str(place // 2) for place in range(200)]
    found = rate(Evidence(preferences, clusters, labels=labels), ALPHA)
    assert found.method == "prediction-powered"
    assert found.lower < better.mean() < found.upper
    everything = rate(Evidence(preferences, clusters, labels=[float(value) for value in better]), ALPHA)
    assert everything.mean == pytest.approx(better.mean())


@pytest.mark.parametrize(
    ("case", "said"),
    [
        (Evidence([], []), "no verdict"),
        (Evidence([0.5] * 5, list("abcde")), "first answer that is better"),
        (
            Evidence([0.5] * 5, list("abcde"), known=known([0.9], []), sequential=True),
            "first answer that is worse",
        ),
        (Evidence([0.5] * 5, list("abcde"), known=known([0.5] * 9, [0.5] * 9)), "close to a coin"),
        (
            Evidence([0.5] * 5, list("abcde"), known=known([0.5] * 9, [0.5] * 9), sequential=True),
            "close to a coin",
        ),
    ],
)
def test_what_tells_nothing_is_refused(case: Evidence, said: str) -> None:
    with pytest.raises(EvalError, match=said):
        rate(case, ALPHA)
