"""The gate's test of paired items: known limits, its own paths, false promotions and power by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t

from evals.errors import EvalError
from evals.stats import binary
from evals.stats.noninferiority import (
    MIN_CLUSTERS,
    MIN_DOCUMENTS,
    compare,
    compare_ratios,
    least_clusters,
    lower_bounds,
    p_value,
    ratio_bounds,
)
from tests.proof import documents
from tests.proof.promotions import Setting, conjunction, planned_clusters, planned_power, promotions

ROUNDS = 1000


def _limit(rounds: int = ROUNDS) -> float:
    return 0.05 + 3 * (0.05 * 0.95 / rounds) ** 0.5


@pytest.mark.parametrize(
    "setting",
    [
        Setting("binary", None, 100),
        Setting("binary", None, 400, discordance=0.05),
        Setting("graded", None, 50),
        Setting("skewed", None, 400),
        # The numbers of clusters between, and ten times the rounds: `make proof CLAIM=promotions`.
        *(Setting("binary", k, sizes="lognormal", correlation=0.1) for k in (10, 100)),
        *(Setting("binary", k, discordance=0.3) for k in (10, 50)),
        *(Setting("graded", k, correlation=0.1) for k in (10, 20)),
        Setting("skewed", 10, sizes="lognormal", correlation=0.1),
    ],
    ids=lambda setting: setting.name,
)
def test_a_model_worse_by_the_margin_is_seldom_promoted(setting: Setting) -> None:
    assert promotions(setting, ROUNDS)["promoted"] <= _limit()


def test_with_losses_alone_in_equal_clusters_it_still_holds() -> None:
    setting = Setting("binary", 100, sizes="equal", discordance=0.05)
    assert promotions(setting, ROUNDS)["promoted"] <= _limit()


def test_power_is_what_was_planned() -> None:
    assert planned_power(0.1, 0.05, ROUNDS)["promoted"] == pytest.approx(0.8, abs=0.05)


def test_power_over_clusters_is_what_was_planned() -> None:
    found = planned_clusters(0.1, 0.05, ROUNDS)
    assert (found["through_the_gate"], found["otherwise"]) == (10, 0)
    assert found["promoted"] == pytest.approx(0.8, abs=0.04)


def test_power_of_a_conjunction_is_planned_and_bounded() -> None:
    found = conjunction(3, 0.5, 300, ROUNDS)
    assert found["bounds"][0] - 0.03 <= found["found"] <= found["bounds"][1] + 0.03
    assert found["found"] == pytest.approx(found["planned"], abs=0.05)


def test_single_right_or_wrong_items_go_to_tango() -> None:
    ours, theirs = [1] * 80 + [0] * 20, [1] * 75 + [0] * 25
    found = compare(ours, theirs, range(100))
    assert found.method == "tango"
    assert found.lower == binary.lower_bound(binary.PairedCounts(75, 5, 0, 20))
    assert found.better


def test_many_equal_clusters_approach_the_plain_t_bound() -> None:
    values = np.random.default_rng(0).normal(0.02, 0.2, (2000, 4)).clip(-1, 1)
    found = compare(values.ravel(), np.zeros(8000), np.arange(2000).repeat(4))
    means = values.mean(1)
    plain = means.mean() - t.ppf(0.95, 1999) * means.std(ddof=1) / np.sqrt(2000)
    assert found.method == "t"
    assert found.lower == pytest.approx(plain, abs=3e-4)
    assert found.lower <= plain


def test_no_difference_at_all_is_weak_evidence_from_few_clusters_and_strong_from_many() -> None:
    few = compare([1.0] * 80, [1.0] * 80, np.arange(80) // 4)
    many = compare([1.0] * 2000, [1.0] * 2000, np.arange(2000) // 4)
    assert (few.method, many.method) == ("bootstrap", "bootstrap")
    assert few.lower == pytest.approx(-(1 - 0.05 ** (1 / 20)), abs=0.02)
    assert few.lower < many.lower < 0
    assert many.not_worse(0.02)
    assert not few.not_worse(0.05)


def test_below_the_floor_nothing_is_decided() -> None:
    values = np.linspace(0.5, 0.6, 90)
    found = compare(values, np.zeros(90), np.arange(90) % (MIN_CLUSTERS - 1))
    assert not found.decided
    assert not found.not_worse(0.9)
    assert not found.better


def test_one_cluster_that_carries_nearly_everything_is_no_sample() -> None:
    clusters = np.r_[np.zeros(500), np.arange(1, 20)]
    values = np.random.default_rng(0).normal(0.1, 0.05, 519)
    assert compare(values, np.zeros(519), clusters).method == "bootstrap"


def test_a_total_weighs_tasks_equally_and_shares_facts() -> None:
    rng = np.random.default_rng(2)
    small, large = rng.normal(0.1, 0.1, 40), rng.normal(-0.1, 0.1, 400)
    values, tasks = np.r_[small, large], ["small"] * 40 + ["large"] * 400
    found = compare(values, np.zeros(440), np.arange(440) % 40, tasks)
    assert found.mean == pytest.approx((small.mean() + large.mean()) / 2)
    facts = rng.normal(0, 0.2, 60)
    both = compare(np.r_[facts, facts], np.zeros(120), [*range(60)] * 2, ["a"] * 60 + ["b"] * 60)
    apart = compare(np.r_[facts, facts], np.zeros(120), range(120), ["a"] * 60 + ["b"] * 60)
    assert both.upper - both.lower > 1.3 * (apart.upper - apart.lower)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.integers(0, 14)), min_size=15, max_size=60))
def test_exchanging_the_models_mirrors_the_bounds(rows: list[tuple[float, float, int]]) -> None:
    ours, theirs, clusters = zip(*rows, strict=True)
    forward, backward = compare(ours, theirs, clusters, rounds=50), compare(theirs, ours, clusters, rounds=50)
    assert (forward.mean, forward.lower, forward.upper) == pytest.approx(
        (-backward.mean, -backward.upper, -backward.lower), abs=1e-9
    )
    assert -1 <= forward.lower <= forward.mean <= forward.upper <= 1


def test_many_samples_at_once_are_the_samples_one_by_one() -> None:
    rng = np.random.default_rng(3)
    values, weights = rng.normal(0, 0.01, (5, 30)), rng.dirichlet(np.full(30, 5.0), 5)
    bounds, degrees = lower_bounds(values, weights)
    for row in range(5):
        one, degree = lower_bounds(values[row : row + 1], weights[row : row + 1])
        assert (one[0], degree[0]) == pytest.approx((bounds[row], degrees[row]))


def test_the_least_number_of_clusters() -> None:
    assert least_clusters(0.05) == 59
    assert least_clusters(0.5) == MIN_CLUSTERS


@pytest.mark.parametrize(
    ("ours", "theirs", "clusters", "said"),
    [
        ([], [], [], "at least one"),
        ([0.5, float("nan")], [0, 0], [0, 1], "not finite"),
        ([0.5], [0, 0], [0], "candidate 1, other 2"),
        ([0.5, 1], [0, 0], [0], "clusters 1"),
        ([3.0], [0], [0], "outside"),
    ],
)
def test_bad_items_are_refused(
    ours: list[float], theirs: list[float], clusters: list[int], said: str
) -> None:
    with pytest.raises(EvalError, match=said) as error:
        compare(ours, theirs, clusters)
    assert "\n" not in str(error.value)


def test_the_p_value_is_the_least_alpha_that_passes() -> None:
    values = np.random.default_rng(5).normal(0.03, 0.2, 200).clip(-1, 1)
    clusters = np.arange(200) // 2
    p = p_value(values, np.zeros(200), clusters, threshold=-0.02)
    assert 0.0005 < p < 0.05
    assert compare(values, np.zeros(200), clusters, alpha=p * 1.01).lower > -0.02
    assert compare(values, np.zeros(200), clusters, alpha=p / 1.02).lower <= -0.02
    assert p_value(values, np.zeros(200), clusters, threshold=0.2) == 1.0
    assert p_value(values[:16], np.zeros(16), clusters[:16], threshold=-0.9) == 1.0


def test_the_p_value_of_single_right_or_wrong_items_is_tangos() -> None:
    ours, theirs = [1] * 88 + [0] * 12, [1] * 80 + [0] * 14 + [1] * 6
    counts = binary.paired_counts(ours, theirs)
    expected = binary.noninferiority(counts, 0.03)
    assert p_value(ours, theirs, range(100), threshold=-0.03) == pytest.approx(expected, rel=0.01)


def test_the_standard_error_is_that_of_cluster_means() -> None:
    values = np.random.default_rng(6).normal(0, 0.2, (50, 4)).clip(-1, 1)
    found = compare(values.ravel(), np.zeros(200), np.arange(50).repeat(4))
    assert found.se == pytest.approx(values.mean(1).std(ddof=1) / np.sqrt(50))
    single = compare([1] * 80 + [0] * 20, [1] * 75 + [0] * 25, range(100))
    assert single.se == pytest.approx(np.sqrt(0.05 * 0.95 / 99))


def test_the_p_value_of_certain_harm_needs_no_rounds() -> None:
    """Exact and t tests do not resample; only the bootstrap sees no further than its rounds."""
    ones, zeros = np.ones(400), np.zeros(400)
    assert p_value(ones, zeros, range(400), threshold=0.05, rounds=200) < 1e-6
    noisy = np.random.default_rng(0).normal(0.3, 0.3, 400).clip(-1, 1)
    assert p_value(noisy, zeros, np.arange(400) // 4, threshold=0.05, rounds=200) < 1e-6
    same = p_value(ones[:300], zeros[:300], np.arange(300) // 3, threshold=0.05, rounds=200)
    assert same == 1 / 200


def _documents(count: int, rise: float, noise: float = 0.02, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Bits of candidate and other, of lognormal sizes; the whole rise is exactly `rise`."""
    rng = np.random.default_rng(seed)
    theirs = rng.lognormal(5, 0.5, count)
    ours = theirs * (1 + noise * rng.standard_normal(count))
    return ours * (1 + rise) * theirs.sum() / ours.sum(), theirs


