"""Agreement between raters beyond chance, and how often one is right.

- Cohen's kappa of two raters, plain and with quadratic weights (Cohen 1960, Educational and Psychological
  Measurement 20:37-46; 1968, Psychological Bulletin 70:213-220): 1 - disagreement seen / disagreement by
  chance.
- Gwet's AC1 (2008, British Journal of Mathematical and Statistical Psychology 61:29-48, equations 12 and 13),
  which does not collapse when nearly all labels are the same.
- Krippendorff's alpha (2011, Computing Krippendorff's Alpha-Reliability, ScholarlyCommons asc_papers/43):
  1 - D_o / D_e from coincidences, for any number of raters and with gaps.

Intervals are percentiles of a bootstrap over items (units), whole: all votes of an item stay together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from evals.errors import EvalError
from evals.stats import binary, inputs
from evals.stats.inputs import Floats
from evals.stats.intervals import Interval

Weights = Literal["none", "quadratic"]
Metric = Literal["nominal", "ordinal", "interval"]


def cohen_kappa(
    first: Sequence[Any],
    second: Sequence[Any],
    weights: Weights = "none",
    level: float = 0.95,
    rounds: int = 2000,
    seed: int = 0,
    clusters: Sequence[Any] | None = None,
) -> Interval:
    """Kappa of two raters' labels (N,). Quadratic weights need numbers; their squared distances count.
    `clusters` (N,): labels of one cluster are counted as dependent; without, all are independent.

    Raises `EvalError` for no labels, unequal lengths, or when both raters give one and the same label
    throughout, where chance explains everything and kappa has no value.
    """
    values, pairs_N2 = _labels(first, second, numeric=weights == "quadratic")
    size = len(values)
    distance_VV = 1.0 - np.eye(size)
    if weights == "quadratic":
        distance_VV = (values[:, None] - values[None, :]).astype(np.float64) ** 2
    cells_N = pairs_N2[:, 0] * size + pairs_N2[:, 1]

    def kappa(table_RVV: Floats) -> Floats:
        seen_R = (table_RVV * distance_VV).sum((1, 2))
        rows_RV, columns_RV = table_RVV.sum(2), table_RVV.sum(1)
        chance_R = np.einsum("rv,vw,rw->r", rows_RV, distance_VV, columns_RV) / rows_RV.sum(1)
        with np.errstate(all="ignore"):
            return 1 - seen_R / chance_R

    return _of_tables("kappa", kappa, cells_N, size, level, rounds, seed, clusters)


def gwet_ac1(
    first: Sequence[Any], second: Sequence[Any], level: float = 0.95, rounds: int = 2000, seed: int = 0
) -> Interval:
    """AC1 of two raters' labels (N,): chance agreement is sum p (1 - p) / (V - 1) over V labels.

    Raises `EvalError` for no labels, unequal lengths, or a single label throughout.
    """
    values, pairs_N2 = _labels(first, second, numeric=False)
    size = len(values)
    cells_N = pairs_N2[:, 0] * size + pairs_N2[:, 1]

    def ac1(table_RVV: Floats) -> Floats:
        n_R = table_RVV.sum((1, 2))
        agreed_R = np.einsum("rvv->r", table_RVV) / n_R
        share_RV = (table_RVV.sum(2) + table_RVV.sum(1)) / (2 * n_R[:, None])
        with np.errstate(all="ignore"):
            chance_R = (share_RV * (1 - share_RV)).sum(1) / (size - 1)
            return (agreed_R - chance_R) / (1 - chance_R)

    return _of_tables("AC1", ac1, cells_N, size, level, rounds, seed)


def krippendorff_alpha(
    units: Sequence[Any],
    labels: Sequence[Any],
    metric: Metric = "nominal",
    level: float = 0.95,
    rounds: int = 1000,
    seed: int = 0,
) -> Interval:
    """Alpha of votes (N,): the item that each is about and its label. Items with one vote do not count.

    `ordinal` and `interval` need numbers as labels. `n` of the result counts pairable votes, `clusters`
    items. Raises `EvalError` for no votes, unequal lengths, no item with two votes, or one label throughout.
    """
    inputs.aligned(units=units, labels=labels)
    if metric not in ("nominal", "ordinal", "interval"):
        raise EvalError(f"metric is {metric!r}; expected nominal, ordinal or interval")
    if len(labels) == 0:
        raise EvalError("Krippendorff's alpha: there are no votes")
    values, label_N = _coded(labels, numeric=metric != "nominal")
    names, unit_N = inputs.grouped(units)
    counts_UV = np.zeros((len(names), len(values)))
    np.add.at(counts_UV, (unit_N, label_N), 1.0)
    counts_UV = counts_UV[counts_UV.sum(1) >= 2]
    if len(counts_UV) == 0:
        raise EvalError("Krippendorff's alpha: no item has two votes")
    size_U = counts_UV.sum(1)
    apart_U = (size_U**2 - (counts_UV**2).sum(1)) / (size_U - 1)

    def alpha(weights_RU: Floats) -> Floats:
        marginal_RV = weights_RU @ counts_UV
        total_R = marginal_RV.sum(1)
        if metric == "nominal":
            seen_R, chance_R = weights_RU @ apart_U, total_R**2 - (marginal_RV**2).sum(1)
        else:
            # Sums of squared distances over all pairs of a group: 2 (n sum x^2 - (sum x)^2).
            x_RV = _places(values, marginal_RV, metric)
            within_RU = size_U * (x_RV**2 @ counts_UV.T) - (x_RV @ counts_UV.T) ** 2
            seen_R = 2 * (weights_RU * within_RU / (size_U - 1)).sum(1)
            chance_R = 2 * (total_R * (marginal_RV * x_RV**2).sum(1) - (marginal_RV * x_RV).sum(1) ** 2)
        with np.errstate(all="ignore"):
            return 1 - seen_R * (total_R - 1) / chance_R

    value = float(alpha(np.ones((1, len(counts_UV))))[0])
    if not np.isfinite(value):
        raise EvalError("Krippendorff's alpha: all votes are one label, which chance explains")
    draws_R = _blocks(alpha, counts_UV.shape, rounds, seed)
    low, high = _percentiles(draws_R, level)
    return Interval(value, low, high, int(counts_UV.sum()), len(counts_UV))


def _places(values: np.ndarray, marginal_RV: Floats, metric: Metric) -> Floats:
    """Where each label stands (R, V). Ordinal ones stand at the midpoint of their cumulated counts.

    The ordinal distance from c to k is the sum of the counts from c to k, less half of both ends.
    """
    if metric == "interval":
        return np.broadcast_to(values - values.mean(), marginal_RV.shape)
    return np.asarray(marginal_RV.cumsum(1) - marginal_RV / 2)


def detection(truth: ArrayLike, verdict: ArrayLike, level: float = 0.95) -> tuple[Interval, Interval]:
    """Sensitivity and specificity of 0/1 verdicts (N,) against labels (N,), each with Wilson's interval.

    Raises `EvalError` when either label is missing: nothing is known then about one of the two.
    """
    truth_N, verdict_N = inputs.binary("truth", truth), inputs.binary("verdict", verdict)
    inputs.aligned(truth=truth_N, verdict=verdict_N)
    found = []
    for name, chosen_N, right_N in (("positive", truth_N, verdict_N), ("negative", ~truth_N, ~verdict_N)):
        n, right = int(chosen_N.sum()), int((chosen_N & right_N).sum())
        if n == 0:
            raise EvalError(f"sensitivity and specificity need both labels; no item is {name}")
        found.append(Interval(right / n, *binary.wilson(right, n, level), n, n))
    return found[0], found[1]


def _labels(first: Sequence[Any], second: Sequence[Any], numeric: bool) -> tuple[np.ndarray, inputs.Ints]:
    inputs.aligned(first=first, second=second)
    if len(first) == 0:
        raise EvalError("agreement of two raters: there are no labels")
    values, code_N = _coded([*first, *second], numeric)
    return values, np.stack([code_N[: len(first)], code_N[len(first) :]], 1)


def _coded(labels: Sequence[Any], numeric: bool) -> tuple[np.ndarray, inputs.Ints]:
    """Distinct labels, sorted, and the index of each row's own. A label that is missing is an error."""
    if any(label is None or (isinstance(label, float) and np.isnan(label)) for label in labels):
        raise EvalError("labels: some are missing; leave out the votes that were not given")
    if not numeric:
        values, code_N = inputs.grouped(labels)
        return values, code_N
    try:
        numbers = inputs.finite("labels", np.asarray(labels, dtype=np.float64))
    except ValueError as error:
        raise EvalError("labels: ordinal, interval and quadratic agreement need numbers") from error
    values, code_N = np.unique(numbers, return_inverse=True)
    return values, code_N.astype(np.int64)


