"""Weights alone: constants of the grids, errors of every format at its stored bits, speed of rounding."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any
from unittest.mock import patch

from tests.proof.common import piece, run, workspace, write_result

CLAIM = "weights"
ROWS, COLUMNS = 1024, 2048
FRESH = 4_000_000  # vectors that a grid of p > 1 is measured on again
PEERS = ("bitsandbytes", "hqq", "torchao")
# The grid files of the authors of HIGGS, measured by Monte Carlo to .1-.3 %; p = 1 by the exact integral.
KNOWN = {
    "p1n4": 0.117482,
    "p1n8": 0.034548,
    "p1n16": 0.0095010,
    "p1n32": 0.0025047,
    "p1n64": 0.00064424,
    "p1n256": 0.00004119,
    "p2n16": 0.10773,
    "p2n64": 0.029563,
    "p2n88": 0.021917,
    "p2n256": 0.007755,
    "p2n1024": 0.002035,
    "p4n256": 0.09599,
}


def measure() -> None:
    """Grids, then matrices under every format, then rounding against the search that it replaces."""
    write_result(
        CLAIM,
        {
            "grids": piece(CLAIM, "grids", _grids),
            "errors": piece(CLAIM, "errors", _errors),
            "rounding": piece(CLAIM, "rounding", _rounding),
        },
    )


def _grids() -> dict[str, Any]:
    """t^2 of every shipped grid, measured anew, beside what its file and the literature say."""
    from lowbit import grids

    found = {}
    for name in grids.NAMES:
        grid = grids.load(name)
        value, error = _exact(grid) if grid.p == 1 else _sampled(grid)
        found[name] = {"file": grid.t2, "measured": value, "standard_error": error, "known": KNOWN[name]}
    return found


def _exact(grid: Any) -> tuple[float, float]:
    """The Gaussian integral of the squared distance to the nearest level, cell by cell."""
    import numpy as np
    from scipy.integrate import quad

    levels = np.sort(grid.points.double().numpy()[:, 0])
    edges = [-40.0, *(0.5 * (levels[1:] + levels[:-1])), 40.0]
    total = math.fsum(
        quad(lambda z, c=c: (z - c) ** 2 * math.exp(-z * z / 2), low, high, epsabs=0, epsrel=1e-12)[0]
        for c, low, high in zip(levels, edges[:-1], edges[1:], strict=True)
    )
    return total / math.sqrt(2 * math.pi), 0.0


def _sampled(grid: Any) -> tuple[float, float]:
    """Mean squared error per coordinate on fresh vectors, found by exact search, and its standard error."""
    import torch
    from lowbit.rounding import search

    generator = torch.Generator().manual_seed(20_261_121)
    total = squares = 0.0
    for part in torch.full((FRESH,), 0).split(1 << 17):
        z = torch.randn(len(part), grid.p, generator=generator)
        lost = (z - grid.points[search(z, grid).long()]).square().mean(1).double()
        total, squares = total + float(lost.sum()), squares + float(lost.square().sum())
    mean = total / FRESH
    return mean, math.sqrt((squares / FRESH - mean**2) / FRESH)


def _errors() -> dict[str, Any]:
    """|W_q - W|^2 / |W|^2 and stored bits of every format on made matrices and on weights that we trained."""
    import torch

    torch.set_num_threads(2)
    matrices = {**_made(), **_trained()}
    methods = _methods()
    table: dict[str, Any] = {}
    for label, method in methods.items():
        rows = {name: method(weight) for name, weight in matrices.items()}
        table[label] = {name: {"error": error, "bits": bits} for name, (error, bits) in rows.items()}
    shapes = {name: list(weight.shape) for name, weight in matrices.items()}
    return {"shapes": shapes, "formats": table, "versions": {name: version(name) for name in PEERS}}


def _made() -> dict[str, Any]:
    """Gaussian, Student-t with four degrees of freedom, Gaussian with 20 input columns eight times larger."""
    import torch

    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(ROWS, COLUMNS, generator=generator)
    chi = torch.randn(ROWS, COLUMNS, 4, generator=generator).square().sum(-1)
    heavy = torch.randn(ROWS, COLUMNS, generator=generator) * (4 / chi).sqrt()
    outliers = torch.randn(ROWS, COLUMNS, generator=generator)
    outliers[:, torch.randperm(COLUMNS, generator=generator)[:20]] *= 8
    return {"gaussian": normal, "student-t4": heavy, "outlier columns": outliers}


def _trained() -> dict[str, Any]:
    """Linear layers of the default run's adapted model, those of one name below each other."""
    import torch

    from stages.common.checkpoint import load_model

    folder = workspace(CLAIM, "run")
    run(["dvc", "repro", "adapt"], folder)
    model = load_model(folder / "out" / "adapt", dtype=torch.float32)
    found = {}
    for kind in ("o_proj", "down_proj"):
        layers = [module.weight for name, module in model.named_modules() if name.endswith(kind)]
        found[f"trained {kind}"] = torch.cat(layers).detach()
    return found


def _methods() -> dict[str, Callable[[Any], tuple[float, float]]]:
    """Label -> (relative error, stored bits a weight) of a matrix."""
    from lowbit import recipes

    def ours(recipe: str) -> Callable[[Any], tuple[float, float]]:
        def measured(weight: Any) -> tuple[float, float]:
            spec = recipes.spec_of(recipe, tuple(weight.shape), None, "matrix")
            packed = recipes.pack(weight, spec or {}, 0, "matrix")
            return packed.relative_error(weight), packed.bits_per_weight

        return measured

    names = ("higgs-4bit", "higgs-p1n16", "higgs-3bit", "higgs-2bit", "higgs-p4n256", "int8", "ternary")
    baselines = ("nf4", "hqq-4bit", "int4-rtn")
    return {name: ours(name) for name in (*names, *baselines)} | {"torchao int4 g128": _torchao}


def _torchao(weight: Any) -> tuple[float, float]:
    """torchao's weight-only int4 in groups of 128; bits with a bfloat16 scale a group, as its doc counts."""
    import torch
    from torchao.quantization import IntxWeightOnlyConfig, PerGroup, quantize_

    layer = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    layer.weight = torch.nn.Parameter(weight.clone(), requires_grad=False)
    quantize_(layer, IntxWeightOnlyConfig(weight_dtype=torch.int4, granularity=PerGroup(128)))
    lost = (layer.weight.dequantize() - weight).double().square().sum()
    return float(lost / weight.double().square().sum()), 4 + 16 / 128


def _rounding() -> dict[str, Any]:
    """Seconds to quantise 4 M weights with p2n256, and with exact search in the place of the raster.

    The two take turns, fifteen times each; the ratio is that of the medians.
    """
    import statistics

    import torch
    from lowbit import higgs, rounding

    torch.set_num_threads(2)
    weight = torch.randn(2048, 2048, generator=torch.Generator().manual_seed(0))
    higgs.quantize(weight)
    seconds: dict[str, list[float]] = {"raster": [], "search": []}
    for _ in range(15):
        for label, way in (("raster", rounding.nearest), ("search", rounding.search)):
            with patch.object(higgs, "nearest", way):
                begun = time.perf_counter()
                packed = higgs.quantize(weight)
                seconds[label].append(time.perf_counter() - begun)
    medians = {label: statistics.median(values) for label, values in seconds.items()}
    return {
        "weights": weight.numel(),
        "seconds": seconds,
        "ratio": medians["search"] / medians["raster"],
        "relative_error": packed.relative_error(weight),
    }
