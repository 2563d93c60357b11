"""Length control: exact symmetry, planted length bias removed within the interval."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from evals.errors import EvalError
from evals.stats.length_control import RIDGE, length_controlled

rows = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 900), st.integers(0, 900)), min_size=3, max_size=40)


@given(rows)
def test_exchanging_the_models_gives_the_complement(table: list[tuple[float, int, int]]) -> None:
    preferences, ours, theirs = (np.array(column, dtype=float) for column in zip(*table, strict=True))
    forward = length_controlled(preferences, ours, theirs, range(len(ours)), rounds=20)
    backward = length_controlled(1 - preferences, theirs, ours, range(len(ours)), rounds=20)
    assert forward.controlled.mean + backward.controlled.mean == pytest.approx(1, abs=1e-9)
    assert forward.controlled.lo + backward.controlled.hi == pytest.approx(1, abs=1e-9)
    assert forward.raw.mean + backward.raw.mean == pytest.approx(1, abs=1e-12)


@given(st.lists(st.integers(0, 5000), min_size=1, max_size=30))
def test_a_model_against_itself_is_one_half_exactly(lengths: list[int]) -> None:
    found = length_controlled([0.5] * len(lengths), lengths, lengths, range(len(lengths)), rounds=20)
    assert found.controlled.mean == 0.5
    assert (found.controlled.lo, found.controlled.hi) == (0.5, 0.5)


def _judged(
    seed: int, theta: float, phi: float, prompts: int = 400
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Verdicts of a judge with taste `phi` for length, of which ours has more."""
    rng = np.random.default_rng(seed)
    ours, theirs = rng.lognormal(6.3, 0.5, prompts), rng.lognormal(6.0, 0.5, prompts)
    longer = ours - theirs
    logit = theta + phi * np.tanh(longer / np.sqrt((longer**2).mean()))
    return (rng.random(prompts) < 1 / (1 + np.exp(-logit))).astype(float), ours, theirs


@pytest.mark.parametrize(("theta", "phi"), [(0.0, 1.5), (-0.4, 2.0), (0.5, 0.0)])
def test_a_planted_length_bias_is_removed_within_the_interval(theta: float, phi: float) -> None:
    truth, covered, found = 1 / (1 + np.exp(-theta)), 0, []
    for seed in range(100):
        preferences, ours, theirs = _judged(seed, theta, phi)
        result = length_controlled(preferences, ours, theirs, range(400), rounds=200, seed=seed)
        covered += result.controlled.lo <= truth <= result.controlled.hi
        found.append((result.raw.mean, result.controlled.mean))
    raw, controlled = np.mean(found, axis=0)
    assert controlled == pytest.approx(truth, abs=0.01)
    assert covered / 100 >= 0.88
    if phi:
        assert raw - truth > 0.05


def test_the_fit_is_the_maximum_of_the_penalised_likelihood() -> None:
    preferences, ours, theirs = _judged(3, -0.3, 1.2)
    longer = ours - theirs
    x = np.tanh(longer / np.sqrt((longer**2).mean()))

    def loss(parameters: np.ndarray) -> float:
        theta, phi = parameters
        logit = theta + phi * x
        prior = np.logaddexp(0, theta) - 0.5 * theta + RIDGE / 2 * phi**2
        return float(np.logaddexp(0, logit).sum() - preferences @ logit + prior)

    theta, phi = minimize(loss, [0.0, 0.0], tol=1e-10).x
    found = length_controlled(preferences, ours, theirs, range(400), rounds=20)
    assert found.controlled.mean == pytest.approx(1 / (1 + np.exp(-theta)), abs=1e-5)
    assert found.phi.mean == pytest.approx(phi, abs=1e-4)


def test_verdicts_that_length_explains_completely_stay_finite() -> None:
    longer = np.r_[np.arange(1, 21), -np.arange(1, 21)] * 10.0
    found = length_controlled((longer > 0).astype(float), 300 + longer, [300.0] * 40, range(40), rounds=50)
    assert found.controlled.mean == pytest.approx(0.5, abs=1e-6)
    assert np.isfinite(found.phi.mean)


@pytest.mark.parametrize(
    ("preferences", "ours", "theirs", "said"),
    [
        ([], [], [], "at least one"),
        ([2.0], [1], [1], "outside"),
        ([0.5], [-1], [1], "lengths of ours"),
        ([0.5], [float("nan")], [1], "finite"),
        ([0.5, 0.5], [1], [1, 2], "ours 1"),
    ],
)
def test_bad_input_is_refused(
    preferences: list[float], ours: list[float], theirs: list[float], said: str
) -> None:
    with pytest.raises(EvalError, match=said):
        length_controlled(preferences, ours, theirs, range(len(preferences)))
