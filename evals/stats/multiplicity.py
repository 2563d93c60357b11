"""Adjusted p-values: many slices are looked at, and some look bad by luck.

- Holm (1979, Scandinavian Journal of Statistics 6:65-70): family-wise error, any dependence.
- Benjamini and Hochberg (1995, JRSS B 57:289-300): false discovery rate, independent or positively dependent.
- Benjamini and Yekutieli (2001, Annals of Statistics 29:1165-1188, theorem 1.3): the same, any dependence.

A slice whose adjusted p-value is at most alpha is rejected. Order and length are those of the input.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from evals.stats.inputs import Floats, between


def holm(p_values: ArrayLike) -> Floats:
    """(N,) to (N,): step down, p_(i) (N - i + 1). Raises `EvalError` for no value or one outside [0, 1]."""
    p_N = between("p-values", p_values, 0, 1)
    order = np.argsort(p_N, kind="stable")
    factors = np.arange(len(p_N), 0, -1)
    return _placed(np.maximum.accumulate(p_N[order] * factors), order)


def benjamini_hochberg(p_values: ArrayLike) -> Floats:
    """(N,) to (N,): step up, p_(i) N / i. Raises as `holm`."""
    return _step_up(between("p-values", p_values, 0, 1), 1.0)


def benjamini_yekutieli(p_values: ArrayLike) -> Floats:
    """(N,) to (N,): step up, p_(i) N (1 + 1/2 + ... + 1/N) / i. Raises as `holm`."""
    p_N = between("p-values", p_values, 0, 1)
    return _step_up(p_N, float((1 / np.arange(1, len(p_N) + 1)).sum()))


def _step_up(p_N: Floats, penalty: float) -> Floats:
    order = np.argsort(p_N, kind="stable")
    scaled = p_N[order] * penalty * len(p_N) / np.arange(1, len(p_N) + 1)
    return _placed(np.minimum.accumulate(scaled[::-1])[::-1], order)


def _placed(sorted_N: Floats, order: np.ndarray) -> Floats:
    adjusted = np.empty_like(sorted_N)
    adjusted[order] = np.minimum(sorted_N, 1.0)
    return adjusted
