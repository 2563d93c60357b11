"""Paired right/wrong items: published examples, an independent likelihood, exact sizes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.stats import beta, binomtest, multinomial

from evals.errors import EvalError
from evals.stats import binary
from evals.stats.binary import PairedCounts

# Airway hyper-responsiveness before and after transplantation (Bentur 2009), the example of Fagerland,
# Lydersen
# and Laake (2013; 2014, Statistics in Medicine 33:2850-2875), and complete response (Cavo 2012), theirs too.
AIRWAY = PairedCounts(1, 1, 7, 12)
RESPONSE = PairedCounts(59, 6, 16, 80)
counts = st.builds(PairedCounts, *[st.integers(0, 30)] * 3, st.integers(1, 30))


def test_mcnemar_of_the_published_example() -> None:
    assert binary.mcnemar(AIRWAY) == pytest.approx(0.0703, abs=5e-5)
    assert binary.mcnemar(AIRWAY, mid_p=True) == pytest.approx(0.0391, abs=5e-5)


def test_intervals_of_the_published_example() -> None:
    assert binary.tango_interval(AIRWAY) == pytest.approx((-0.517, -0.026), abs=6e-4)
    assert binary.newcombe_interval(AIRWAY) == pytest.approx((-0.507, -0.026), abs=6e-4)


def test_newcombes_own_example() -> None:
    """Newcombe 1998, table II, 36 / 12 / 2 / 0, method 10."""
    assert binary.newcombe_interval(PairedCounts(36, 12, 2, 0)) == pytest.approx((0.0569, 0.3404), abs=5e-5)


def test_tangos_own_example() -> None:
    """Tango 1998, section 5: contact lenses disinfected twice, 43 / 0 / 1 / 0, margin .1: Z = 1.709."""
    lenses = PairedCounts(43, 0, 1, 0)
    assert binary.tango_statistic(lenses, -0.1) == pytest.approx(1.709, abs=5e-4)


@given(counts)
def test_mcnemar_is_the_binomial_test_of_discordant_pairs(table: PairedCounts) -> None:
    if table.discordant:
        expected = binomtest(table.gained, table.discordant).pvalue
        assert binary.mcnemar(table) == pytest.approx(expected)
        better = binomtest(table.gained, table.discordant, alternative="greater").pvalue
        assert binary.superiority(table) == pytest.approx(better)
    assert 0 < binary.mcnemar(table, mid_p=True) <= binary.mcnemar(table) <= 1


@pytest.mark.parametrize("difference", [-0.3, -0.05, 0.0, 0.1, 0.4])
@pytest.mark.parametrize("table", [AIRWAY, RESPONSE, PairedCounts(30, 12, 9, 40)])
def test_tango_uses_the_maximum_likelihood_under_the_null(table: PairedCounts, difference: float) -> None:
    """The nuisance share by numeric maximisation instead of the closed form."""

    def negative(lost: float) -> float:
        shares = np.maximum([lost + difference, lost, 1 - 2 * lost - difference], 1e-300)
        return -float(np.log(shares) @ [table.gained, table.lost, table.both + table.neither])

    found = minimize_scalar(
        negative,
        bounds=(max(0, -difference), (1 - difference) / 2),
        method="bounded",
        options={"xatol": 1e-12},
    ).x
    variance = table.n * (2 * found + difference - difference**2)
    expected = (table.gained - table.lost - table.n * difference) / math.sqrt(variance)
    assert binary.tango_statistic(table, difference) == pytest.approx(expected, abs=1e-4)


@given(counts)
def test_the_interval_inverts_the_test_and_mirrors(table: PairedCounts) -> None:
    low, high = binary.tango_interval(table, 0.9)
    assert -1 <= low <= table.difference <= high <= 1
    assert binary.tango_interval(table.swapped(), 0.9) == pytest.approx((-high, -low), abs=1e-9)
    bound = binary.lower_bound(table)
    assert bound == pytest.approx(low, abs=1e-9)
    if -0.99 < bound < -0.011:
        assert binary.noninferiority(table, -bound + 0.01) <= 0.05 + 1e-9
        assert binary.noninferiority(table, -bound - 0.01) >= 0.05 - 1e-9


def test_at_zero_tango_is_mcnemars_score_statistic() -> None:
    assert binary.tango_statistic(AIRWAY, 0.0) == pytest.approx(-6 / math.sqrt(8))


def test_without_discordant_pairs_there_is_little_evidence_and_no_certainty() -> None:
    few, many = PairedCounts(20, 0, 0, 10), PairedCounts(2000, 0, 0, 1000)
    assert binary.mcnemar(few) == binary.mcnemar(many, mid_p=True) == binary.superiority(many) == 1
    assert binary.lower_bound(few) == pytest.approx(-(1 - 0.05 ** (1 / 30)))
    assert binary.noninferiority(few, 0.05) == pytest.approx(0.95**30)
    assert binary.noninferiority(many, 0.01) < 1e-12
    assert binary.lower_bound(few) < binary.lower_bound(many) < 0
    assert binary.least_items(0.05) == 59
    assert binary.noninferiority(PairedCounts(59, 0, 0, 0), 0.05) <= 0.05
    assert binary.noninferiority(PairedCounts(58, 0, 0, 0), 0.05) > 0.05


@pytest.mark.parametrize(("n", "margin"), [(60, 0.05), (60, 0.1), (120, 0.05)])
@pytest.mark.parametrize("times", [1.0, 1.3, 2.0, 4.0])
def test_false_promotion_at_the_margin_is_exactly_summed(n: int, margin: float, times: float) -> None:
    """Every possible table of n pairs, with its probability under a model worse by exactly the margin."""
    discordance = margin * times
    shares = [(discordance - margin) / 2, (discordance + margin) / 2, 1 - discordance]
    size = 0.0
    for lost in range(n + 1):
        for gained in range(n - lost + 1):
            if gained - lost <= -margin * n:
                continue
            table = PairedCounts(n - lost - gained, gained, lost, 0)
            if binary.noninferiority(table, margin) > 0.05:
                continue
            size += float(multinomial.pmf([gained, lost, n - gained - lost], n, shares))
    assert size <= 0.0525


def test_wilson_is_the_published_one() -> None:
    """Newcombe 1998, Statistics in Medicine 17:857, table I: 81 of 263 and 0 of 20."""
    assert binary.wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert binary.wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)


def test_all_gained_or_all_lost_stay_inside_the_possible() -> None:
    assert binary.tango_interval(PairedCounts(0, 10, 0, 0))[1] == 1
    low = binary.tango_interval(PairedCounts(0, 0, 10, 0))[0]
    assert low == -1
    upper = -binary.lower_bound(PairedCounts(5, 3, 0, 12).swapped())
    assert upper == pytest.approx(beta.ppf(0.95, 4, 17))


@pytest.mark.parametrize(
    ("ours", "theirs", "said"),
    [
        ([], [], "at least one"),
        ([1.0, float("nan")], [1, 0], "not finite"),
        ([1, 0.5], [1, 0], "zeros and ones"),
        ([1, 0, 1], [1, 0], "candidate 3, other 2"),
    ],
)
def test_bad_pairs_are_refused_in_one_line(ours: list[float], theirs: list[float], said: str) -> None:
    with pytest.raises(EvalError, match=said) as error:
        binary.paired_counts(ours, theirs)
    assert "\n" not in str(error.value)


def test_pairs_become_counts() -> None:
    assert binary.paired_counts([1, 1, 0, 0, 1], [1, 0, 1, 0, 1]) == PairedCounts(2, 1, 1, 1)


@pytest.mark.parametrize("margin", [0.0, 1.0, -0.1])
def test_a_margin_out_of_range_is_refused(margin: float) -> None:
    with pytest.raises(EvalError, match="margin"):
        binary.noninferiority(AIRWAY, margin)
