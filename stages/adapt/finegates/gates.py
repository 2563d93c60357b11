"""Arithmetic of the gates: noise, the threshold that holds the budget, its gradient. All in fp32 or better.

A gate of parameter mu is open in training where mu - tau + sigma eps > 0, eps ~ N(0, 1), and clamp(mu, 0, 1)
in evaluation: the stochastic gates of Yamada et al. 2018 (1810.04247, section 3) under a common threshold
tau, but drawn as 0 or 1, so that what is trained is always a model that could be cut.

Shapes: U gates under one budget.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

ITERATIONS = 100
TOLERANCE = 1e-9  # of the parameters under the budget
_ROOT_TWO_PI = math.sqrt(2 * math.pi)


def noise(count: int, seed: int, step: int) -> Tensor:
    """Standard normal noise of `step`, float32 (count,) on the CPU: a function of (seed, step) alone.

    Steps 2n and 2n + 1 get opposite signs (antithetic variates), which halves what the noise does to the
    sum of their gradients.
    """
    pair, mirrored = divmod(step, 2)
    generator = torch.Generator().manual_seed((seed * 1_000_003 + pair) & (2**63 - 1))
    drawn = torch.randn(count, generator=generator)
    return -drawn if mirrored else drawn


def threshold(mu_U: Tensor, cost_U: Tensor, sigma: float, removed: float) -> Tensor:
    """The tau at which `removed` parameters are expected to be closed, float64, a scalar without gradient.

    `cost_U`: float64, parameters that each unit frees. Newton's steps within a bracket that bisection
    narrows. `removed` lies strictly between 0 and the sum of the costs; else `ValueError`.
    """
    total = float(cost_U.sum())
    if not 0 < removed < total:
        raise ValueError(f"a budget of {removed:g} of {total:g} parameters has no threshold")
    mu_U = mu_U.detach().double()
    low, high = float(mu_U.min()) - 40 * sigma, float(mu_U.max()) + 40 * sigma
    tau = float((mu_U * cost_U).sum()) / total
    for _ in range(ITERATIONS):
        standard_U = (tau - mu_U) / sigma
        over = float((cost_U * torch.special.ndtr(standard_U)).sum()) - removed
        if abs(over) <= TOLERANCE * total:
            break
        low, high = (low, tau) if over > 0 else (tau, high)
        slope = float((cost_U * torch.exp(-(standard_U**2) / 2)).sum()) / (sigma * _ROOT_TWO_PI)
        tau = tau - over / slope if slope > 0 else low
        if not low < tau < high:
            tau = (low + high) / 2
    return torch.tensor(tau, dtype=torch.float64, device=mu_U.device)


def draw(mu_U: Tensor, cost_U: Tensor, sigma: float, removed: float, eps_U: Tensor) -> Tensor:
    """Training gates z (U,) in float32, each 0 or 1, of which the closed ones are expected to remove
    `removed` parameters.

    The gradient on mu is the straight-through one (Bengio et al. 2013, 1308.3432, section 4): that of z on
    the expected gate, d Phi((mu - tau) / sigma) / d mu. It passes tau by the implicit function theorem, d tau
    / d mu_u = cost_u phi_u / sum of cost phi, so that a step along it stays, to first order, where the budget
    holds: there is no multiplier and no penalty. A budget of 0 leaves every gate at 1, with gradient 0; of
    all parameters, at 0.
    """
    if removed <= 0:
        return torch.ones_like(mu_U) + 0 * mu_U
    if removed >= float(cost_U.sum()):
        return 0 * mu_U
    mu_U = mu_U.float()
    tau = threshold(mu_U, cost_U, sigma, removed)
    with torch.no_grad():
        power_U = -(((tau - mu_U.double()) / sigma) ** 2) / 2
        density_U = (torch.exp(power_U) / (sigma * _ROOT_TWO_PI)).float()
        # In logarithms, because far from the threshold every density would be 0.
        weight_U = torch.softmax(cost_U.log() + power_U, dim=0).float()
        open_U = (mu_U - tau.float() + sigma * eps_U > 0).float()
    moved_U = mu_U - mu_U.detach()
    return open_U + density_U * (moved_U - (weight_U * moved_U).sum())


def ranked(score_U: Tensor, cost_U: Tensor) -> Tensor:
    """Where each unit stands between the least (0) and the greatest (1) score, float64 (U,): the share of the
    parameters in units of lesser scores and half its own. Equal scores keep their order.
    """
    order_U = score_U.double().argsort(stable=True)
    sorted_U = cost_U[order_U]
    found_U = torch.empty_like(sorted_U)
    found_U[order_U] = (sorted_U.cumsum(0) - sorted_U / 2) / sorted_U.sum()
    return found_U
