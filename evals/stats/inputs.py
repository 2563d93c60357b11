"""Checks that every statistic begins with: one `EvalError` of one line for whatever is not a sample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evals.errors import EvalError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


def finite(name: str, values: ArrayLike) -> Floats:
    """`values` as (N,) floats. Raises `EvalError` for none, another shape, or values that are not finite."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0:
        raise EvalError(f"{name}: expected a list of at least one number, found shape {array.shape}")
    if not np.isfinite(array).all():
        raise EvalError(f"{name}: {int((~np.isfinite(array)).sum())} of {array.size} values are not finite")
    return array


def between(name: str, values: ArrayLike, low: float, high: float) -> Floats:
    """`finite` values that all lie in [low, high]. Raises `EvalError` for others."""
    array = finite(name, values)
    outside = int(((array < low) | (array > high)).sum())
    if outside:
        raise EvalError(f"{name}: {outside} of {array.size} values lie outside {low:g} to {high:g}")
    return array


def binary(name: str, values: ArrayLike) -> Bools:
    """`values` (N,) of zeros and ones (or booleans). Raises `EvalError` for others."""
    array = finite(name, values)
    if not np.isin(array, (0.0, 1.0)).all():
        raise EvalError(f"{name}: expected zeros and ones; graded values need another test")
    return array == 1.0


def aligned(**columns: Sequence[Any] | NDArray[Any]) -> None:
    """Raises `EvalError` unless all columns have one length."""
    sizes = {name: len(column) for name, column in columns.items()}
    if len(set(sizes.values())) > 1:
        found = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise EvalError(f"one entry per item is needed in every column; found {found}")


def grouped(names: Sequence[Any]) -> tuple[NDArray[np.str_], Ints]:
    """The distinct names, sorted, and for each row the index of its own."""
    unique, row_N = np.unique(np.asarray(names, dtype=str), return_inverse=True)
    return unique, row_N.astype(np.int64)


def share(name: str, value: float, low: float = 0.0, high: float = 1.0) -> float:
    """`value` when it lies strictly between `low` and `high`; raises `EvalError` otherwise."""
    if not low < value < high:
        raise EvalError(f"{name} is {value:g}; expected more than {low:g} and less than {high:g}")
    return float(value)


def normal_quantile(probability: float) -> float:
    """The standard normal quantile, without the second that scipy takes to import."""
    from statistics import NormalDist

    return NormalDist().inv_cdf(probability)


def normal_tail(z: float) -> float:
    """P(Z > z)."""
    from statistics import NormalDist

    return NormalDist().cdf(-z)