@pytest.mark.parametrize(
    "setting",
    [
        documents.Drawn("normal", 0.8, 100),
        documents.Drawn("exponential", 1.3, 100),
        documents.Drawn("rare among noise", 0.0, 50),
        documents.Drawn("rare", 0.8, 300),
        documents.Drawn("by size", 1.3, 100),
    ],
    ids=lambda setting: setting.name,
)
def test_bits_that_rise_by_the_margin_are_seldom_promoted(setting: documents.Drawn) -> None:
    found = documents.promotions(setting, ROUNDS)
    assert found["promoted"] <= _limit()
    assert (found["through_the_gate"], found["otherwise"]) == (10, 0)


def test_equal_bits_of_the_embedded_worlds_spread_pass() -> None:
    found = documents.promotions(documents.Drawn("normal", 0.8, 300, rise=0.0), ROUNDS)
    assert found["promoted"] > 0.9


def test_relative_and_absolute_falls_are_plain_arithmetic() -> None:
    ours, theirs = _documents(200, -0.1)
    chars = np.random.default_rng(1).integers(50, 900, 200).astype(float)
    fall = compare_ratios(ours, theirs, theirs, range(200))
    assert fall.mean == pytest.approx(0.1)
    assert fall.lower < 0.1 < fall.upper and fall.better
    bits = compare_ratios(ours, theirs, chars, range(200))
    assert bits.mean == pytest.approx((theirs.sum() - ours.sum()) / chars.sum())


