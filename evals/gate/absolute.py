"""Rules about one candidate alone: floors, budgets, licences, contamination. None is traded for another.

Whatever a rule names and nobody knows closes the gate.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from evals.gate import words
from evals.gate.policy import BPC, FAIL, NOT_ENOUGH, PASS, Budget, Check, Floor, Policy
from evals.gate.tables import Evaluation, MissingError, rows_of
from evals.stats import intervals

CLOSED = "a missing number closes the gate"


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
    if str(lineage.get("student", "every-second-layer")) != "every-second-layer":
        yield f"the student {lineage['student']}", None
    if "data" not in lineage:
        yield "the data", None
    for subset, licences in sorted(lineage.get("data", {}).items()):
        for licence in licences or [None]:
            yield f"subset {subset}", licence


def check_contamination(model: Evaluation, found: Mapping[str, Any] | None, limit: float) -> Check:
    """Of the items of every task that was scored, at most the share `limit` may stand in training text.

    `found` is contamination.json: {ngram, tasks: {task: {items, contaminated}}}, None when there is none.
    """
    name = "max_contamination"
    tasks = sorted({task for task in model.items["task"] if not task.startswith(BPC)})
    counts = (found or {}).get("tasks")
    if not isinstance(counts, Mapping):
        return Check(name, None, "contamination", limit, FAIL, f"contamination was not looked for; {CLOSED}")
    shares = {task: _share(counts.get(task)) for task in tasks}
    unknown = [task for task, share in shares.items() if share is None]
    if unknown or not shares:
        text = f"contamination of {_several(unknown) or 'any task'} is missing; {CLOSED}"
        return Check(name, None, "contamination", limit, FAIL, text)
    known = {task: share for task, share in shares.items() if share is not None}
    over = [task for task, share in known.items() if share > limit]
    worst = max(known, key=lambda task: known[task])
    ngram = f"{(found or {}).get('ngram')}-grams"
    if over:
        told = _several([f"{task} ({100 * known[task]:.1f} % of its items)" for task in over])
        text = f"training text holds {ngram} of {told}; at most {100 * limit:g} % is allowed"
    else:
        most = f"at most {100 * known[worst]:.1f} % of the items of any of {len(known)} tasks"
        text = f"training text holds {ngram} of {most}; {100 * limit:g} % is allowed"
    verdict = FAIL if over else PASS
    return Check(name, None, "contamination", limit, verdict, text, limit - known[worst])


def _share(counts: Any) -> float | None:
    if not isinstance(counts, Mapping):
        return None
    items, bad = _number(counts.get("items")), _number(counts.get("contaminated"))
    return None if not items or bad is None else bad / items


def _several(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
