"""Rates behind a judge that errs: formulas, limits, coverage by simulation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from evals.errors import EvalError
from evals.stats.correction import Estimate, Known, corrected_rate, prediction_powered_rate


def known(better: Any, worse: Any, ties: Any = (), clusters: Any = None) -> list[Known]:
    """Verdicts on labelled pairs, each a cluster of its own unless `clusters` names them in this order."""
    found = [(v, truth) for truth, side in ((1.0, better), (0.0, worse), (0.5, ties)) for v in side]
    names = clusters if clusters is not None else [f"known {place}" for place in range(len(found))]
    return [Known(float(v), truth, str(name)) for (v, truth), name in zip(found, names, strict=True)]


def powered(labels: Any, verdicts: Any, unlabelled: Any, **more: Any) -> Estimate:
    """Prediction-powered inference where the first pairs have labels."""
    return prediction_powered_rate([*verdicts, *unlabelled], [*labels, *[None] * len(unlabelled)], **more)


def test_the_corrected_rate_by_hand() -> None:
    verdicts = [1] * 60 + [0] * 40
    positives, negatives = [1] * 45 + [0] * 5, [1] * 10 + [0] * 40
    found = corrected_rate(verdicts, known(positives, negatives))
    assert found.mean == pytest.approx((0.6 + 0.8 - 1) / (0.9 + 0.8 - 1))
    assert found.lo < found.mean < found.hi


def test_a_perfect_judge_changes_nothing_but_stays_uncertain() -> None:
    found = corrected_rate([1] * 60 + [0] * 40, known([1] * 10, [0] * 10))
    assert found.mean == pytest.approx(0.6)
    wide, narrow = found, corrected_rate([1] * 60 + [0] * 40, known([1] * 1000, [0] * 1000))
    assert wide.hi - wide.lo > narrow.hi - narrow.lo > 0


def test_an_impossible_rate_is_clipped() -> None:
    assert corrected_rate([1] * 50, known([1] * 40 + [0] * 10, [0] * 50)).mean == 1
    assert corrected_rate([0] * 50, known([1] * 50, [1] * 10 + [0] * 40)).mean == 0


def test_a_judge_near_a_coin_is_refused() -> None:
    with pytest.raises(EvalError, match="close to a coin"):
        corrected_rate([1, 0, 1], known([1, 0] * 10, [1, 0] * 10))


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_the_corrected_interval_covers_the_true_rate(rate: float) -> None:
    covered, found = 0, []
    for seed in range(400):
        rng = np.random.default_rng(seed)
        truth = rng.random(300) < rate
        verdicts = np.where(truth, rng.random(300) < 0.85, rng.random(300) > 0.75)
        result = corrected_rate(verdicts, known(rng.random(80) < 0.85, rng.random(80) > 0.75))
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
        tuned = powered(labels, verdicts, unlabelled)
        alone = powered(labels, verdicts, unlabelled, weight=0)
        covered += tuned.lo <= 3 <= tuned.hi
        widths.append((tuned.hi - tuned.lo, alone.hi - alone.lo))
    assert covered / 300 >= 0.91
    tuned_width, alone_width = np.mean(widths, axis=0)
    assert tuned_width <= 1.005 * alone_width
    if noise < 0.5:
        assert tuned_width < 0.6 * alone_width


def test_a_weight_of_zero_is_the_plain_mean_and_one_is_plain_inference() -> None:
    labels, verdicts, unlabelled = _labelled(1, 0.5)
    assert powered(labels, verdicts, unlabelled, weight=0).mean == pytest.approx(labels.mean())
    plain = powered(labels, verdicts, unlabelled, weight=1)
    assert plain.mean == pytest.approx(unlabelled.mean() + (labels - verdicts).mean())
    variance = unlabelled.var(ddof=1) / 600 + (labels - verdicts).var(ddof=1) / 60
    assert plain.se == pytest.approx(np.sqrt(variance))


def test_a_constant_judge_has_no_weight() -> None:
    found = powered([1.0, 0.0, 1.0], [1.0, 1.0, 1.0], [1.0] * 50)
    assert found.weight == 0
    assert found.mean == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("labels", "verdicts", "said"),
    [
        ([], [], "at least one"),
        ([1.0, None], [1.0, 1.0], "in two clusters"),
        ([1.0, 0.0], [1.0], "labels 2"),
        ([1.0, 0.0], [1.0, float("nan")], "finite"),
    ],
)
def test_bad_labels_are_refused(labels: list[float | None], verdicts: list[float], said: str) -> None:
    with pytest.raises(EvalError, match=said):
        prediction_powered_rate(verdicts, labels)


@pytest.mark.parametrize("rate", [0.3, 0.5])
def test_graded_verdicts_of_clusters_are_corrected_within_their_interval(rate: float) -> None:
    covered, found = 0, []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        truth = np.repeat(rng.random(60) < rate, 4)
        grades = np.where(truth, rng.beta(6, 2, 240), rng.beta(2, 5, 240))
        clusters = np.repeat(np.arange(60), 4)
        result = corrected_rate(grades, known(rng.beta(6, 2, 60), rng.beta(2, 5, 60)), clusters=clusters)
        covered += result.lo <= rate <= result.hi
        found.append(result.mean)
    assert covered / 300 >= 0.92
    assert np.mean(found) == pytest.approx(rate, abs=0.02)


def test_verdicts_are_shares() -> None:
    with pytest.raises(EvalError, match="outside 0 to 1"):
        corrected_rate([1.5], known([1], [0]))


N = 240


def _half_equal(rng: np.random.Generator, rate: float, right: tuple[float, float]) -> tuple[Any, ...]:
    """Verdicts, truths and which of 240 pairs were asked: half have equal answers, `rate` of the others are
    won. The judge prefers ours with the probabilities `right` where it is better, and where it is worse.
    """
    asked = rng.permutation(N) < N // 2
    better = rng.random(N) < rate
    said = (rng.random(N) < np.where(better, *right)).astype(float)
    return np.where(asked, said, 0.5), np.where(asked, better, 0.5), asked


@pytest.mark.parametrize("right", [(0.9, 0.1), (0.7, 0.1), (0.9, 0.4)])
@pytest.mark.parametrize("way", ["corrected", "powered"])
def test_equal_answers_are_a_draw_however_the_judge_leans(way: str, right: tuple[float, float]) -> None:
    """A judge that leans to one side gets nothing more right where there was nothing to judge."""
    covered, found = 0, []
    for seed in range(120):
        rng = np.random.default_rng(seed)
        verdicts, truths, asked = _half_equal(rng, 0.4, right)
        if way == "powered":
            labels = [
                float(y) if known and place < N // 2 else None
                for place, (y, known) in enumerate(zip(truths, asked, strict=True))
            ]
            result = prediction_powered_rate(verdicts, labels, 0.9, asked=asked)
        else:
            errors = known(rng.random(200) < right[0], rng.random(200) < right[1])
            result = corrected_rate(verdicts, errors, 0.9, asked=asked)
        covered += result.lo <= 0.45
        found.append(result.mean)
    assert np.mean(found) == pytest.approx(0.45, abs=0.015)
    assert covered / 120 >= 0.89


@pytest.mark.parametrize("on_ties", [0.5, 0.6, 0.3])
def test_ties_that_people_call_so_are_no_half_wins_of_the_judge(on_ties: float) -> None:
    covered, found = 0, []
    for seed in range(120):
        rng = np.random.default_rng(seed)
        kind = rng.choice([0.5, 1.0, 0.0], size=N, p=[0.5, 0.2, 0.3])
        chance = {1.0: 0.8, 0.0: 0.2, 0.5: on_ties}
        said = rng.random(N) < np.vectorize(chance.get)(kind)
        errors = known(rng.random(40) < 0.8, rng.random(60) < 0.2, rng.random(100) < on_ties)
        result = corrected_rate(said, errors, 0.9)
        covered += result.lo <= 0.45
        found.append(result.mean)
    assert np.mean(found) == pytest.approx(0.45, abs=0.015)
    assert covered / 120 >= 0.89


def test_labelled_pairs_of_one_cluster_err_together() -> None:
    """12 clusters of five labelled pairs on either side, whose verdicts are all right or all wrong."""
    covered = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        better = rng.random(400) < 0.45
        said = np.where(better, rng.random(400) < 0.9, rng.random(400) > 0.9)
        sides = [np.repeat(rng.random(12) < 0.9, 5), np.repeat(rng.random(12) > 0.9, 5)]
        errors = known(*sides, clusters=np.repeat(np.arange(24), 5))
        covered += corrected_rate(said, errors, 0.9).lo <= 0.45
    assert covered / 200 >= 0.91


def test_nothing_asked_is_refused() -> None:
    with pytest.raises(EvalError, match="nothing to judge"):
        corrected_rate([0.5, 0.5], known([1], [0]), asked=[False, False])
