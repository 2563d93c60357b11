"""Block `gate`: what a candidate must hold to ship."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from stages.common.params.block import Block

TIMES = ("ttft_ms", "latency_ms")
# What stands in out/ whatever the candidates are.
Anchor = Literal["base", "pretrain"]


class Rule(Block):
    """One paired comparison: the one-sided lower bound of the difference must stay above -margin.

    For superiority above +margin.
    """

    metric: str
    margin: float = Field(ge=0)
    relative: bool = False
    kind: Literal["non-inferiority", "superiority"] = "non-inferiority"

    @model_validator(mode="after")
    def _relative_bits(self) -> Rule:
        if self.relative and not self.metric.startswith("bpc_"):
            raise ValueError(f"rule `{self.metric}`: a relative margin is built for bpc_<language> only")
        return self


class SlicesRule(Block):
    """Tasks or groups of which none may be shown to be worse by more than the margin, corrected by Holm."""

    name: str = Field(min_length=1)
    metrics: list[str] = Field(min_length=1)
    margin: float = Field(ge=0, lt=1)

    @model_validator(mode="after")
    def _once(self) -> SlicesRule:
        if len(set(self.metrics)) < len(self.metrics):
            raise ValueError(f"slices `{self.name}` name a task twice")
        return self


class FloorRule(Block):
    """A score of its own that the lower bound must reach."""

    metric: str
    at_least: float = Field(gt=0, lt=1)


class BudgetRule(Block):
    """A time or an amount of memory that must not be exceeded."""

    measure: Literal["ttft_ms", "latency_ms", "load_s", "peak_rss_bytes", "peak_device_bytes"]
    at_most: PositiveFloat
    prompt_tokens: PositiveInt | None = None
    quantile: Literal["p50", "p95"] | None = None

    @model_validator(mode="after")
    def _of_a_prompt(self) -> BudgetRule:
        if (self.measure in TIMES) != (self.prompt_tokens is not None):
            needs = "needs" if self.measure in TIMES else "takes no"
            raise ValueError(f"budget `{self.measure}` {needs} `prompt_tokens`")
        if self.quantile is not None and self.measure not in TIMES:
            raise ValueError(f"budget `{self.measure}` takes no `quantile`; only times over repeats have one")
        return self


class GateBlock(Block):
    """Every rule that is declared must hold."""

    alpha: float = Field(gt=0, lt=0.5)
    bootstrap_rounds: int = Field(ge=200)
    min_clusters: int = Field(ge=5)
    against_champion: list[Rule] = Field(min_length=1)
    against_parent: list[Rule] = Field(min_length=1)
    against_anchor: dict[Anchor, Annotated[list[Rule], Field(min_length=1)]]
    groups: dict[str, Annotated[list[str], Field(min_length=1)]] = Field(default_factory=dict)
    slices: list[SlicesRule] = Field(default_factory=list)
    floors: list[FloorRule] = Field(default_factory=list)
    judge_margin: float = Field(default=0.05, ge=0, le=0.5)
    max_bytes: PositiveInt | None = None
    budgets: list[BudgetRule] = Field(default_factory=list)
    licences: list[str] | None = Field(default=None, min_length=1)
    max_contamination: float | None = Field(default=None, ge=0, lt=1)
    max_too_short: float = Field(default=0.5, ge=0, le=1)
    winner: Literal["smallest", "best"]

    @model_validator(mode="after")
    def _shares_only(self) -> GateBlock:
        """Slices and floors are about shares: bits per character have neither a worst value nor a best."""
        for metric in (*(item for rule in self.slices for item in rule.metrics), *self._floored()):
            if metric.startswith("bpc_"):
                raise ValueError(
                    f"`{metric}` is for against_champion and its like; slices and floors are not"
                )
        return self

    @model_validator(mode="after")
    def _groups_of_tasks(self) -> GateBlock:
        """A group is named by a rule, like a task, and made of tasks, each of them once."""
        for name, tasks in self.groups.items():
            if name == "total" or name.startswith("bpc_"):
                raise ValueError(f"group `{name}` has the name of a metric; call it otherwise")
            if len(set(tasks)) < len(tasks):
                raise ValueError(f"group `{name}` names a task twice")
            for task in tasks:
                if task in self.groups or task == "total" or task.startswith("bpc_"):
                    raise ValueError(f"group `{name}` names `{task}`; groups are made of tasks")
            if name not in self._named():
                raise ValueError(f"group `{name}` is named by no rule of `gate`; name it or take it away")
        return self

    @model_validator(mode="after")
    def _enough_rounds(self) -> GateBlock:
        """The bootstrap's least p-value, corrected for all slices of a family, can still reach alpha."""
        for family in self.slices:
            least = math.ceil(round(len(family.metrics) / self.alpha, 6))
            if self.bootstrap_rounds < least:
                raise ValueError(
                    f"`bootstrap_rounds` is {self.bootstrap_rounds}; the {len(family.metrics)} slices of "
                    f"`{family.name}` at alpha {self.alpha:g} need {least} or more"
                )
        return self

    def _floored(self) -> list[str]:
        return [floor.metric for floor in self.floors]

    def _named(self) -> Iterator[str]:
        for rules in (self.against_champion, self.against_parent, *self.against_anchor.values()):
            yield from (rule.metric for rule in rules)
        for family in self.slices:
            yield from family.metrics
        yield from self._floored()

    @property
    def metrics(self) -> Iterator[str]:
        """Every metric that a rule names; of a group its tasks."""
        for metric in self._named():
            yield from self.groups.get(metric, [metric])