def test_a_candidate_that_is_better_everywhere_passes() -> None:
    """Without a document that loses, the imaginary one is no outlier that ends the test."""
    found = compare_ratios(*_arguments(_documents(150, -0.5, 0.05)))
    assert found.decided and found.better


def test_bits_mirror() -> None:
    """Exchanged, in units of the first model's bits, the bounds change sides."""
    ours, theirs = _documents(120, 0.02)
    forward = compare_ratios(ours, theirs, np.ones(120), range(120))
    backward = compare_ratios(theirs, ours, np.ones(120), range(120))
    assert forward.mean == pytest.approx(-backward.mean)
    assert forward.lower == pytest.approx(-backward.upper, rel=0.05)


def test_equal_bits_are_weak_evidence_from_few_documents() -> None:
    bits = np.full(400, 100.0)
    few, many = (compare_ratios(bits[:n], bits[:n], bits[:n], range(n)) for n in (60, 400))
    assert few.method == many.method == "bootstrap"
    assert few.lower == pytest.approx(-(1 - 0.05 ** (1 / 60)), abs=0.01)
    assert not few.not_worse(0.03) and many.not_worse(0.03)


def test_too_few_or_too_uneven_documents_decide_nothing() -> None:
    few = compare_ratios(*_arguments(_documents(MIN_DOCUMENTS - 1, -0.2)))
    assert (few.method, few.lower, few.needed) == ("none", -np.inf, MIN_DOCUMENTS)
    ours, theirs = _documents(100, 0.0)
    theirs[0], ours[0] = 40 * theirs.max(), 39 * theirs.max()
    uneven = compare_ratios(ours, theirs, theirs, range(100))
    assert (uneven.method, uneven.lower) == ("none", -np.inf)
    assert uneven.needed is not None and uneven.needed > 100


def _arguments(bits: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray, range]:
    return *bits, bits[1], range(len(bits[0]))


def test_the_t_test_of_ratios_leaves_out_residuals_that_it_can_compute() -> None:
    ours, theirs = _documents(80, 0.01)
    value, weight = ((theirs - ours) / theirs.sum())[None], (theirs / theirs.sum())[None]
    residual = (value - weight * value.sum()) / (1 - weight)
    assert ratio_bounds(value, weight)[0] == pytest.approx(ratio_bounds(value, weight, residual)[0])


@pytest.mark.parametrize(
    ("ours", "theirs", "below", "said"),
    [
        ([1.0], [1.0, 2.0], [1.0, 2.0], "candidate 1, other 2"),
        ([1.0], [float("inf")], [1.0], "not finite"),
        ([1.0, 1.0], [1.0, 1.0], [-1.0, 3.0], "zero or more"),
        ([1.0], [0.0], [1.0], "sum above zero"),
    ],
)
def test_bad_ratios_are_refused(
    ours: list[float], theirs: list[float], below: list[float], said: str
) -> None:
    with pytest.raises(EvalError, match=said):
        compare_ratios(ours, theirs, below, range(len(theirs)))
