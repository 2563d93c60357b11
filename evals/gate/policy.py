"""What the gate is told: rules and margins (`Policy`), and what it says: verdicts (`Check`, `Verdict`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from evals.errors import EvalError

Verdict = Literal["pass", "fail", "not comparable", "not enough data"]
PASS: Verdict = "pass"
FAIL: Verdict = "fail"
NOT_COMPARABLE: Verdict = "not comparable"
NOT_ENOUGH: Verdict = "not enough data"
# The first of these that any check gives is the candidate's.
SEVERITY: tuple[Verdict, ...] = (FAIL, NOT_COMPARABLE, NOT_ENOUGH, PASS)

TOTAL = "total"
BPC = "bpc_"


@dataclass(frozen=True)
class Rule:
    """The lower bound of (candidate - other) of `metric` must stay above -`margin`.

    `metric` is `total`, `bpc_<language>` or the name of a task. Bits per character count downwards: their
    rise must stay below the margin. `relative` margins are shares of the other model's bits per character.
    """

    metric: str
    margin: float
    relative: bool = False

    def __post_init__(self) -> None:
        if self.relative and not self.is_bpc:
            raise EvalError(f"gate rule `{self.metric}`: a relative margin is for bpc_<language> only")

    @property
    def is_bpc(self) -> bool:
        """Whether the rule is about bits per character."""
        return self.metric.startswith(BPC)


@dataclass(frozen=True)
class Policy:
    """The block `gate` of params.yaml. `seed` is the bootstrap's; `alpha` is one-sided, for every rule."""

    against_champion: tuple[Rule, ...]
    against_parent: tuple[Rule, ...]
    alpha: float = 0.05
    rounds: int = 2000
    min_clusters: int = 30
    max_bytes: int | None = None
    judge_margin: float = 0.05
    winner: Literal["smallest", "best"] = "smallest"
    seed: int = 0

    @property
    def confidence(self) -> str:
        """`95 %` for an alpha of 0.05."""
        return f"{100 * (1 - self.alpha):g} %"


@dataclass(frozen=True)
class Check:
    """One rule applied to one candidate. `difference` and `ci_low` count upwards: above zero is better.

    For bits per character they are the fall (relative or absolute, as the rule says); for the judge the
    preference minus one half. None where there was nothing to compute.
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
