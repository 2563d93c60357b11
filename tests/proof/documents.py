"""Synthetic promotions by bits per character: documents of very unequal size, real and drawn.

Real documents are those of the claims `budgets` (the embedded world) and `classics`, resampled whole, with
the candidate's bits scaled so that the rise of all of them is the one that is simulated.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
import pandas as pd

from evals.gate.policy import PASS, Policy, Rule
from evals.gate.rules import compare, verdict_of
from evals.gate.tables import COLUMNS, STATED, Evaluation
from evals.stats import noninferiority
from evals.stats.inputs import Bools, Floats
from tests.proof.common import SCRATCH

ALPHA = 0.05
BLOCK = 500
ROUNDS = 10_000
BOOTSTRAP = 500
THROUGH_THE_GATE = 10
METRIC = "bpc_ru"
# What `classics`, `budgets` leave behind, relative to .gorn/proof.
WORKSPACES = {"world": "budgets/clone", "classics": "classics/run"}
Rise = Literal["normal", "exponential", "rare", "rare among noise", "by size"]


@dataclass(frozen=True)
class Real:
    """`documents` of one language, drawn from those of a run. `rise` is the true one of `candidate`."""

    run: Literal["world", "classics"]
    candidate: str
    other: str
    language: str
    documents: int
    margin: float = 0.03
    rise: float = 0.03

    @property
    def name(self) -> str:
        """A name for a file."""
        parts = ["documents", self.run, self.candidate, self.other, self.language, self.documents]
        return "-".join(map(str, [*parts, f"m{self.margin:g}", f"r{self.rise:g}"]))

    def draw(self, generator: np.random.Generator, count: int) -> tuple[Floats, Floats]:
        """Bits of candidate and other, each (S, K)."""
        ours_N, theirs_N = _bits(self.run, self.candidate, self.other, self.language)
        scale = (1 + self.rise) * theirs_N.sum() / ours_N.sum()
        rows_SK = generator.integers(0, len(ours_N), (count, self.documents))
        return scale * ours_N[rows_SK], theirs_N[rows_SK]


@dataclass(frozen=True)
class Drawn:
    """`documents` of lognormal size (`spread` of the logarithm), or Pareto's where `tail` is given.

    Rises per document: normal (sd .06); exponential (mean .1, less .1); rare, .6 in 1 of 20 documents, alone
    or among normal ones (sd .03); growing with the logarithm of the size (.03 a unit).
    """

    kind: Rise
    spread: float
    documents: int
    tail: float | None = None
    margin: float = 0.03
    rise: float = 0.03

    @property
    def name(self) -> str:
        """A name for a file."""
        sizes = f"s{self.spread:g}" if self.tail is None else f"p{self.tail:g}"
        parts = ["documents", self.kind.replace(" ", "-"), sizes, self.documents]
        return "-".join(map(str, [*parts, f"m{self.margin:g}", f"r{self.rise:g}"]))

    def draw(self, generator: np.random.Generator, count: int) -> tuple[Floats, Floats]:
        """Bits of candidate and other, each (S, K)."""
        shape = (count, self.documents)
        if self.tail is None:
            size = generator.lognormal(0.0, self.spread, shape)
        else:
            size = 1 + generator.pareto(self.tail, shape)
        noise = generator.standard_normal(shape)
        rare = np.where(generator.random(shape) < 0.05, 0.6, 0.0) - 0.03
        # The mean of log(size) of a random character: spread^2, or of Pareto's 1 / (tail - 1).
        middle = self.spread**2 if self.tail is None else 1 / (self.tail - 1)
        match self.kind:
            case "normal":
                rise = 0.06 * noise
            case "exponential":
                rise = 0.1 * (generator.exponential(1.0, shape) - 1)
            case "rare":
                rise = rare
            case "rare among noise":
                rise = rare + 0.03 * noise
            case "by size":
                rise = 0.03 * (np.log(size) - middle) + 0.03 * noise
        return size * (1 + self.rise + rise), size


Setting = Real | Drawn
_WORLD = [
    (candidate, language, margin, documents)
    for candidate in ("adapt-bf16", "adapt-ternary", "distill-higgs-4bit")
    for language, margin, there in (("ru", 0.03, 284), ("en", 0.05, 163))
    for documents in (50, 100, there)
]
_CLASSICS = [
    Real("classics", candidate, other, "ru", documents)
    for candidate, other in (
        ("adapt-bf16", "champion"),
        ("adapt-ternary", "champion"),
        ("distill-higgs-4bit", "champion"),
        ("distill-higgs-4bit", "adapt-bf16"),
    )
    for documents in (50, 100, 321)
]
_KINDS: tuple[Rise, ...] = ("normal", "exponential", "rare", "rare among noise", "by size")
# Under the null hypothesis, where the claim must hold; fewer than 50 documents decide nothing.
NULL: list[Setting] = [
    *(Real("world", who, "champion", lang, k, margin, margin) for who, lang, margin, k in _WORLD),
    *_CLASSICS,
    *(Drawn(kind, spread, k) for kind in _KINDS for spread in (0.0, 0.8, 1.3, 2.0) for k in (50, 100, 300)),
    Real("world", "adapt-ternary", "champion", "ru", 30),
    Real("classics", "adapt-ternary", "champion", "ru", 30),
]
# Sizes without a variance, and a rise that grows with them: no sample shows it. Reported, not claimed.
STRESS: list[Setting] = [Drawn("by size", 0.0, k, tail=1.5) for k in (50, 100, 300)]
# Equal models, with the spread of these.
POWER: list[Setting] = [
    *(Real("world", who, "champion", lang, k, margin, 0.0) for who, lang, margin, k in _WORLD),
    *(Drawn("normal", spread, k, rise=0.0) for spread in (0.0, 0.8) for k in (100, 300)),
]


def promotions(setting: Setting, rounds: int = ROUNDS, seed: int = 0) -> dict[str, Any]:
    """The share of `rounds` synthetic candidates whose rise is shown to be below the margin.

    `undecided`: the share of samples that the test calls too few to tell. `otherwise` counts those of
    `through_the_gate` samples to which the gate's own rule gave another verdict.
    """
    generator = np.random.default_rng(seed)
    passed = undecided = otherwise = 0
    for done in range(0, rounds, BLOCK):
        ours_SK, theirs_SK = setting.draw(generator, min(BLOCK, rounds - done))
        passed_S, known_S = _passes(ours_SK, theirs_SK, setting.margin)
        passed, undecided = passed + int(passed_S.sum()), undecided + int((~known_S).sum())
        if done == 0:
            first = zip(ours_SK, theirs_SK, passed_S[:THROUGH_THE_GATE], strict=False)
            otherwise = sum(
                _at_the_gate(ours_K, theirs_K, setting.margin) != bool(said)
                for ours_K, theirs_K, said in first
            )
    limit = ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / rounds)
    about = {"rounds": rounds, "promoted": passed / rounds, "undecided": undecided / rounds, "limit": limit}
    through = {"through_the_gate": min(THROUGH_THE_GATE, rounds), "otherwise": otherwise}
    return {"name": setting.name, **asdict(setting), **about, **through}


def _passes(ours_SK: Floats, theirs_SK: Floats, margin: float) -> tuple[Bools, Bools]:
    """Which samples pass, and which are decided at all: `compare_ratios` of many samples at once."""
    total_S1 = theirs_SK.sum(1, keepdims=True)
    value_SK, weight_SK = (theirs_SK - ours_SK) / total_S1, theirs_SK / total_S1
    count, documents = value_SK.shape
    if documents < noninferiority.MIN_DOCUMENTS:
        return np.zeros(count, dtype=bool), np.zeros(count, dtype=bool)
    bound_S, _ = noninferiority.ratio_bounds(value_SK, weight_SK, alpha=ALPHA)
    known_S = np.isfinite(bound_S)
    draws_RK, extra_R1 = _weights(documents)
    size_S = (weight_SK**2).sum(1)
    drawn_RS = (draws_RK @ value_SK.T - extra_R1 * size_S) / (draws_RK @ weight_SK.T + extra_R1 * size_S)
    return known_S & (np.minimum(bound_S, np.quantile(drawn_RS, ALPHA, axis=0)) > -margin), known_S


@cache
def _weights(documents: int) -> tuple[Floats, Floats]:
    """The draws of `intervals` for the seed of the gate's policy: documents (R, K), imaginary one (R, 1)."""
    generator = np.random.default_rng(0)
    return generator.standard_exponential((BOOTSTRAP, documents)), generator.standard_exponential(
        (BOOTSTRAP, 1)
    )


