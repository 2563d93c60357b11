"""Task scores and the total of MERA (v1.2, arXiv 2401.04531; sheet 1.5): plain means, whatever the sizes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from evals import tasks as declarations

_Z = 1.959963984540054


@dataclass(frozen=True)
class Score:
    """A task's score and its standard error."""

    value: float
    se: float


@dataclass(frozen=True)
class Total:
    """The mean over the tasks of the total that are there. `official`: all 15 are; `missing`: those not."""

    value: float | None
    ci: tuple[float, float] | None
    tasks: list[str]
    missing: list[str]

    @property
    def official(self) -> bool:
        """Only a total over all 15 tasks may be compared with MERA's table."""
        return not self.missing


def task_score(metrics: Mapping[str, float]) -> float:
    """The plain mean of a task's main metrics: those without a dot in their names; 0 without any."""
    main = [value for name, value in metrics.items() if "." not in name]
    return sum(main) / len(main) if main else 0.0


@cache
def in_total() -> dict[str, str]:
    """MERA's name -> task name of the 15 tasks that count."""
    specs = {name: (declarations.declaration(name) or {})["metadata"] for name in declarations.mera()}
    return {spec["title"]: name for name, spec in specs.items() if spec.get("total")}


def total(scores: Mapping[str, Score]) -> Total:
    """The total over `scores` by MERA's names; other names do not count.

    The 95 % interval is normal with SE^2 = (1 / K^2) sum of SE_k^2 over the K tasks (sheet 3.7): tasks share
    no items. Without any task there is no value.
    """
    named = sorted(set(scores) & set(in_total()))
    missing = sorted(set(in_total()) - set(named))
    if not named:
        return Total(None, None, named, missing)
    value = sum(scores[name].value for name in named) / len(named)
    half = _Z * math.sqrt(sum(scores[name].se ** 2 for name in named)) / len(named)
    return Total(value, (max(0.0, value - half), min(1.0, value + half)), named, missing)
