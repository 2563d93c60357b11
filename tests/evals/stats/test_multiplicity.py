"""Adjusted p-values against scipy, a published example and what they promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import false_discovery_control

from evals.errors import EvalError
from evals.stats import multiplicity

# Benjamini and Hochberg 1995, section 4.1: 15 hypotheses; their procedure rejects 4 at .05, Bonferroni 3.
THROMBOLYSIS = [
    0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344,
    0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0,
]  # fmt: skip
p_lists = st.lists(st.floats(0, 1), min_size=1, max_size=30)


def test_the_published_example() -> None:
    assert (multiplicity.benjamini_hochberg(THROMBOLYSIS) <= 0.05).sum() == 4
    assert (multiplicity.holm(THROMBOLYSIS) <= 0.05).sum() == 3


@given(p_lists)
def test_false_discovery_rates_are_scipys(p_values: list[float]) -> None:
    for ours, method in ((multiplicity.benjamini_hochberg, "bh"), (multiplicity.benjamini_yekutieli, "by")):
        expected = false_discovery_control(p_values, method=method)
        np.testing.assert_allclose(ours(p_values), expected, rtol=1e-9, atol=1e-300)


@given(p_lists)
def test_holm_lies_between_the_plain_and_bonferronis(p_values: list[float]) -> None:
    adjusted = multiplicity.holm(p_values)
    assert (adjusted >= np.array(p_values) - 1e-15).all()
    assert (adjusted <= np.minimum(1, np.array(p_values) * len(p_values)) + 1e-15).all()
    assert (np.diff(adjusted[np.argsort(p_values, kind="stable")]) >= 0).all()


def test_holm_by_hand() -> None:
    np.testing.assert_allclose(multiplicity.holm([0.04, 0.01, 0.03]), [0.06, 0.03, 0.06])


def test_holm_keeps_the_family_wise_error() -> None:
    rng = np.random.default_rng(0)
    wrong = sum((multiplicity.holm(rng.random(8)) <= 0.05).any() for _ in range(2000))
    assert wrong / 2000 <= 0.065


@pytest.mark.parametrize(
    ("p_values", "said"), [([], "at least one"), ([0.1, float("nan")], "finite"), ([1.2], "outside")]
)
def test_bad_p_values_are_refused(p_values: list[float], said: str) -> None:
    with pytest.raises(EvalError, match=said):
        multiplicity.holm(p_values)
