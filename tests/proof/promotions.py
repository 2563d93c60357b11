"""Synthetic promotions: how often the gate's tests let a model through that is worse by exactly the margin.

A false promotion rate holds when it is at most alpha plus three Monte Carlo errors. Thousands of samples are
tested at once by the functions that `evals.gate` calls; some of each setting go through the gate's own rule,
with tables of items, and must get the same verdict. Bits per character: tests/proof/documents.py.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import pandas as pd

from evals.gate.policy import TOTAL, Policy, Rule
from evals.gate.rules import check
from evals.gate.tables import COLUMNS, STATED, Evaluation
from evals.stats import binary, noninferiority, power, sequential
from evals.stats.inputs import Bools, Floats, normal_quantile
from tests.proof import documents
from tests.proof.common import piece, write_result

CLAIM = "promotions"
ALPHA = 0.05
BLOCK = 500
ROUNDS = 10_000
BOOTSTRAP = 500  # rounds of the bootstrap where the t test does not apply
THROUGH_THE_GATE = 10  # samples of each setting
PROCESSES = "GORN_PROOF_PROCESSES"


@dataclass(frozen=True)
class Setting:
    """What is simulated. `gap` is the true difference; `-margin` is the null hypothesis, 0 an equal model.

    `clusters` of `sizes` (means of 8 items; equal, geometric, or lognormal up to 60), or single `items` where
    `clusters` is None. Binary items differ in a share of `discordance` pairs; graded ones are normal with
    standard deviation .3, or skewed: small gains and rare great losses. `correlation` is that of the latent
    normal variable within a cluster; of skewed ones the share of items that repeat their cluster's value.
    """

    outcome: Literal["binary", "graded", "skewed"]
    clusters: int | None = None
    items: int = 400
    sizes: Literal["equal", "geometric", "lognormal"] = "geometric"
    correlation: float = 0.0
    discordance: float = 0.1
    margin: float = 0.05
    gap: float = -0.05

    @property
    def name(self) -> str:
        """A name for a file."""
        parts = [self.outcome, self.sizes if self.clusters else "single", self.clusters or self.items]
        values = [f"r{self.correlation:g}", f"q{self.discordance:g}", f"m{self.margin:g}", f"g{self.gap:g}"]
        return "-".join(str(part) for part in [*parts, *values])


# Under the null hypothesis, where the claim must hold.
SINGLE = [
    Setting("binary", None, items, discordance=share, margin=margin, gap=-margin)
    for items in (100, 400, 1546)
    for margin in (0.02, 0.05)
    for share in (0.05, 0.1, 0.3)
] + [Setting(outcome, None, items) for outcome in ("graded", "skewed") for items in (50, 400)]
CLUSTERED = [
    Setting(outcome, clusters, sizes=sizes, correlation=correlation, discordance=share)
    for outcome, shares in (("binary", (0.1, 0.3)), ("graded", (0.1,)), ("skewed", (0.1,)))
    for share in shares
    for clusters in (10, 20, 50, 100)
    for sizes in ("equal", "geometric", "lognormal")
    for correlation in (0.0, 0.1)
]
# Losses alone, packed into few clusters: what so few clusters cannot see. Reported, not claimed.
STRESS = [
    Setting("binary", clusters, sizes=sizes, correlation=0.3, discordance=share)
    for share in (0.05, 0.1)
    for clusters in (10, 20, 50, 100)
    for sizes in ("geometric", "lognormal")
]


NULL = ("single", "clustered", "stress", "documents", "documents_stress")
PLANNED_POWER = ((0.05, 0.02), (0.1, 0.02), (0.1, 0.05), (0.3, 0.05))  # discordance, margin
CORRELATIONS = (0.0, 0.1, 0.3)
CONJUNCTIONS = ((2, 0.0, 200), (4, 0.5, 200))  # tests, their correlation, items
FAMILIES = ((5, 200), (20, 200), (20, 1000))  # slices, items of each
OUTCOMES: tuple[Literal["binary", "graded", "games"], ...] = ("binary", "graded", "games")


Job = Callable[[], dict[str, Any]]


def jobs(rounds: int = ROUNDS) -> dict[str, dict[str, Job]]:
    """Every piece by the part of the result that it belongs to and by its name."""
    settings = {"single": SINGLE, "clustered": CLUSTERED, "stress": STRESS}
    null: dict[str, dict[str, Job]] = {
        kind: {setting.name: partial(promotions, setting, rounds) for setting in chosen}
        for kind, chosen in settings.items()
    }
    planned: dict[str, Job] = {
        f"power-{share:g}-{margin:g}": partial(planned_power, share, margin, rounds)
        for share, margin in PLANNED_POWER
    }
    planned |= {
        f"power-clusters-{rho:g}": partial(planned_clusters, rho, 0.05, rounds) for rho in CORRELATIONS
    }
    about_documents = {
        "documents": documents.NULL,
        "documents_stress": documents.STRESS,
        "documents_power": documents.POWER,
    }
    by_documents: dict[str, dict[str, Job]] = {
        part: {setting.name: partial(documents.promotions, setting, rounds) for setting in chosen}
        for part, chosen in about_documents.items()
    }
    return {
        **null,
        **by_documents,
        "power": planned,
        "conjunctions": {
            f"conjunction-{tests}-{rho:g}": partial(conjunction, tests, rho, items, rounds)
            for tests, rho, items in CONJUNCTIONS
        },
        "families": {
            f"family-{slices}-{items}": partial(false_alarms, slices, items, rounds)
            for slices, items in FAMILIES
        },
        "sequential": {
            f"sequential-{outcome}": partial(stopped_early, outcome, 1000, rounds) for outcome in OUTCOMES
        },
    }


def measure() -> None:
    """Every setting at 10,000 promotions, each a piece; ten minutes of one core.

    GORN_PROOF_PROCESSES says how many processes share them.
    """
    parts = jobs()
    with ProcessPoolExecutor(int(os.environ.get(PROCESSES, "1"))) as pool:
        waiting = {
            part: [pool.submit(piece, CLAIM, name, job) for name, job in chosen.items()]
            for part, chosen in parts.items()
        }
        found: dict[str, Any] = {
            part: [future.result() for future in futures] for part, futures in waiting.items()
        }
    null = {kind: found.pop(kind) for kind in NULL}
    write_result(CLAIM, {"alpha": ALPHA, "null": null, **found})


def promotions(setting: Setting, rounds: int = ROUNDS, seed: int = 0) -> dict[str, Any]:
    """The share of `rounds` synthetic candidates that are shown to be not worse by the margin.

    `otherwise` counts those of `through_the_gate` samples to which the gate's own rule gave another verdict.
    """
    generator, passed, done = np.random.default_rng(seed), 0, 0
    sent = differ = 0
    while done < rounds:
        count = min(BLOCK, rounds - done)
        passed_S, samples = _passes(setting, generator, count)
        passed += int(passed_S.sum())
        if done == 0:
            differ = sum(
                _at_the_gate(*sample, setting.margin) != bool(verdict)
                for sample, verdict in zip(samples, passed_S, strict=False)
            )
            sent = len(samples)
        done += count
    rate = passed / rounds
    limit = ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / rounds)
    about = {"rounds": rounds, "promoted": rate, "limit": limit}
    return {"name": setting.name, **asdict(setting), **about, "through_the_gate": sent, "otherwise": differ}


def _at_the_gate(values: Floats, clusters: Any, margin: float) -> bool:
    """Whether the rule of the gate passes a candidate that differs from the champion by `values` (N,)."""
    candidate, champion = np.maximum(values, 0), np.maximum(-values, 0)
    ours, theirs = (
        _evaluation(name, part, clusters) for name, part in (("one", candidate), ("two", champion))
    )
    policy = Policy((), (), ALPHA, BOOTSTRAP, noninferiority.MIN_CLUSTERS)
    return check(ours, theirs, "champion", Rule(TOTAL, margin), policy).verdict == "pass"


def _evaluation(name: str, values: Floats, clusters: Any) -> Evaluation:
    rows = [
        ("task", f"item{index:06}", "prompt", f"cluster{cluster:06}", "acc", value)
        for index, (value, cluster) in enumerate(zip(values, clusters, strict=True))
    ]
    items = pd.DataFrame(rows, columns=list(COLUMNS))
    return Evaluation(name, name, dict.fromkeys(STATED, "equal"), items)


Samples = list[tuple[Floats, Any]]


def _passes(setting: Setting, generator: np.random.Generator, count: int) -> tuple[Bools, Samples]:
    """Which of `count` samples pass; the first of them as values and clusters."""
    if setting.clusters is None and setting.outcome == "binary":
        return _single_passes(setting, generator, count)
    size_SK = _sizes(setting, generator, count)
    value_SKM = _values(setting, generator, (*size_SK.shape, int(size_SK.max())))
    there_SKM = np.arange(value_SKM.shape[2]) < size_SK[..., None]
    value_SKM = np.where(there_SKM, value_SKM, 0.0)
    total_S1 = size_SK.sum(1, keepdims=True)
    bound_S, _ = noninferiority.lower_bounds(value_SKM.sum(2) / total_S1, size_SK / total_S1, alpha=ALPHA)
    passed_S = bound_S > -setting.margin

    def sample(row: int) -> tuple[Floats, Any]:
        there_KM, names_K1 = there_SKM[row], np.arange(size_SK.shape[1])[:, None]
        return value_SKM[row][there_KM].clip(-1, 1), np.broadcast_to(names_K1, there_KM.shape)[there_KM]

    for row in np.flatnonzero(~np.isfinite(bound_S)):
        # Where the t test does not apply, the whole comparison runs, with its bootstrap.
        values, clusters = sample(int(row))
        zeros = np.zeros(len(values))
        compared = noninferiority.compare(values, zeros, clusters, alpha=ALPHA, rounds=BOOTSTRAP)
        passed_S[row] = compared.not_worse(setting.margin)
    return passed_S, [sample(row) for row in range(min(THROUGH_THE_GATE, count))]


def _single_passes(setting: Setting, generator: np.random.Generator, count: int) -> tuple[Bools, Samples]:
    gained, lost = (setting.discordance + setting.gap) / 2, (setting.discordance - setting.gap) / 2
    drawn_S3 = generator.multinomial(setting.items, [1 - gained - lost, gained, lost], count)
    tables, back = np.unique(drawn_S3, axis=0, return_inverse=True)
    found = [
        binary.lower_bound(binary.PairedCounts(int(rest), int(won), int(lost_), 0), ALPHA) > -setting.margin
        for rest, won, lost_ in tables
    ]
    samples = [
        (np.repeat([0.0, 1.0, -1.0], row), np.arange(setting.items)) for row in drawn_S3[:THROUGH_THE_GATE]
    ]
    return np.asarray(found)[back.ravel()], samples


def false_alarms(slices: int, items: int, rounds: int = ROUNDS, seed: int = 0) -> dict[str, Any]:
    """How often Holm's correction holds back a model that is equal in every one of `slices` slices.

    Where all are equal, Holm rejects something exactly when the least p-value is at most alpha / slices. The
    right/wrong items differ in a tenth of the pairs, and the margin is none.
    """
    generator = np.random.default_rng(seed)
    drawn = generator.multinomial(items, [0.9, 0.05, 0.05], (rounds, slices))
    tables, back = np.unique(drawn.reshape(-1, 3), axis=0, return_inverse=True)
    worse = [
        binary.lower_bound(binary.PairedCounts(int(rest), int(lost), int(won), 0), ALPHA / slices) > 0
        for rest, won, lost in tables
    ]
    held = np.asarray(worse)[back.ravel()].reshape(rounds, slices).any(1)
    limit = ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / rounds)
    return {"slices": slices, "items": items, "rounds": rounds, "held": float(held.mean()), "limit": limit}


def _sizes(setting: Setting, generator: np.random.Generator, count: int) -> Floats:
    if setting.clusters is None:
        return np.ones((count, setting.items))
    shape = (count, setting.clusters)
    if setting.sizes == "equal":
        return np.full(shape, 8.0)
    if setting.sizes == "geometric":
        return generator.geometric(1 / 8, shape).clip(1, 40).astype(np.float64)
    return np.ceil(generator.lognormal(1.5, 1.0, shape)).clip(1, 60)


def _values(setting: Setting, generator: np.random.Generator, shape: tuple[int, int, int]) -> Floats:
    """Differences (S, K, M) whose mean is `gap`."""
    own_SK1 = (*shape[:2], 1)
    rho = setting.correlation
    if setting.outcome == "skewed":
        repeated = generator.random(shape) < rho
        losses = np.where(repeated, generator.beta(0.5, 4.5, own_SK1), generator.beta(0.5, 4.5, shape))
        return np.asarray(setting.gap + 0.1 - losses)
    z_SKM = math.sqrt(rho) * generator.standard_normal(own_SK1)
    z_SKM = z_SKM + math.sqrt(1 - rho) * generator.standard_normal(shape)
    if setting.outcome == "graded":
        return np.asarray(setting.gap + 0.3 * z_SKM.clip(-3, 3))
    gained, lost = (setting.discordance + setting.gap) / 2, (setting.discordance - setting.gap) / 2
    low = normal_quantile(lost)
    high = normal_quantile(1 - gained) if gained > 0 else math.inf
    return np.where(z_SKM < low, -1.0, np.where(z_SKM > high, 1.0, 0.0))


def planned_power(discordance: float, margin: float, rounds: int = ROUNDS, seed: int = 0) -> dict[str, Any]:
    """Planned items for a power of .8, and the power that the test of unclustered binary items then has."""
    items = power.required_items(margin, power.discordant_sd(discordance))
    setting = Setting("binary", None, items, discordance=discordance, margin=margin, gap=0.0)
    return {**promotions(setting, rounds, seed), "planned": 0.8}


def planned_clusters(
    correlation: float, margin: float = 0.05, rounds: int = ROUNDS, seed: int = 0
) -> dict[str, Any]:
    """Planned clusters of 8 graded items for a power of .8, and the power that the cluster test then has."""
    clusters = power.required_clusters(8, margin, 0.3, correlation)
    setting = Setting("graded", clusters, sizes="equal", correlation=correlation, margin=margin, gap=0.0)
    return {**promotions(setting, rounds, seed), "planned": 0.8}


def conjunction(
    tests: int, correlation: float, items: int, rounds: int = ROUNDS, seed: int = 0
) -> dict[str, Any]:
    """Power of `tests` graded tests that must all pass, equally correlated: planned, bounds, and found."""
    generator = np.random.default_rng(seed)
    margin, sd = 0.05, 0.3
    single = power.clustered_power(items, 1, margin, sd, 0.0)
    matrix = np.full((tests, tests), correlation) + (1 - correlation) * np.eye(tests)
    root = np.linalg.cholesky(matrix)
    weights_SK, passed, done = np.full((BLOCK, items), 1 / items), 0, 0
    while done < rounds:
        value_TSK = np.einsum("tu,usk->tsk", root, generator.standard_normal((tests, BLOCK, items))) * sd
        bounds = [noninferiority.lower_bounds(part.clip(-1, 1) / items, weights_SK)[0] for part in value_TSK]
        passed += int((np.stack(bounds) > -margin).all(0)[: rounds - done].sum())
        done += BLOCK
    low, high = power.conjunction_bounds([single] * tests)
    planned, _ = power.conjunction_power([single] * tests, matrix.tolist())
    return {
        "tests": tests,
        "correlation": correlation,
        "items": items,
        "rounds": rounds,
        "single": single,
        "bounds": [low, high],
        "planned": planned,
        "found": passed / rounds,
    }


def stopped_early(
    outcome: Literal["binary", "graded", "games"], looks: int = 1000, rounds: int = ROUNDS, seed: int = 0
) -> dict[str, Any]:
    """How often a sequential test, looked at after every item, is ever wrong under its null hypothesis."""
    generator, wrong, done, margin = np.random.default_rng(seed), 0, 0, 0.1
    limit = math.log(1 / ALPHA)
    while done < rounds:
        count = min(200, rounds - done)
        if outcome == "games":
            won = (generator.random((count, looks)) < 0.5).cumsum(1)
            games = np.arange(1, looks + 1)
            peak = np.array([sequential.even_games(row, games - row).max() for row in won])
        else:
            setting = Setting(outcome, 1, discordance=0.4, margin=margin, gap=-margin)
            value_ST = _values(setting, generator, (count, looks, 1))[..., 0].clip(-1, 1)
            peak = sequential.noninferiority_wealth(value_ST, margin).max(1)
        wrong += int((peak >= limit).sum())
        done += count
    return {
        "outcome": outcome,
        "looks": looks,
        "rounds": rounds,
        "wrong": wrong / rounds,
        "limit": ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / rounds),
    }
