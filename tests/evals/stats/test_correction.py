"""Rates behind a judge that errs: formulas, limits, coverage by simulation."""

from __future__ import annotations

import numpy as np
import pytest

from evals.errors import EvalError
from evals.stats.correction import corrected_rate, prediction_powered_mean


def test_the_corrected_rate_by_hand() -> None:
    verdicts = [1] * 60 + [0] * 40
    positives, negatives = [1] * 45 + [0] * 5, [1] * 10 + [0] * 40
    found = corrected_rate(verdicts, positives, negatives)
    assert found.mean == pytest.approx((0.6 + 0.8 - 1) / (0.9 + 0.8 - 1))
    assert found.lo < found.mean < found.hi


def test_a_perfect_judge_changes_nothing_but_stays_uncertain() -> None:
    found = corrected_rate([1] * 60 + [0] * 40, [1] * 10, [0] * 10)
    assert found.mean == pytest.approx(0.6)
    wide, narrow = found, corrected_rate([1] * 60 + [0] * 40, [1] * 1000, [0] * 1000)
    assert wide.hi - wide.lo > narrow.hi - narrow.lo > 0


def test_an_impossible_rate_is_clipped() -> None:
    assert corrected_rate([1] * 50, [1] * 40 + [0] * 10, [0] * 50).mean == 1
    assert corrected_rate([0] * 50, [1] * 50, [1] * 10 + [0] * 40).mean == 0


def test_a_judge_near_a_coin_is_refused() -> None:
    with pytest.raises(EvalError, match="close to a coin"):
        corrected_rate([1, 0, 1], [1, 0] * 10, [1, 0] * 10)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_the_corrected_interval_covers_the_true_rate(rate: float) -> None:
    covered, found = 0, []
    for seed in range(400):
        rng = np.random.default_rng(seed)
        truth = rng.random(300) < rate
        verdicts = np.where(truth, rng.random(300) < 0.85, rng.random(300) > 0.75)
        result = corrected_rate(verdicts, rng.random(80) < 0.85, rng.random(80) > 0.75)
        covered += result.lo <= rate <= result.hi
        found.append(result.mean)
    assert covered / 400 >= 0.93
    assert np.mean(found) == pytest.approx(rate, abs=0.02)


def _labelled(seed: int, noise: float, n: int = 60, big: int = 600) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    quality = rng.normal(3, 1, n + big)
    verdicts = quality + 0.5 + noise * rng.normal(size=n + big)
    return quality[:n], verdicts[:n], verdicts[n:]


@pytest.mark.parametrize("noise", [0.2, 1.0, 8.0])
def test_the_prediction_powered_interval_covers_and_is_no_wider_than_labels_alone(noise: float) -> None:
    covered, widths = 0, []
    for seed in range(300):
        labels, verdicts, unlabelled = _labelled(seed, noise)
        tuned = prediction_powered_mean(labels, verdicts, unlabelled)
        alone = prediction_powered_mean(labels, verdicts, unlabelled, weight=0)
        covered += tuned.lo <= 3 <= tuned.hi
        widths.append((tuned.hi - tuned.lo, alone.hi - alone.lo))
    assert covered / 300 >= 0.91
    tuned_width, alone_width = np.mean(widths, axis=0)
    assert tuned_width <= 1.005 * alone_width
    if noise < 0.5:
        assert tuned_width < 0.6 * alone_width


def test_a_weight_of_zero_is_the_plain_mean_and_one_is_plain_inference() -> None:
    labels, verdicts, unlabelled = _labelled(1, 0.5)
    assert prediction_powered_mean(labels, verdicts, unlabelled, weight=0).mean == pytest.approx(
        labels.mean()
    )
    plain = prediction_powered_mean(labels, verdicts, unlabelled, weight=1)
    assert plain.mean == pytest.approx(unlabelled.mean() + (labels - verdicts).mean())
    variance = unlabelled.var(ddof=1) / 600 + (labels - verdicts).var(ddof=1) / 60
    assert plain.se == pytest.approx(np.sqrt(variance))


def test_a_constant_judge_has_no_weight() -> None:
    found = prediction_powered_mean([1.0, 0.0, 1.0], [1.0, 1.0, 1.0], [1.0] * 50)
    assert found.weight == 0
    assert found.mean == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("labels", "verdicts", "unlabelled", "said"),
    [
        ([], [], [1.0], "at least one"),
        ([1.0], [1.0], [1.0], "two human labels"),
        ([1.0, 0.0], [1.0], [1.0], "labels 2"),
        ([1.0, 0.0], [1.0, float("nan")], [1.0], "finite"),
        ([1.0, 0.0], [1.0, 0.0], [], "unlabelled"),
    ],
)
def test_bad_labels_are_refused(
    labels: list[float], verdicts: list[float], unlabelled: list[float], said: str
) -> None:
    with pytest.raises(EvalError, match=said):
        prediction_powered_mean(labels, verdicts, unlabelled)


@pytest.mark.parametrize("rate", [0.3, 0.5])
def test_graded_verdicts_of_clusters_are_corrected_within_their_interval(rate: float) -> None:
    covered, found = 0, []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        truth = np.repeat(rng.random(60) < rate, 4)
        grades = np.where(truth, rng.beta(6, 2, 240), rng.beta(2, 5, 240))
        clusters = np.repeat(np.arange(60), 4)
        result = corrected_rate(grades, rng.beta(6, 2, 60), rng.beta(2, 5, 60), clusters=clusters)
        covered += result.lo <= rate <= result.hi
        found.append(result.mean)
    assert covered / 300 >= 0.92
    assert np.mean(found) == pytest.approx(rate, abs=0.02)


def test_verdicts_are_shares() -> None:
    with pytest.raises(EvalError, match="outside 0 to 1"):
        corrected_rate([1.5], [1], [0])
