"""What the gate is told: rules and margins (`Policy`), and what it says: verdicts (`Check`, `Verdict`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from evals.errors import EvalError
from evals.stats.noninferiority import MIN_CLUSTERS

Verdict = Literal["pass", "fail", "not comparable", "not enough data"]
PASS: Verdict = "pass"
FAIL: Verdict = "fail"
NOT_COMPARABLE: Verdict = "not comparable"
NOT_ENOUGH: Verdict = "not enough data"
# The first of these that any check gives is the candidate's.
SEVERITY: tuple[Verdict, ...] = (FAIL, NOT_COMPARABLE, NOT_ENOUGH, PASS)

Kind = Literal["non-inferiority", "superiority"]
TOTAL = "total"
BPC = "bpc_"


@dataclass(frozen=True)
class Rule:
    """A lower bound for (candidate - other) of `metric`: -`margin`, or +`margin` for superiority.

    `metric` is `total`, `bpc_<language>` or the name of a task or of a group of tasks. Bits per character
    count downwards: their rise must stay below the margin. `relative` margins are shares of the other model's
    bits per character.
    """

    metric: str
    margin: float
    relative: bool = False
    kind: Kind = "non-inferiority"

    def __post_init__(self) -> None:
        if self.relative and not self.is_bpc:
            raise EvalError(f"gate rule `{self.metric}`: a relative margin is for bpc_<language> only")

    @property
    def is_bpc(self) -> bool:
        """Whether the rule is about bits per character."""
        return self.metric.startswith(BPC)

    @property
    def threshold(self) -> float:
        """What the lower bound of the difference must exceed."""
        return self.margin if self.kind == "superiority" else -self.margin


@dataclass(frozen=True)
class Slices:
    """A family of tasks or groups, none of which may be shown to be worse than the champion's by `margin`.

    Many are looked at, so their p-values are corrected by Holm: `alpha` is that of the whole family.
    """

    name: str
    metrics: tuple[str, ...]
    margin: float


@dataclass(frozen=True)
class Floor:
    """The lower bound of `metric` itself, `total`, a task or a group, must reach `at_least`, in any case."""

    metric: str
    at_least: float


@dataclass(frozen=True)
class Budget:
    """`measure` of measures.json must be at most `at_most`, in its own unit (ms, bytes, s).

    Times are of prompts of `prompt_tokens`, and of the `quantile` over repeats.
    """

    measure: str
    at_most: float
    prompt_tokens: int | None = None
    quantile: Literal["p50", "p95"] = "p50"


@dataclass(frozen=True)
class Policy:
    """The block `gate` of params.yaml. `seed` is the bootstrap's; `alpha` is one-sided, for every rule.

    `against_anchor` has rules by the name of a fixed model. `groups` are metrics of several tasks by their
    name: the plain mean of the tasks, all of which must be there. None as `licences` or `max_contamination`
    asks for no check; `max_too_short` is the share of a task's items that may be too short for the latter.
    """

    against_champion: tuple[Rule, ...]
    against_parent: tuple[Rule, ...]
    alpha: float = 0.05
    rounds: int = 2000
    min_clusters: int = 30
    max_bytes: int | None = None
    judge_margin: float = 0.05
    winner: Literal["smallest", "best"] = "smallest"
    seed: int = 0
    against_anchor: Mapping[str, tuple[Rule, ...]] = field(default_factory=dict)
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    slices: tuple[Slices, ...] = ()
    floors: tuple[Floor, ...] = ()
    budgets: tuple[Budget, ...] = ()
    licences: tuple[str, ...] | None = None
    max_contamination: float | None = None
    max_too_short: float = 0.5

    @property
    def least_clusters(self) -> int:
        """The stated floor: below so many clusters nothing is decided."""
        return max(self.min_clusters, MIN_CLUSTERS)

    @property
    def confidence(self) -> str:
        """`95 %` for an alpha of 0.05."""
        return f"{100 * (1 - self.alpha):g} %"


@dataclass(frozen=True)
class Check:
    """One rule applied to one candidate. `difference` and `ci_low` count upwards: above zero is better.

    For bits per character they are the fall (relative or absolute, as the rule says); for the judge the
    preference minus one half; for floors and budgets the distance to the limit. `method` is the test, `p` an
    adjusted p-value, `power` what the items can see and `plan` the same in words. None where there was
    nothing to compute.
    """

    rule: str
    against: str | None
    metric: str
    margin: float | None
    verdict: Verdict
    text: str
    difference: float | None = None
    ci_low: float | None = None
    n: int = 0
    clusters: int = 0
    method: str | None = None
    p: float | None = None
    power: dict[str, Any] | None = None
    plan: str | None = None

    def as_json(self) -> dict[str, Any]:
        """The check as an entry of decision.json."""
        return dict(vars(self))


def worst(verdicts: list[Verdict]) -> Verdict:
    """The gravest of `verdicts`. Raises `EvalError` for none: without a check nothing is shown."""
    for verdict in SEVERITY:
        if verdict in verdicts:
            return verdict
    raise EvalError(
        "a candidate without a single check cannot pass; declare rules in params.yaml, block `gate`"
    )
