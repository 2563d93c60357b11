"""Intervals: known values, exact bounds, properties that hold for any data, coverage by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, norm

from evals.errors import EvalError
from evals.stats import intervals


def test_one_task_of_zeros_and_ones_has_clopper_and_pearsons_bounds() -> None:
    values = [1.0] * 7 + [0.0] * 93
    interval = intervals.cluster_interval(values, range(100), bounds=intervals.UNIT, rounds=20_000)
    assert interval.mean == pytest.approx(0.07)
    assert interval.lo == pytest.approx(beta.ppf(0.025, 7, 94), abs=0.002)
    assert interval.hi == pytest.approx(beta.ppf(0.975, 8, 93), abs=0.002)


def test_no_discordant_pair_is_weak_evidence_and_not_certainty() -> None:
    few = intervals.paired_difference([1.0] * 30, [1.0] * 30, range(30), rounds=20_000)
    many = intervals.paired_difference([1.0] * 900, [1.0] * 900, range(900))
    assert few.mean == 0
    assert few.lower == pytest.approx(-(1 - 0.05 ** (1 / 30)), abs=0.003)
    assert few.lower < many.lower < 0 < many.upper < few.upper


def test_many_independent_values_give_the_normal_interval() -> None:
    values = np.random.default_rng(3).normal(5, 2, 2000)
    interval = intervals.cluster_interval(values, range(2000))
    half = norm.ppf(0.975) * values.std(ddof=1) / math.sqrt(2000)
    assert interval.hi - interval.mean == pytest.approx(half, rel=0.08)
    assert interval.mean - interval.lo == pytest.approx(half, rel=0.08)


def test_wordings_of_one_fact_count_once() -> None:
    facts = np.random.default_rng(0).random(100).round()
    once = intervals.cluster_interval(facts, range(100), bounds=intervals.UNIT)
    repeated = intervals.cluster_interval(facts.repeat(10), np.arange(100).repeat(10), bounds=intervals.UNIT)
    naive = intervals.cluster_interval(facts.repeat(10), range(1000), bounds=intervals.UNIT)
    assert (repeated.lo, repeated.hi) == pytest.approx((once.lo, once.hi))
    assert naive.hi - naive.lo < 0.5 * (repeated.hi - repeated.lo)
    assert (repeated.n, repeated.clusters) == (1000, 100)


def test_a_fact_shared_by_two_tasks_is_resampled_once_for_both() -> None:
    facts = np.random.default_rng(1).random(200).round()
    both, tasks = np.r_[facts, facts], ["a"] * 200 + ["b"] * 200
    shared = intervals.stratified_interval(both, tasks, [*range(200), *range(200)])
    apart = intervals.stratified_interval(both, tasks, range(400))
    assert (shared.hi - shared.lo) == pytest.approx(math.sqrt(2) * (apart.hi - apart.lo), rel=0.1)


def test_the_total_is_the_plain_mean_of_task_means_whatever_their_sizes() -> None:
    values = [1.0] * 10 + [0.0] * 1000
    total = intervals.stratified_interval(values, ["small"] * 10 + ["large"] * 1000, range(1010))
    assert total.mean == pytest.approx(0.5)


def test_ratio_weighs_documents_by_their_characters() -> None:
    interval = intervals.ratio_interval([10.0, 300.0], [10.0, 100.0], ["short", "long"])
    assert interval.mean == pytest.approx(310 / 110)


def test_relative_rise_and_ratio_difference_agree_with_plain_arithmetic() -> None:
    bits, chars = np.array([50.0, 70.0, 20.0]), np.array([100.0, 90.0, 30.0])
    rise = intervals.relative_rise(1.03 * bits, bits, range(3))
    assert (rise.mean, rise.lower, rise.upper) == pytest.approx((0.03, 0.03, 0.03))
    change = intervals.ratio_difference(bits + chars, bits, chars, range(3))
    assert change.mean == pytest.approx(1.0)


def test_pairing_removes_what_both_models_share() -> None:
    hard = np.random.default_rng(5).random(300)
    paired = intervals.paired_difference(hard, hard - 0.1, range(300), bounds=None)
    assert paired.se == pytest.approx(0, abs=1e-12)
    assert paired.lower == pytest.approx(0.1)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 9)), min_size=2, max_size=40), st.randoms())
def test_the_order_of_rows_changes_nothing(rows: list[tuple[float, int]], shuffler: object) -> None:
    shuffled = list(rows)
    shuffler.shuffle(shuffled)  # type: ignore[attr-defined]
    first, second = (
        intervals.cluster_interval(
            [v for v, _ in table], [c for _, c in table], rounds=200, bounds=intervals.UNIT
        )
        for table in (rows, shuffled)
    )
    assert first == second


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=40))
def test_swapping_the_models_mirrors_the_difference(pairs: list[tuple[float, float]]) -> None:
    ours, theirs = [a for a, _ in pairs], [b for _, b in pairs]
    forward = intervals.paired_difference(ours, theirs, range(len(pairs)), rounds=200)
    backward = intervals.paired_difference(theirs, ours, range(len(pairs)), rounds=200)
    assert (forward.mean, forward.lower, forward.upper) == pytest.approx(
        (-backward.mean, -backward.upper, -backward.lower), abs=1e-12
    )
    assert -1 <= forward.lower <= forward.mean <= forward.upper <= 1


@pytest.mark.parametrize(("clusters", "tasks", "share"), [(30, 1, 0.2), (60, 8, 0.05), (200, 8, 0.1)])
def test_one_sided_bounds_cover_a_paired_total(clusters: int, tasks: int, share: float) -> None:
    """3 wordings a fact, `share` of facts discordant, 7 of 10 of them against the candidate."""
    strata, names = np.arange(tasks).repeat(3 * clusters), np.arange(tasks * clusters).repeat(3)
    covered = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        shape = tasks * clusters
        facts = (rng.random(shape) < share) * np.where(rng.random(shape) < 0.7, -1, 1)
        difference = facts.repeat(3).astype(float)
        bound = intervals.paired_difference(
            difference, np.zeros(len(difference)), names, strata, rounds=400, seed=seed
        )
        covered += bound.lower <= -0.4 * share
    assert covered / 200 >= 0.91


def test_bounds_cover_bits_per_character_of_few_documents() -> None:
    covered = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        bits = rng.integers(50, 400, 12) * rng.lognormal(0, 0.2, 12)
        covered += (
            intervals.relative_rise(
                bits * rng.normal(1.03, 0.1, 12), bits, range(12), rounds=400, seed=seed
            ).upper
            >= 0.03
        )
    assert covered / 300 >= 0.89


def test_one_cluster_without_bounds_says_that_nothing_is_known() -> None:
    interval = intervals.cluster_interval([3.0, 4.0], ["a", "a"])
    assert interval.pair() == [None, None]


@pytest.mark.parametrize(
    ("values", "clusters", "said"),
    [
        ([], [], "at least one"),
        ([float("nan"), 1.0], [0, 1], "not finite"),
        ([1.0], [0, 1], "one entry per item"),
    ],
)
def test_bad_values_are_refused(values: list[float], clusters: list[int], said: str) -> None:
    with pytest.raises(EvalError, match=said):
        intervals.cluster_interval(values, clusters)


def test_pairs_of_different_length_are_refused() -> None:
    with pytest.raises(EvalError, match="needs pairs"):
        intervals.paired_difference([1.0, 0.0], [1.0], [0, 1])