def _at_the_gate(ours_K: Floats, theirs_K: Floats, margin: float) -> bool:
    """Whether the rule of the gate passes a candidate with these bits."""
    policy = Policy((), (), ALPHA, BOOTSTRAP, noninferiority.MIN_CLUSTERS)
    found, _, _ = compare(
        _evaluation("one", ours_K, theirs_K),
        _evaluation("two", theirs_K, theirs_K),
        Rule(METRIC, margin, relative=True),
        policy,
    )
    return verdict_of(found, margin, policy.min_clusters) == PASS


def _evaluation(name: str, bits_K: Floats, chars_K: Floats) -> Evaluation:
    rows = [
        (METRIC, f"item{index:06}", "prompt", f"cluster{index:06}", metric, value)
        for index, pair in enumerate(zip(bits_K, chars_K, strict=True))
        for metric, value in zip(("bits", "chars"), pair, strict=True)
    ]
    items = pd.DataFrame(rows, columns=list(COLUMNS))
    return Evaluation(name, name, dict.fromkeys(STATED, "equal"), items)


@cache
def _bits(run: str, candidate: str, other: str, language: str) -> tuple[Floats, Floats]:
    """Bits of the held-out documents of a run, candidate's and other's, each (N,)."""
    folder = SCRATCH / WORKSPACES[run] / "out" / "evaluate"
    if not folder.is_dir():
        claim = WORKSPACES[run].partition("/")[0]
        raise SystemExit(f"promotions: {folder} is absent; run `make proof CLAIM={claim}` first")
    found = []
    for name in (candidate, other):
        items = pd.read_parquet(folder / name / "items.parquet")
        rows = items[(items["task"] == f"bpc_{language}") & (items["metric"] == "bits")]
        found.append(rows.set_index("doc_hash")["value"].sort_index())
    if not found[0].index.equals(found[1].index):
        raise SystemExit(f"promotions: {candidate} and {other} in {folder} read different documents")
    return found[0].to_numpy(dtype=np.float64), found[1].to_numpy(dtype=np.float64)
