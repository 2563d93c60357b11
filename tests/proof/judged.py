"""The gate's decision by an erring judge when the true rate lies at the margin: how often it passes.

The judge leans to one side or not, answers are equal in a part of the pairs, people or the generator call
some pairs ties, labelled pairs come alone or five to a cluster that errs together, and judging stops early or
not.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tests.proof.common import piece, write_result

CLAIM = "judged"
ROUNDS, SEQUENTIAL_ROUNDS = 5_000, 300
ALPHA, MARGIN, PAIRS = 0.05, 0.05, 240


@dataclass(frozen=True)
class Setting:
    """`equal`: share of pairs with equal answers. `better`, `worse`, `tied`: the judge's mean preference on
    asked pairs whose first answer is better, worse, and as good, which a share `ties` of them is. `labels`:
    labelled pairs, in clusters of `size` that err together; `people`: they are among the judged pairs.
    """

    equal: float
    better: float
    worse: float
    ties: float = 0.0
    tied: float = 0.5
    labels: int = 200
    size: int = 1
    people: bool = False
    sequential: bool = False


JUDGES = ((0.85, 0.15), (0.7, 0.1), (0.9, 0.4))
SETTINGS = [
    *(Setting(equal, *judge) for equal in (0.0, 0.5, 0.8) for judge in JUDGES),
    *(Setting(equal, *judge, labels=60, people=True) for equal in (0.0, 0.5) for judge in JUDGES),
    *(Setting(0.0, 0.8, 0.2, ties=0.5, tied=tied) for tied in (0.5, 0.6, 0.4)),
    Setting(0.0, 0.75, 0.15, ties=0.5, tied=0.5),
    *(Setting(0.0, *judge, labels=120, size=5) for judge in JUDGES),
    *(Setting(0.5, *judge, labels=60) for judge in JUDGES),
    *(Setting(equal, *judge, sequential=True) for equal in (0.0, 0.5) for judge in JUDGES),
]


def measure() -> None:
    """Every setting, its share of wrong passes beside the limit."""
    found = []
    for number, setting in enumerate(SETTINGS):
        rounds = SEQUENTIAL_ROUNDS if setting.sequential else ROUNDS
        result = piece(
            CLAIM, f"{number}-{rounds}", lambda setting=setting, rounds=rounds: _passes(setting, rounds)
        )
        # One-sided 99.9 % of a binomial share at alpha.
        limit = ALPHA + 3.09 * (ALPHA * (1 - ALPHA) / rounds) ** 0.5
        found.append({**asdict(setting), **result, "limit": limit, "within": result["passed"] <= limit})
    write_result(CLAIM, {"alpha": ALPHA, "margin": MARGIN, "pairs": PAIRS, "settings": found})


def _passes(setting: Setting, rounds: int) -> dict[str, Any]:
    from evals.errors import EvalError
    from evals.judge import winrate

    passed = refused = 0
    means = []
    for seed in range(rounds):
        try:
            rate = winrate.rate(_evidence(np.random.default_rng(seed), setting), ALPHA)
        except EvalError:
            refused += 1
            continue
        passed += rate.lower > 0.5 - MARGIN
        means.append(rate.mean)
    return {"rounds": rounds, "passed": passed / rounds, "refused": refused, "mean": float(np.mean(means))}


def _evidence(rng: np.random.Generator, setting: Setting) -> Any:
    """One judged sample whose expected rate is one half minus the margin."""
    from evals.judge.winrate import Evidence
    from evals.stats.correction import Known

    wins = 0.5 - MARGIN / (1 - setting.equal) - setting.ties / 2

    def draw(count: int) -> tuple[Any, Any]:
        truth = rng.choice([1.0, 0.5, 0.0], size=count, p=[wins, setting.ties, 1 - wins - setting.ties])
        chance = np.select([truth == 1, truth == 0], [setting.better, setting.worse], setting.tied)
        return truth, chance

    truth_N, chance_N = draw(PAIRS)
    asked_N = rng.random(PAIRS) >= setting.equal
    said_N = np.where(asked_N, rng.random(PAIRS) < chance_N, 0.5)
    labels: list[float | None] = [None] * PAIRS
    known = []
    if setting.people:
        for place in np.flatnonzero(asked_N)[: setting.labels]:
            labels[place] = float(truth_N[place])
    else:
        clusters = setting.labels // setting.size
        truth_C = rng.permutation(np.arange(clusters) % 2).astype(float)
        if setting.ties:
            truth_C = draw(clusters)[0]
        chance_C = np.select([truth_C == 1, truth_C == 0], [setting.better, setting.worse], setting.tied)
        said_C = rng.random(clusters) < chance_C
        known = [
            Known(float(said), float(truth), f"known {cluster}")
            for cluster, (said, truth) in enumerate(zip(said_C, truth_C, strict=True))
            for _ in range(setting.size)
        ]
    names = [str(place) for place in range(PAIRS)]
    return Evidence(list(said_N), names, list(asked_N), labels, known, setting.sequential)