def _of_tables(
    name: str,
    statistic: Callable[[Floats], Floats],
    cells_N: inputs.Ints,
    size: int,
    level: float,
    rounds: int,
    seed: int,
    clusters: Sequence[Any] | None = None,
) -> Interval:
    """A statistic of (R, V, V) contingency tables, with its bootstrap over items, or over whole clusters."""
    table = np.bincount(cells_N, minlength=size * size).astype(np.float64)
    value = float(statistic(table.reshape(1, size, size))[0]) if size > 1 else np.nan
    if not np.isfinite(value):
        raise EvalError(f"{name}: both raters give one and the same label throughout, which chance explains")
    n = len(cells_N)
    generator = np.random.default_rng(seed)
    if clusters is None:
        drawn, units = generator.multinomial(n, table / n, rounds).astype(np.float64), n
    else:
        inputs.aligned(labels=cells_N, clusters=clusters)
        names, row_N = inputs.grouped(clusters)
        units = len(names)
        table_KC = np.zeros((units, size * size))
        np.add.at(table_KC, (row_N, cells_N), 1.0)
        drawn = generator.multinomial(units, np.full(units, 1 / units), rounds) @ table_KC
    low, high = _percentiles(statistic(drawn.reshape(-1, size, size)), level)
    return Interval(value, low, high, n, units)


def _blocks(statistic: Callable[[Floats], Floats], shape: tuple[int, ...], rounds: int, seed: int) -> Floats:
    """The statistic (R,) of `rounds` resamples of units, in blocks that fit into memory."""
    generator, found, units = np.random.default_rng(seed), [], shape[0]
    block = max(1, 2_000_000 // max(shape))
    for start in range(0, rounds, block):
        count = min(block, rounds - start)
        found.append(
            statistic(generator.multinomial(units, np.full(units, 1 / units), count).astype(np.float64))
        )
    return np.concatenate(found)


def _percentiles(draws_R: Floats, level: float) -> tuple[float, float]:
    """Rounds in which only one label was drawn have no value, and are left out."""
    tail = (1 - inputs.share("level", level)) / 2
    low, high = np.nanquantile(np.where(np.isfinite(draws_R), draws_R, np.nan), [tail, 1 - tail])
    return float(low), float(high)
