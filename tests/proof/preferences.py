"""Simulated judges: a planted taste for length leaves the length-controlled win rate alone, and Bradley-Terry
finds planted strengths. Coverage is the share of runs whose 95 % interval holds the truth.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from evals.stats.bradley_terry import bradley_terry
from evals.stats.inputs import Floats
from evals.stats.length_control import length_controlled
from tests.proof.common import piece, write_result

CLAIM = "preferences"
RUNS = 400
PROMPTS = (150, 600)
# Strength of ours at equal lengths and taste for length, in logits.
JUDGES = tuple((theta, phi) for theta in (-0.4, 0.0, 0.5) for phi in (-1.5, 0.0, 1.0, 2.0))
STRENGTHS = (-0.8, -0.3, 0.0, 0.4, 0.7)
GAMES = 12  # about each prompt


def measure() -> None:
    """One piece a simulated judge; symmetry is counted in the same runs."""
    judges = [
        piece(CLAIM, f"length-{theta:g}-{phi:g}-{prompts}", lambda a=(theta, phi, prompts): _judge(*a))
        for theta, phi in JUDGES
        for prompts in PROMPTS
    ]
    strengths = piece(CLAIM, "strengths", _strengths)
    write_result(CLAIM, {"runs": RUNS, "length_control": judges, "bradley_terry": strengths})


def _judge(theta: float, phi: float, prompts: int) -> dict[str, Any]:
    """Verdicts of one judge about a model whose answers are longer by half, `RUNS` times."""
    truth = 1 / (1 + math.exp(-theta))
    raw, controlled, covered, asymmetry = [], [], 0, 0.0
    for seed in range(RUNS):
        rng = np.random.default_rng([seed, prompts])
        ours, theirs = rng.lognormal(6.4, 0.5, prompts), rng.lognormal(6.0, 0.5, prompts)
        longer = ours - theirs
        p = 1 / (1 + np.exp(-theta - phi * np.tanh(longer / math.sqrt((longer**2).mean()))))
        won = (rng.random(prompts) < p).astype(float)
        found = length_controlled(won, ours, theirs, range(prompts), rounds=400, seed=seed)
        other = length_controlled(1 - won, theirs, ours, range(prompts), rounds=2, seed=seed)
        asymmetry = max(asymmetry, abs(found.controlled.mean + other.controlled.mean - 1))
        raw.append(found.raw.mean)
        controlled.append(found.controlled.mean)
        covered += found.controlled.lo <= truth <= found.controlled.hi
    same = length_controlled(np.full(prompts, 0.5), ours, ours, range(prompts), rounds=2)
    return {
        "theta": theta,
        "phi": phi,
        "prompts": prompts,
        "truth": truth,
        "raw_bias": float(np.mean(raw)) - truth,
        "controlled_bias": float(np.mean(controlled)) - truth,
        "monte_carlo_error": float(np.std(controlled)) / math.sqrt(RUNS),
        "coverage": covered / RUNS,
        "greatest_asymmetry": asymmetry,
        "against_itself": same.controlled.mean,
    }


def _strengths() -> list[dict[str, Any]]:
    """Five models, every prompt played by random pairs of them."""
    planted = np.array(STRENGTHS)
    names = [f"model {number}" for number in range(len(planted))]
    rows = []
    for prompts in PROMPTS:
        errors, covered, ordered = [], 0, 0
        for seed in range(RUNS):
            found = {item.name: item.value for item in _play(planted, names, prompts, seed)}
            means = np.array([found[name].mean for name in names])
            errors.append(means - planted)
            covered += sum(
                found[n].lo <= value <= found[n].hi for n, value in zip(names, planted, strict=True)
            )
            ordered += bool((np.diff(means) > 0).all())
        rows.append(
            {
                "prompts": prompts,
                "planted": list(STRENGTHS),
                "bias": [float(value) for value in np.mean(errors, axis=0)],
                "error": float(np.sqrt(np.mean(np.square(errors)))),
                "coverage": float(covered) / (RUNS * len(names)),
                "right_order": ordered / RUNS,
            }
        )
    return rows


def _play(planted: Floats, names: list[str], prompts: int, seed: int) -> Any:
    rng = np.random.default_rng([seed, prompts])
    pairs = np.array([rng.choice(len(names), 2, replace=False) for _ in range(prompts * GAMES)])
    chances = 1 / (1 + np.exp(planted[pairs[:, 1]] - planted[pairs[:, 0]]))
    scores = (rng.random(len(pairs)) < chances).astype(float)
    first, second = ([names[at] for at in column] for column in pairs.T)
    return bradley_terry(first, second, scores, np.repeat(np.arange(prompts), GAMES), rounds=100, seed=seed)
