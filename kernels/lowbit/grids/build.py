"""Computes the grids: `python -m lowbit.grids.build [NAME ...]` rewrites `grids/data/<name>.json`.

A grid is the set of n points in R^p that minimises t2 = E min_i |z - c_i|^2 / p for z ~ N(0, I_p): optimal
quadratic quantisation of the Gaussian (Pages and Printems, Monte Carlo Methods and Applications 9(2),
2003). For p = 1 the minimum is the fixed point of Lloyd (1982) and Max (1960), found by Newton's method
with exact integrals. For p > 1 it is approached by Lloyd iterations on fresh Gaussian samples and polished
on one large low-discrepancy sample.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lowbit.errors import LowbitError
from lowbit.grids import DATA, NAMES, shape_of

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[np.float64]]

log = logging.getLogger("lowbit.grids.build")

STARTS = 3  # independent starts of the stochastic search, the best of which is polished
STARTS_SMALL = 12  # of grids of at most SMALL points, which have few but distinct local minima
SMALL = 100
SEARCH_ROUNDS = 120
SEARCH_SAMPLES = 150_000
POLISH_ROUNDS = 40
POLISH_LOG2 = 20
MEASURE_LOG2 = 23


def lloyd_max(n: int) -> tuple[Array, float]:
    """The n levels (n,) of the Lloyd-Max quantiser of N(0, 1), ascending, and its t2, both to rounding
    error.

    Solves c_i = E[z | z in cell i] by Newton's method, whose Jacobian is tridiagonal because a cell depends
    on its neighbours only. The start is the asymptotically optimal density, N(0, 3) (Zador 1982; Bennett
    1948).
    """
    import numpy as np
    from scipy.linalg import solve_banded
    from scipy.special import ndtri

    levels = np.sqrt(3.0) * ndtri((np.arange(n) + 0.5) / n)
    for _ in range(200):
        mass, centroid, slope_low, slope_high = _cells(levels)
        residual = levels - centroid
        bands = np.zeros((3, n))
        # A boundary is the mean of its two levels, so half of each slope goes to each of them.
        bands[0, 1:] = -0.5 * slope_high[:-1]
        bands[1] = 1.0 - 0.5 * (slope_low + slope_high)
        bands[2, :-1] = -0.5 * slope_low[1:]
        step = solve_banded((1, 1), bands, residual)
        levels = np.sort(levels - step)
        levels = 0.5 * (levels - levels[::-1])
        if np.abs(step).max() < 1e-14:
            break
    mass, centroid, *_ = _cells(levels)
    # E|z - c|^2 = 1 - 2 E[z c] + E[c^2], which stays exact when the levels are not quite centroids.
    return levels, float(1.0 - 2.0 * np.sum(mass * centroid * levels) + np.sum(mass * levels**2))


def _cells(levels: Array) -> tuple[Array, Array, Array, Array]:
    """Mass and centroid of every cell, and the slope of the centroid in its lower and in its upper
    boundary.
    """
    import numpy as np
    from scipy.special import ndtr

    edges = np.concatenate([[-np.inf], 0.5 * (levels[1:] + levels[:-1]), [np.inf]])
    low, high = edges[:-1], edges[1:]
    density = np.exp(-0.5 * edges**2) / np.sqrt(2 * np.pi)
    # The tail that is the smaller keeps its digits.
    mass = np.where(low > 0, ndtr(-low) - ndtr(-high), ndtr(high) - ndtr(low))
    centroid = (density[:-1] - density[1:]) / mass
    with np.errstate(invalid="ignore"):
        slope_low = np.where(np.isfinite(low), density[:-1] * (centroid - low) / mass, 0.0)
        slope_high = np.where(np.isfinite(high), density[1:] * (high - centroid) / mass, 0.0)
    return mass, centroid, slope_low, slope_high


def stochastic_lloyd(n: int, p: int, seed: int = 0) -> tuple[Array, float]:
    """n points (n, p) near a minimum of t2, and that t2: several starts, the best of them polished.

    At the end every point is the mean of its cell, so that E[Q(z)] = E[z] = 0 and E|z - Q(z)|^2 = E|z|^2 -
    E|Q(z)|^2.
    """
    import numpy as np
    from scipy.stats import qmc

    finalists = []
    test = _normal(qmc.Sobol(p, seed=99).random_base2(18))
    for start in range(STARTS_SMALL if n <= SMALL else STARTS):
        generator = np.random.default_rng([seed, start, n, p])
        # Zador: the optimal density of the points is N(0, (p + 2) / p).
        points = generator.standard_normal((n, p)) * np.sqrt((p + 2) / p)
        for _ in range(SEARCH_ROUNDS):
            points = _lloyd_step(points, generator.standard_normal((SEARCH_SAMPLES, p)), generator)
        finalists.append((_distortion(points, test), start, points))
        log.info("n=%d p=%d start %d: t2 %.6f", n, p, start, finalists[-1][0])
    points = min(finalists, key=lambda item: item[:2])[2]
    sample = _normal(qmc.Sobol(p, seed=7).random_base2(POLISH_LOG2))
    for _ in range(POLISH_ROUNDS):
        points = _lloyd_step(points, sample, None)
    measure = _normal(qmc.Sobol(p, seed=11).random_base2(MEASURE_LOG2))
    return points, _distortion(points, measure)


def _lloyd_step(points: Array, sample: Array, generator: np.random.Generator | None) -> Array:
    """Move every point to the mean of the samples nearest to it.

    With a generator an empty cell is put beside the fullest one, where it takes half of its samples.
    """
    import numpy as np

    n, p = points.shape
    index = _nearest(points, sample)[1]
    count = np.bincount(index, minlength=n)
    sums = np.stack([np.bincount(index, sample[:, k], n) for k in range(p)], axis=1)
    moved = np.where(count[:, None] > 0, sums / np.maximum(count, 1)[:, None], points)
    if generator is not None:
        for empty in np.flatnonzero(count == 0):
            fullest = int(count.argmax())
            moved[empty] = moved[fullest] + 1e-3 * generator.standard_normal(p)
            count[fullest] //= 2
    return moved


def _nearest(points: Array, sample: Array) -> tuple[Array, Any]:
    import numpy as np
    from scipy.spatial import cKDTree

    distance, index = cKDTree(points).query(sample, workers=2)
    return np.asarray(distance), np.asarray(index)


def _normal(uniform: Array) -> Array:
    import numpy as np
    from scipy.special import ndtri

    return ndtri(np.clip(uniform, 1e-12, 1 - 1e-12))


def _distortion(points: Array, sample: Array) -> float:
    import numpy as np

    return float(np.mean(_nearest(points, sample)[0] ** 2) / points.shape[1])


def build(name: str) -> dict[str, Any]:
    """The grid `name` as the JSON value of its data file: points ordered by first, then second coordinate,
    as float32.
    """
    import numpy as np

    p, n = shape_of(name)
    if p == 1:
        levels, t2 = lloyd_max(n)
        points = levels[:, None]
    else:
        points, t2 = stochastic_lloyd(n, p)
        points = points[np.lexsort(points.T[::-1])]
    digits = [[float(f"{np.float32(value):.9g}") for value in point] for point in points]
    return {"name": name, "n": n, "p": p, "t2": t2, "points": digits}


def main(names: list[str]) -> None:
    """Write the data files of `names`, or of all grids."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for name in names or list(NAMES):
        if name not in NAMES:
            raise LowbitError(f"grid `{name}` is not known; known: {', '.join(NAMES)}")
        value = build(name)
        head = json.dumps({key: value[key] for key in ("name", "n", "p", "t2")}, indent=1)[:-2]
        rows = ",\n  ".join(json.dumps(point) for point in value["points"])
        Path(DATA / f"{name}.json").write_text(f'{head},\n "points": [\n  {rows}\n ]\n}}\n', encoding="utf-8")
        log.info("%s: t2 %.9g", name, value["t2"])


if __name__ == "__main__":
    main(sys.argv[1:])
