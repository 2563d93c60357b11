"""Arithmetic of the gates: exact budgets, the implicit gradient, noise that depends on seed and step."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.adapt.finegates import faithful
from stages.adapt.finegates.gates import draw, noise, ranked, threshold

NUMBERS = st.floats(-5, 5, allow_nan=False, width=32)
UNITS = st.lists(st.tuples(NUMBERS, st.integers(1, 10_000)), min_size=1, max_size=40)


@settings(max_examples=60, deadline=None)
@given(units=UNITS, share=st.floats(0.001, 0.999), sigma=st.floats(0.01, 3))
def test_the_threshold_holds_the_budget(units: list[tuple[float, int]], share: float, sigma: float) -> None:
    mu, cost = torch.tensor([unit[0] for unit in units]), torch.tensor([float(unit[1]) for unit in units])
    cost = cost.double()
    tau = threshold(mu, cost, sigma, share * float(cost.sum()))
    removed = (cost * torch.special.ndtr((tau - mu.double()) / sigma)).sum()
    found = float(removed) / float(cost.sum())
    assert found == pytest.approx(share, abs=1e-6)


def test_the_threshold_of_one_gate_is_known() -> None:
    # Phi((tau - mu) / sigma) = 1/2 at tau = mu, and .8413 one sigma above.
    mu, cost = torch.tensor([1.25]), torch.tensor([7.0], dtype=torch.float64)
    assert float(threshold(mu, cost, 0.5, 3.5)) == pytest.approx(1.25, abs=1e-7)
    assert float(threshold(mu, cost, 0.5, 7 * 0.8413447460685429)) == pytest.approx(1.75, abs=1e-6)


@pytest.mark.parametrize("removed", [0.0, 3.0, -1.0, 4.0])
def test_a_budget_without_a_threshold_is_an_error(removed: float) -> None:
    with pytest.raises(ValueError, match="has no threshold"):
        threshold(torch.zeros(3), torch.ones(3, dtype=torch.float64), 0.5, removed)


def test_the_gradient_is_that_of_the_expected_gates_under_the_budget() -> None:
    torch.manual_seed(0)
    mu, cost, eps = torch.randn(6), torch.tensor([1.0, 2, 3, 4, 5, 6]).double(), torch.zeros(6)
    parameter = mu.clone().requires_grad_()
    weights = torch.randn(6)
    (draw(parameter, cost, 0.7, 8.0, eps) * weights).sum().backward()

    def expected(mu: torch.Tensor) -> float:
        tau = threshold(mu, cost, 0.7, 8.0)
        return float((torch.special.ndtr((mu.double() - tau) / 0.7) * weights).sum())

    step = 1e-3
    for at in range(6):
        ends = []
        for sign in (1, -1):
            moved = mu.clone()
            moved[at] += sign * step
            ends.append(expected(moved))
        assert parameter.grad is not None
        assert float(parameter.grad[at]) == pytest.approx((ends[0] - ends[1]) / (2 * step), abs=2e-3)


def test_a_step_along_the_gradient_stays_where_the_budget_holds() -> None:
    """Moving every gate by the same amount changes no gate: the gradient has no part along it."""
    parameter = torch.randn(8, generator=torch.Generator().manual_seed(3)).requires_grad_()
    cost = torch.arange(1.0, 9).double()
    (draw(parameter, cost, 0.5, 12.0, noise(8, 1, 0)) * torch.arange(8.0)).sum().backward()
    assert parameter.grad is not None
    assert float(parameter.grad.sum()) == pytest.approx(0, abs=1e-5)
    assert float(parameter.grad.abs().max()) > 0.1


def test_open_and_closed_gates_near_the_threshold_get_a_gradient() -> None:
    parameter = torch.ones(64, requires_grad=True)
    z = draw(parameter, torch.ones(64).double(), 0.5, 64 * 0.3, noise(64, 1, 0))
    assert set(z.tolist()) == {0.0, 1.0}
    (z * torch.arange(1.0, 65)).sum().backward()
    assert parameter.grad is not None
    assert int((parameter.grad.abs() > 1e-3).sum()) > 60
    far = torch.tensor([1.0, 9.0, 1.0], requires_grad=True)
    draw(far, torch.ones(3).double(), 0.3, 1.0, noise(3, 1, 0))[1].backward()
    assert far.grad is not None
    assert float(far.grad.abs().max()) < 1e-6


def test_a_rank_is_the_share_of_parameters_below() -> None:
    cost = torch.tensor([2.0, 1, 1, 4]).double()
    assert ranked(torch.tensor([0.3, 0.1, 0.3, 0.9]), cost).tolist() == [0.25, 0.0625, 0.4375, 0.75]


def test_the_ends_of_the_budget_are_exact_and_learn_nothing() -> None:
    for removed, value in ((0.0, 1.0), (5.0, 0.0)):
        parameter = torch.full((5,), 1.0, requires_grad=True)
        z = draw(parameter, torch.ones(5).double(), 0.5, removed, torch.randn(5))
        assert z.tolist() == [value] * 5
        z.sum().backward()
        assert parameter.grad is not None
        assert parameter.grad.tolist() == [0.0] * 5


def test_drawn_gates_close_as_many_parameters_as_the_budget_says() -> None:
    mu, cost = torch.linspace(0, 2, 20_000), torch.ones(20_000).double()
    z = draw(mu, cost, 0.5, 6_000.0, noise(20_000, 5, 7))
    assert float((z == 0).float().mean()) == pytest.approx(0.3, abs=0.01)
    assert z.dtype == torch.float32
    assert set(z.tolist()) == {0.0, 1.0}


def test_noise_is_a_function_of_seed_and_step() -> None:
    torch.manual_seed(11)
    first = noise(9, 4, 6)
    torch.manual_seed(12)
    state = torch.get_rng_state()
    assert torch.equal(noise(9, 4, 6), first)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(noise(9, 4, 7), -first)
    for other in (noise(9, 4, 8), noise(9, 5, 6)):
        assert not torch.equal(other.abs(), first.abs())


def test_the_noise_is_standard_normal() -> None:
    drawn = torch.cat([noise(5_000, 1, step) for step in range(0, 8, 2)])
    assert float(drawn.mean()) == pytest.approx(0, abs=0.03)
    assert float(drawn.std()) == pytest.approx(1, abs=0.03)


def test_faithful_gates_are_those_of_the_paper() -> None:
    logits = torch.tensor([1.0, 0.0, -0.2, -2.0])
    known = [1.0, 0.5, 0.5 - math.tanh(0.2), 0.0]
    assert faithful.evaluated(logits).tolist() == pytest.approx(known, abs=1e-6)
    assert faithful.drawn(logits, torch.full((4,), 2.0))[1] == pytest.approx(0.7, abs=1e-6)
    # An open gate counts as Phi(1.5 / .5), a closed one as Phi(-.5 / .5): the flaw that section 1.8 states.
    rows, columns = torch.full((4,), 10.0), torch.full((2,), -10.0)
    off = (abs(0.99865 - 0.7) + abs(0.158655 - 0.7)) / 2
    assert float(faithful.penalty([(rows, columns)], 0.3)) == pytest.approx(50 * off, abs=1e-2)


def test_faithful_gates_begin_open() -> None:
    logits = faithful.initial(100_000, torch.Generator().manual_seed(1))
    assert bool((faithful.evaluated(logits) == 1).all())
    assert float(logits.mean()) == pytest.approx(1, abs=0.01)
    assert float(logits.std()) == pytest.approx(0.1, abs=0.01)


def test_no_faithful_gate_begins_half_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faithful, "NOISE", 1.0)
    logits = faithful.initial(1000, torch.Generator().manual_seed(1))
    assert bool((faithful.evaluated(logits) == 1).all())
