"""Planned items and powers: known figures, inversions, simulations of what was planned."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import multivariate_normal, norm

from evals.errors import EvalError
from evals.stats import power
from tests.proof.documents import Drawn, promotions


@pytest.mark.parametrize(("margin", "items"), [(0.02, 1546), (0.03, 687), (0.05, 247)])
def test_the_items_that_a_gate_needs(margin: float, items: int) -> None:
    """10 % discordant pairs, one-sided .05, power .8, true gap 0."""
    assert power.required_items(margin, power.discordant_sd(0.1)) == items


@given(st.floats(0.01, 0.2), st.floats(0.1, 1), st.floats(0.55, 0.95), st.floats(1, 8))
def test_achieved_power_and_visible_margin_undo_the_plan(
    margin: float, sd: float, wanted: float, effect: float
) -> None:
    items = power.required_items(margin, sd, power=wanted, design_effect=effect)
    if items > 50:
        assert power.achieved_power(items, margin, sd, design_effect=effect) == pytest.approx(
            wanted, abs=0.01
        )
        seen = power.visible_margin(items, sd, power=wanted, design_effect=effect)
        assert seen == pytest.approx(margin, rel=0.02)


def test_power_at_the_margin_is_alpha() -> None:
    assert power.achieved_power(500, 0.05, 0.3, gap=-0.05) == pytest.approx(0.05)


def test_planned_power_of_a_paired_test_is_what_a_simulation_finds() -> None:
    from evals.stats import binary

    n = power.required_items(0.05, power.discordant_sd(0.2))
    draws = np.random.default_rng(0).multinomial(n, [0.1, 0.1, 0.8], 1500)
    passed = [
        binary.lower_bound(binary.PairedCounts(int(rest), int(gained), int(lost), 0)) > -0.05
        for gained, lost, rest in draws
    ]
    assert np.mean(passed) == pytest.approx(0.8, abs=0.03)


def test_the_design_effect_of_equal_clusters_is_kishs() -> None:
    assert power.design_effect([10] * 7, 0.2) == pytest.approx(1 + 9 * 0.2)
    assert power.design_effect([1] * 9, 0.7) == 1
    assert power.design_effect([1, 19], 0.2) > power.design_effect([10, 10], 0.2)


def test_the_design_effect_is_the_variance_ratio_of_simulated_clusters() -> None:
    rng, sizes = np.random.default_rng(2), np.array([1, 2, 5, 12, 20])
    own = rng.normal(size=(20_000, 5)).repeat(sizes, axis=1)
    means = (np.sqrt(0.3) * own + np.sqrt(0.7) * rng.normal(size=own.shape)).mean(1)
    assert means.var() * sizes.sum() == pytest.approx(power.design_effect(sizes, 0.3), rel=0.05)


def test_few_clusters_cost_more_than_the_normal_formula_says() -> None:
    sd, effect = 0.5, power.design_effect([10], 0.1)
    items = power.required_items(0.1, sd, design_effect=effect)
    clusters = power.required_clusters(10, 0.1, sd, 0.1)
    assert clusters > items / 10
    assert power.clustered_power(clusters, 10, 0.1, sd, 0.1) >= 0.8
    assert power.clustered_power(clusters - 1, 10, 0.1, sd, 0.1) < 0.8
    normal = power.achieved_power(100_000, 0.01, sd, design_effect=effect)
    assert power.clustered_power(10_000, 10, 0.01, sd, 0.1) == pytest.approx(normal, abs=1e-3)


def test_all_of_several_tests() -> None:
    powers = [0.9, 0.8, 0.85]
    low, high = power.conjunction_bounds(powers)
    assert (low, high) == (pytest.approx(0.55), 0.8)
    assert power.conjunction_power(powers)[0] == pytest.approx(0.9 * 0.8 * 0.85)
    ones = np.ones((3, 3)).tolist()
    assert power.conjunction_power(powers, ones, rounds=40_000)[0] == pytest.approx(high, abs=0.01)
    half = (0.5 * np.ones((3, 3)) + 0.5 * np.eye(3)).tolist()
    found, error = power.conjunction_power(powers, half, rounds=100_000)
    expected = multivariate_normal(cov=half).cdf(norm.ppf(powers))
    assert found == pytest.approx(expected, abs=4 * error + 1e-3)
    assert low <= found <= high


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: power.required_items(0.02, 0.3, gap=-0.02), "cannot be shown"),
        (lambda: power.required_items(0.02, 0.0), "above zero"),
        (lambda: power.required_items(0.02, 0.3, alpha=0.6), "alpha"),
        (lambda: power.discordant_sd(0.1, 0.2), "discordance"),
        (lambda: power.design_effect([], 0.1), "at least one"),
        (lambda: power.design_effect([3, 0], 0.1), "above zero"),
        (lambda: power.conjunction_bounds([0.8, 1.2]), "outside"),
        (lambda: power.conjunction_power([0.8, 0.9], [[1, 2], [2, 1]]), "eigenvalue"),
        (lambda: power.conjunction_power([0.8, 0.9], [[1.0]]), "matrix"),
        (lambda: power.achieved_power(0, 0.1, 0.3), "one item"),
    ],
)
def test_impossible_plans_are_refused(call: object, said: str) -> None:
    with pytest.raises(EvalError, match=said):
        call()  # type: ignore[operator]


def test_power_of_ratios_is_no_more_than_that_of_its_t_test() -> None:
    with_unseen = power.ratio_power(284, 0.03, 0.2, 1.5)
    assert with_unseen < power.ratio_power(284, 0.03, 0.2, 1e-3)
    assert power.ratio_power(284, 0.03, 0.2, 1e-3) <= power.clustered_power(284, 1, 0.03, 0.2, 0.0)
    assert power.ratio_power(100, 0.03, 1e-4, 1.0) == pytest.approx(1, abs=1e-3)
    assert power.ratio_power(90, 0.03, 1e-4, 1.0) == pytest.approx(0, abs=1e-3)


def test_power_of_ratios_is_about_what_is_found() -> None:
    """Equal models; the plan is a little careful."""
    found = promotions(Drawn("normal", 0.0, 130, rise=0.0), 1000)["promoted"]
    assert found - 0.12 <= power.ratio_power(130, 0.03, 0.06, 1.0) <= found + 0.03
