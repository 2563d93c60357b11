"""Agreement: published examples, the figures of mera_human, what coefficients must obey."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from evals.errors import EvalError
from evals.stats import agreement

# Krippendorff 2011 (asc_papers/43), example C: four observers, twelve units, gaps. Gwet 2015 (On
# Krippendorff's
# Alpha Coefficient, table 1) takes the same data.
RATINGS = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
    [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
]
VOTES = [(unit, label) for row in RATINGS for unit, label in enumerate(row) if label is not None]
label_lists = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=4, max_size=60)


@pytest.mark.parametrize(
    ("metric", "expected"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)]
)
def test_krippendorffs_own_example(metric: agreement.Metric, expected: float) -> None:
    units, labels = zip(*VOTES, strict=True)
    found = agreement.krippendorff_alpha(units, labels, metric)
    assert found.mean == pytest.approx(expected, abs=6e-4)
    assert found.lo < found.mean < found.hi
    assert (found.n, found.clusters) == (40, 11)


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ("bps", 0.772),
        ("lcs", 0.454),
        ("simplear", 0.961),
        ("rumultiar", 0.826),
        ("rcb", 0.471),
        ("ruhhh", 0.523),
        ("rutie", 0.776),
    ],
)
def test_the_alpha_of_real_votes_is_that_of_their_source(
    crowd_votes: dict[str, tuple[list[Any], list[Any], list[Any]]], task: str, expected: float
) -> None:
    items, _, labels = crowd_votes[task]
    found = agreement.krippendorff_alpha(items, labels, rounds=50)
    assert found.mean == pytest.approx(expected, abs=5.1e-4)
    assert found.lo < found.mean < found.hi


@given(label_lists)
def test_kappa_is_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    first, second = zip(*pairs, strict=True)
    if len(set(first) | set(second)) < 2:
        return
    for weights, theirs in (("none", None), ("quadratic", "quadratic")):
        labels = sorted(set(first) | set(second)) if weights == "none" else list(range(4))
        expected = cohen_kappa_score(first, second, weights=theirs, labels=labels)
        if np.isfinite(expected):
            found = agreement.cohen_kappa(first, second, weights, rounds=20)  # type: ignore[arg-type]
            assert found.mean == pytest.approx(expected, abs=1e-9)


def test_kappas_paradox_and_ac1() -> None:
    """Gwet 2008, section 1: 118 of 125 agreed, nearly all positive; kappa is near zero, AC1 is not."""
    first = ["+"] * 118 + ["+"] * 5 + ["-"] * 2
    second = ["+"] * 118 + ["-"] * 5 + ["+"] * 2
    kappa, ac1 = agreement.cohen_kappa(first, second), agreement.gwet_ac1(first, second)
    assert kappa.mean == pytest.approx(-0.0234, abs=5e-4)
    assert ac1.mean == pytest.approx(0.9408, abs=5e-4)


def test_the_interval_of_kappa_covers_what_it_estimates() -> None:
    """Two raters who each give the true coin's side with probability .9: kappa is (.82 - .5) / .5 = .64."""
    covered = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        truth = rng.random(150) < 0.5
        first, second = (truth ^ (rng.random(150) < 0.1) for _ in range(2))
        found = agreement.cohen_kappa(list(first), list(second), rounds=300, seed=seed)
        covered += found.lo <= 0.64 <= found.hi
    assert covered / 200 >= 0.9


@given(st.lists(st.lists(st.integers(0, 3), min_size=2, max_size=5), min_size=2, max_size=12), st.randoms())
def test_alpha_knows_no_order_of_votes_and_no_names_of_labels(rows: list[list[int]], shuffler: Any) -> None:
    given_votes = [(unit, label) for unit, row in enumerate(rows) for label in row]
    if len({label for _, label in given_votes}) < 2:
        return
    units, labels = zip(*given_votes, strict=True)
    value = agreement.krippendorff_alpha(units, labels, rounds=10).mean
    shuffler.shuffle(given_votes)
    units, labels = zip(*given_votes, strict=True)
    renamed = [f"label {9 - label}" for label in labels]
    assert agreement.krippendorff_alpha(units, renamed, rounds=10).mean == pytest.approx(value)
    assert value <= 1


def test_perfect_agreement_is_one_and_lone_votes_do_not_count() -> None:
    found = agreement.krippendorff_alpha([1, 1, 2, 2, 3], ["a", "a", "b", "b", "a"])
    assert (found.mean, found.n, found.clusters) == (1, 4, 2)


def test_detection() -> None:
    sensitivity, specificity = agreement.detection([1] * 20 + [0] * 10, [1] * 18 + [0] * 2 + [0] * 9 + [1])
    assert (sensitivity.mean, specificity.mean) == pytest.approx((0.9, 0.9))
    assert sensitivity.lo > specificity.lo
    assert sensitivity.hi < 1


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: agreement.cohen_kappa([], []), "no labels"),
        (lambda: agreement.cohen_kappa(["a"], ["a", "b"]), "first 1, second 2"),
        (lambda: agreement.cohen_kappa(["a"], ["a"]), "same label"),
        (lambda: agreement.cohen_kappa(["a", None], ["a", "b"]), "missing"),
        (lambda: agreement.cohen_kappa(["a", "b"], ["a", "b"], "quadratic"), "need numbers"),
        (lambda: agreement.gwet_ac1(["a"], ["a"]), "same label"),
        (lambda: agreement.krippendorff_alpha([], []), "no votes"),
        (lambda: agreement.krippendorff_alpha([1, 2], ["a", "b"]), "no item has two"),
        (lambda: agreement.krippendorff_alpha([1, 1], ["a", "a"]), "one label"),
        (lambda: agreement.krippendorff_alpha([1, 1], ["a", float("nan")]), "missing"),
        (lambda: agreement.krippendorff_alpha([1, 1], ["a", "b"], "ratio"), "metric"),
        (lambda: agreement.detection([1, 1], [1, 0]), "no item is negative"),
    ],
)
def test_bad_labels_are_refused(call: Any, said: str) -> None:
    with pytest.raises(EvalError, match=said) as error:
        call()
    assert "\n" not in str(error.value)
