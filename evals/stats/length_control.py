"""Length-controlled win rate of two models (Dubois et al. 2024, 2404.04475, equations 1 and 2, two models).

    logit P(ours wins | prompt) = theta + phi tanh(dlen / sd(dlen)),   LC = sigmoid(theta)

dlen is our length minus theirs, in characters (tokens of one tokenizer would favour it), sd its root mean
square about zero. Prompt difficulties are left out: with two models they cannot be told from theta. Both
length terms change sign when the models are exchanged, so that LC(a, b) = 1 - LC(b, a) and LC(a, a) = 1/2.

The fit is the maximum of the likelihood of soft labels with a weak ridge on phi alone, which keeps it finite
when length and verdict separate completely; theta carries one win and one loss of weight 1/2 (Jeffreys'
prior).

It controls what a judge does BECAUSE of length as a smooth function of the difference, on prompts whose
lengths overlap. It cannot tell a bias from better answers that are longer for a reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from evals.stats import inputs
from evals.stats.inputs import Floats
from evals.stats.intervals import Interval

RIDGE = 0.01
STEPS = 50


@dataclass(frozen=True)
class LengthControl:
    """`raw` and `controlled` win rates and `phi`, the taste for length (logits), with intervals."""

    raw: Interval
    controlled: Interval
    phi: Interval


def length_controlled(
    preferences: ArrayLike,
    ours: ArrayLike,
    theirs: ArrayLike,
    clusters: Sequence[Any],
    level: float = 0.95,
    rounds: int = 1000,
    seed: int = 0,
) -> LengthControl:
    """Win rate of ours at equal lengths, from preferences (N,) in [0, 1], both orders averaged, and lengths.

    The interval is the Bayesian bootstrap over clusters (prompts), one exponential weight each. Raises
    `EvalError` for values that are not finite or unequal lengths; lengths must be zero or more.
    """
    preference_N = inputs.between("preferences", preferences, 0, 1)
    ours_N, theirs_N = (
        inputs.between(f"lengths of {name}", lengths, 0, np.inf)
        for name, lengths in (("ours", ours), ("theirs", theirs))
    )
    inputs.aligned(preferences=preference_N, ours=ours_N, theirs=theirs_N, clusters=clusters)
    longer_N = ours_N - theirs_N
    names, row_N = inputs.grouped(clusters)
    weights_RK = np.random.default_rng(seed).standard_exponential((rounds, len(names)))
    # The prior has the weight of one observation; mean weights of one keep it so in every round.
    weights_RK /= weights_RK.mean(1, keepdims=True)
    weights_RN = np.concatenate([np.ones((1, len(row_N))), weights_RK[:, row_N]])
    theta_R, phi_R = _fit(preference_N, longer_N, weights_RN)
    raw_R = (weights_RN * preference_N).sum(1) / weights_RN.sum(1)
    sizes = (len(row_N), len(names))
    return LengthControl(
        _interval(raw_R, level, sizes),
        _interval(1 / (1 + np.exp(-theta_R)), level, sizes),
        _interval(phi_R, level, sizes),
    )


def _fit(preference_N: Floats, longer_N: Floats, weights_RN: Floats) -> tuple[Floats, Floats]:
    """Newton's method for R weighted logistic regressions on (1, tanh) at once: theta (R,), phi (R,)."""
    square_R = (weights_RN * longer_N**2).sum(1) / weights_RN.sum(1)
    scale_R1 = np.where(square_R > 0, np.sqrt(square_R), 1.0)[:, None]
    x_RN = np.tanh(longer_N / scale_R1)
    theta_R, phi_R = np.zeros(len(weights_RN)), np.zeros(len(weights_RN))
    for _ in range(STEPS):
        p_RN = 1 / (1 + np.exp(-(theta_R[:, None] + phi_R[:, None] * x_RN)))
        prior_R = 1 / (1 + np.exp(-theta_R))
        error_RN, curve_RN = weights_RN * (preference_N - p_RN), weights_RN * p_RN * (1 - p_RN)
        slope_theta_R = error_RN.sum(1) + 0.5 - prior_R
        slope_phi_R = (error_RN * x_RN).sum(1) - RIDGE * phi_R
        a_R = curve_RN.sum(1) + prior_R * (1 - prior_R)
        b_R = (curve_RN * x_RN).sum(1)
        c_R = (curve_RN * x_RN**2).sum(1) + RIDGE
        determinant_R = np.maximum(a_R * c_R - b_R**2, 1e-12)
        step_theta_R = (c_R * slope_theta_R - b_R * slope_phi_R) / determinant_R
        step_phi_R = (a_R * slope_phi_R - b_R * slope_theta_R) / determinant_R
        # Far from the maximum a full step overshoots.
        theta_R, phi_R = theta_R + np.clip(step_theta_R, -2, 2), phi_R + np.clip(step_phi_R, -2, 2)
        if max(np.abs(step_theta_R).max(), np.abs(step_phi_R).max()) < 1e-10:
            break
    return theta_R, phi_R


def _interval(draws_R: Floats, level: float, sizes: tuple[int, int]) -> Interval:
    """The first draw is the estimate, the others are the bootstrap's."""
    tail = (1 - inputs.share("level", level)) / 2
    low, high = np.quantile(draws_R[1:], [tail, 1 - tail])
    return Interval(float(draws_R[0]), float(low), float(high), *sizes)
