"""Rules about one candidate alone: floors, budgets, licences, contamination. None is traded for another.

Whatever a rule names and nobody knows closes the gate.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from evals.gate import words
from evals.gate.policy import BPC, FAIL, NOT_ENOUGH, PASS, Budget, Check, Floor, Policy, Verdict
from evals.gate.tables import Evaluation, MissingError, rows_of
from evals.stats import intervals

CLOSED = "a missing number closes the gate"
# Students that distillation makes of the candidate's own ancestors; any other was brought along.
OWN_STUDENTS = ("every-second-layer", "adapt")


def check_floor(model: Evaluation, floor: Floor, policy: Policy) -> Check:
    """The one-sided lower bound of a score, over clusters, must reach the floor; no correction softens it."""
    name, limit = "floor", floor.at_least
    try:
        rows = rows_of(model, floor.metric, policy.groups)
    except MissingError as error:
        return Check(name, None, floor.metric, limit, FAIL, f"floor of {floor.metric}: {error}; {CLOSED}")
    found = intervals.stratified_interval(
        rows["value"],
        list(rows["task"]),
        list(rows["cluster"]),
        1 - 2 * policy.alpha,
        policy.rounds,
        policy.seed,
        intervals.UNIT,
    )
    few = found.clusters < policy.least_clusters
    verdict = PASS if found.lo >= limit else FAIL
    if few or found.lo < limit <= found.mean:
        verdict = NOT_ENOUGH
    text = words.floor(floor, found, few, policy)
    spare = found.mean - limit, found.lo - limit
    return Check(name, None, floor.metric, limit, verdict, text, *spare, found.n, found.clusters)


def check_bytes(size: int | None, limit: int) -> Check:
    """The absolute budget for the checkpoint on disk."""
    if size is None:
        text = f"the size on disk is missing; {CLOSED}"
        return Check("max_bytes", None, "bytes", float(limit), FAIL, text)
    held = size <= limit
    text = f"{words.size(size)} on disk, {'within' if held else 'over'} the budget of {words.size(limit)}"
    return Check("max_bytes", None, "bytes", float(limit), PASS if held else FAIL, text, float(limit - size))


def check_budget(measures: Mapping[str, Any], budget: Budget) -> Check:
    """A time or an amount of memory of measures.json; a median must hold with the upper end of its interval.

    The interval is that over repeats. The 95th percentile and memory have none.
    """
    value, at_most = _measured(measures, budget)
    name = words.measure(budget)
    if value is None:
        return Check("budget", None, budget.measure, budget.at_most, FAIL, f"{name} is missing; {CLOSED}")
    upper = value if at_most is None else at_most
    held = upper <= budget.at_most
    text = words.budget(budget, value, at_most, held)
    spare = budget.at_most - value, budget.at_most - upper
    return Check("budget", None, budget.measure, budget.at_most, PASS if held else FAIL, text, *spare)


def _measured(measures: Mapping[str, Any], budget: Budget) -> tuple[float | None, float | None]:
    """The number, and the upper end of its interval where it has one; None for what is no finite number."""
    found: Any = measures
    if budget.prompt_tokens is None:
        return _number(found.get(budget.measure)), None
    for key in ("prompts", str(budget.prompt_tokens), budget.measure):
        found = found.get(key) if isinstance(found, Mapping) else None
    if not isinstance(found, Mapping):
        return None, None
    ends = found.get("ci") if budget.quantile == "p50" else None
    upper = _number(ends[1]) if isinstance(ends, list) and len(ends) == 2 else None
    return _number(found.get(budget.quantile)), upper


def _number(value: Any) -> float | None:
    known = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if known else None


def check_licences(lineage: Mapping[str, Any], allowed: tuple[str, ...]) -> Check:
    """Every licence of the base, of a student that was brought along, and of the data must be allowed.

    `lineage` is that of the manifest: `base: {licence}`, `data: {subset: [licence]}`, `student`.
    """
    found = list(_licences(lineage))
    unknown = [who for who, licence in found if not licence]
    wrong = [f"{who} ({licence})" for who, licence in found if licence and licence not in allowed]
    if unknown:
        text = (
            f"nobody says under which licence {_several(unknown)} stands; what is not known closes the gate"
        )
    elif wrong:
        text = f"licence not allowed: {_several(wrong)}; allowed: {', '.join(allowed)}"
    else:
        kinds = sorted({str(licence) for _, licence in found})
        text = f"licences of base and data are allowed: {', '.join(kinds)}"
    return Check("licences", None, "licences", None, FAIL if unknown or wrong else PASS, text)


def _licences(lineage: Mapping[str, Any]) -> Iterator[tuple[str, str | None]]:
    base = lineage.get("base")
    yield "the base", base.get("licence") if isinstance(base, Mapping) else None
    if str(lineage.get("student", OWN_STUDENTS[0])) not in OWN_STUDENTS:
        yield f"the student {lineage['student']}", None
    if "data" not in lineage:
        yield "the data", None
    for subset, licences in sorted(lineage.get("data", {}).items()):
        for licence in licences or [None]:
            yield f"subset {subset}", licence


def check_contamination(model: Evaluation, found: Mapping[str, Any] | None, policy: Policy) -> Check:
    """Of the items of every scored task that can be looked for, at most `policy.max_contamination` may stand
    in training text; at most `policy.max_too_short` may be too short to be looked for.

    `found` is contamination.json: {ngram, tasks: {task: {items, contaminated, too_short}}}, None when there
    is none.
    """
    limit = float(policy.max_contamination or 0)
    tasks = sorted({task for task in model.items["task"] if not task.startswith(BPC)})
    counts = (found or {}).get("tasks")
    if not isinstance(counts, Mapping):
        return _contamination(limit, FAIL, f"contamination was not looked for; {CLOSED}")
    looked = {task: _looked(counts.get(task)) for task in tasks}
    missing = [task for task, one in looked.items() if one is None]
    if missing or not looked:
        return _contamination(
            limit, FAIL, f"contamination of {_several(missing) or 'any task'} is missing; {CLOSED}"
        )
    known = {task: one for task, one in looked.items() if one is not None}
    told = _several([one.words(task) for task, one in sorted(known.items(), key=_most_unknown) if one.short])
    over = [task for task, one in known.items() if one.share > limit]
    unseen = [task for task, one in known.items() if one.short > policy.max_too_short * one.items]
    worst = max((one.share for one in known.values()), default=0.0)
    ngram = f"{(found or {}).get('ngram')}-grams"
    if over:
        bad = _several([f"{task} ({100 * known[task].share:.1f} % of its items)" for task in over])
        text = f"training text holds {ngram} of {bad}; at most {100 * limit:g} % is allowed"
    else:
        most = f"at most {100 * worst:.1f} % of the items of any of {len(known)} tasks"
        text = f"training text holds {ngram} of {most}; {100 * limit:g} % is allowed"
    if told:
        text += f"; too short to tell: {told}"
    if unseen:
        most = f"more than {100 * policy.max_too_short:g} % (max_too_short)"
        text += f"; {_several(unseen)}: {most} cannot be judged, which closes the gate"
    return _contamination(limit, FAIL if over or unseen else PASS, text, limit - worst)


def _contamination(limit: float, verdict: Verdict, text: str, spare: float | None = None) -> Check:
    return Check("max_contamination", None, "contamination", limit, verdict, text, spare)


@dataclass(frozen=True)
class _Looked:
    """Items of a task, those that stand in training text, and those that are too short to tell."""

    items: float
    contaminated: float
    short: float

    @property
    def share(self) -> float:
        """Contaminated ones, of those that can be looked for."""
        return self.contaminated / max(self.items - self.short, 1.0)

    def words(self, task: str) -> str:
        return f"{self.short:g} of {self.items:g} items of {task}"


def _most_unknown(named: tuple[str, _Looked]) -> float:
    return -named[1].short / named[1].items


def _looked(counts: Any) -> _Looked | None:
    """None where a number is missing, or there is no item."""
    if not isinstance(counts, Mapping):
        return None
    items, bad, short = (_number(counts.get(key)) for key in ("items", "contaminated", "too_short"))
    return None if not items or bad is None or short is None else _Looked(items, bad, short)


def _several(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
