"""Grids: levels and t2 against the published tables, measured again on fresh vectors."""

from __future__ import annotations

import pytest
import torch
from lowbit import grids, rounding
from lowbit.errors import LowbitError
from lowbit.grids.build import lloyd_max, stochastic_lloyd

LLOYD_MAX = {4: 0.117482, 8: 0.034548, 16: 0.0095010, 32: 0.0025047, 64: 0.00064424, 256: 0.00004119}
TABLES = {"p2n16": 0.10773, "p2n64": 0.029563, "p2n88": 0.021917, "p2n256": 0.007755}
TABLES |= {"p2n1024": 0.002035, "p4n256": 0.09599}


def _gaussian(p: int, seed: int, count: int = 1 << 19) -> torch.Tensor:
    return torch.randn(count, p, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("n", sorted(LLOYD_MAX))
def test_one_dimensional_t2_is_that_of_lloyd_and_max(n: int) -> None:
    digits = {4: 6, 8: 6, 16: 7, 32: 7, 64: 8, 256: 8}[n]
    assert round(grids.load(f"p1n{n}").t2, digits) == LLOYD_MAX[n]


def test_known_levels() -> None:
    levels = grids.load("p1n16").points[8:, 0].tolist()
    assert levels == pytest.approx(
        [0.128395, 0.388048, 0.656759, 0.942340, 1.256231, 1.618046, 2.069017, 2.732590], abs=1e-6
    )
    assert lloyd_max(3)[0][2] == pytest.approx(1.224006, abs=1e-6)
    assert lloyd_max(2)[1] == pytest.approx(0.363380, abs=1e-6)


@pytest.mark.parametrize("n", [4, 16, 256])
def test_shipped_levels_are_the_fixed_point_that_the_builder_finds(n: int) -> None:
    levels, t2 = lloyd_max(n)
    grid = grids.load(f"p1n{n}")
    assert torch.allclose(grid.points[:, 0], torch.tensor(levels, dtype=torch.float32), rtol=1e-6, atol=1e-7)
    assert grid.t2 == pytest.approx(t2, rel=1e-9)


@pytest.mark.parametrize("name", sorted(TABLES))
def test_vector_grids_reach_the_tables_on_fresh_vectors(name: str) -> None:
    grid = grids.load(name)
    x = _gaussian(grid.p, seed=2024)
    nearest = grid.points[rounding.search(x, grid).long()]
    measured = float((x - nearest).square().mean())
    assert 0.97 * TABLES[name] < measured < 1.02 * TABLES[name]
    assert measured == pytest.approx(grid.t2, rel=0.01)


def test_the_default_grid_is_good_enough() -> None:
    assert grids.load("p2n256").t2 <= 0.00785


@pytest.mark.parametrize("name", grids.NAMES)
def test_every_grid_has_the_shape_of_its_name_and_mean_zero(name: str) -> None:
    grid = grids.load(name)
    assert name == f"p{grid.p}n{grid.n}"
    assert grid.points.shape == (grid.n, grid.p)
    assert grid.points.dtype == torch.float32
    x = _gaussian(grid.p, seed=5, count=1 << 17)
    mean = grid.points[rounding.search(x, grid).long()].mean(0)
    assert mean.abs().max() < 0.015


def test_unknown_grid_lists_the_known() -> None:
    with pytest.raises(LowbitError, match=r"p3n7.*p2n256"):
        grids.load("p3n7")


def test_the_builder_finds_a_small_grid_again(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"STARTS_SMALL": 2, "SEARCH_ROUNDS": 40, "SEARCH_SAMPLES": 20_000}.items():
        monkeypatch.setattr(f"lowbit.grids.build.{name}", value)
    monkeypatch.setattr("lowbit.grids.build.POLISH_LOG2", 15)
    monkeypatch.setattr("lowbit.grids.build.MEASURE_LOG2", 16)
    _, t2 = stochastic_lloyd(4, 2)
    # The best four points are the square of two one-bit quantisers.
    assert t2 == pytest.approx(0.363380, rel=0.01)


@pytest.mark.parametrize("name", ["p2n16", "p2n256"])
def test_raster_costs_almost_nothing_against_search(name: str) -> None:
    grid = grids.load(name)
    x = torch.cat(
        [_gaussian(2, seed=9, count=1 << 17), torch.tensor([[30.0, -2.0], [-5.0, 5.0], [0.0, -5.004]])]
    )
    fast, exact = rounding.nearest(x, grid), rounding.search(x, grid)
    lost = (x - grid.points[fast.long()]).square().sum() / (x - grid.points[exact.long()]).square().sum()
    assert 1 <= lost < 1.002
    assert torch.equal(fast[-3:], exact[-3:])


def test_bisection_is_the_nearest_level() -> None:
    grid = grids.load("p1n16")
    x = _gaussian(1, seed=3, count=5000)
    assert torch.equal(rounding.nearest(x, grid), rounding.search(x, grid))
