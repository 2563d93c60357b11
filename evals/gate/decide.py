"""From all evaluations to the decision: a verdict with reasons per candidate, and one winner or none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from evals.gate import plan, words
from evals.gate.absolute import (
    check_budget,
    check_bytes,
    check_contamination,
    check_floor,
    check_licences,
)
from evals.gate.judged import Vote, check_judge
from evals.gate.policy import FAIL, PASS, Check, Policy, Rule, worst
from evals.gate.rules import check, total_of
from evals.gate.slices import check_slices
from evals.gate.tables import Evaluation, single

SCHEMA = 2
CHAMPION = "champion"


@dataclass(frozen=True)
class Entry:
    """One candidate at the gate. `parent` names its bf16 parent, `bytes` is the size on disk or None.

    `measures` is measures.json, `lineage` that of the checkpoint's manifest.
    """

    evaluation: Evaluation
    parent: str | None
    bytes: int | None
    vote: Vote
    measures: Mapping[str, Any] = field(default_factory=dict)
    lineage: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Reference:
    """What every candidate is held against beside the champion: fixed models by name, contamination.json."""

    anchors: Mapping[str, Evaluation] = field(default_factory=dict)
    contamination: Mapping[str, Any] | None = None


def decide(
    entries: dict[str, Entry], champion: Evaluation, policy: Policy, reference: Reference | None = None
) -> dict[str, Any]:
    """The parts `candidates`, `winner`, `winner_reason` and `rule` of decision.json."""
    reference = reference or Reference()
    judged = {name: _judged(name, entries, champion, policy, reference) for name in entries}
    winner, reason = _winner(judged, entries, champion, policy)
    return {"candidates": judged, "winner": winner, "winner_reason": reason, "rule": policy.winner}


def _judged(
    name: str, entries: dict[str, Entry], champion: Evaluation, policy: Policy, reference: Reference
) -> dict[str, Any]:
    entry = entries[name]
    checks, notes = _checks(entry, entries, champion, policy, reference), []
    if not entry.vote.votes:
        notes.append(f"the judge does not vote: {entry.vote.reason}")
    if alone := single(entry.evaluation):
        notes.append(f"the total is without {', '.join(alone)}: one cluster, so its spread is not known")
    if entry.evaluation.digest == champion.digest:
        notes.append("it is already the champion, weight for weight")
    others = {CHAMPION: champion} | ({entry.parent: entries[entry.parent].evaluation} if entry.parent else {})
    for against, other in others.items():
        if _tokenizers_differ(entry.evaluation, other):
            notes.append(f"{against} has another tokenizer; items and bits per character do not depend on it")
    verdict = worst([item.verdict for item in checks])
    chances = [item.power["equal_passes"] for item in checks if item.power and "equal_passes" in item.power]
    held = [item.text for item in checks if item.verdict != PASS]
    reasons = held or [f"holds all {len(checks)} rules", *(item.text for item in checks)]
    return {
        "verdict": verdict,
        "digest": entry.evaluation.digest,
        "bytes": entry.bytes,
        "parent": entry.parent,
        "reasons": [*reasons, *notes],
        "judge": {"votes": entry.vote.votes, "reason": entry.vote.reason},
        "equal_passes_all": plan.of_all(chances),
        "checks": [item.as_json() for item in checks],
    }


def _tokenizers_differ(model: Evaluation, other: Evaluation) -> bool:
    return None not in (model.tokenizer, other.tokenizer) and model.tokenizer != other.tokenizer


def _checks(
    entry: Entry, entries: dict[str, Entry], champion: Evaluation, policy: Policy, reference: Reference
) -> list[Check]:
    model = entry.evaluation
    checks = [check(model, champion, CHAMPION, rule, policy) for rule in policy.against_champion]
    for family in policy.slices:
        checks += check_slices(model, champion, family, policy)
    if entry.parent is not None:
        parent = entries[entry.parent].evaluation
        checks += [check(model, parent, entry.parent, rule, policy) for rule in policy.against_parent]
    for name, rules in policy.against_anchor.items():
        checks += [_against_anchor(model, name, rule, policy, reference) for rule in rules]
    checks += [check_floor(model, floor, policy) for floor in policy.floors]
    checks += _limits(entry, policy, reference)
    if entry.vote.votes:
        checks.append(check_judge(entry.vote, policy))
    return checks


def _against_anchor(model: Evaluation, name: str, rule: Rule, policy: Policy, reference: Reference) -> Check:
    anchor = reference.anchors.get(name)
    if anchor is not None:
        return check(model, anchor, name, rule, policy)
    text = f"{rule.metric} against {name}: it was not evaluated; a missing number closes the gate"
    return Check(rule.kind, name, rule.metric, rule.margin, FAIL, text)


def _limits(entry: Entry, policy: Policy, reference: Reference) -> list[Check]:
    """Rules about size, speed, memory, licences and contamination."""
    checks = []
    if policy.max_bytes is not None:
        checks.append(check_bytes(entry.bytes, policy.max_bytes))
    elif policy.winner == "smallest" and entry.bytes is None:
        text = (
            "the size on disk is missing, but `winner: smallest` needs it; a missing number closes the gate"
        )
        checks.append(Check("winner", None, "bytes", None, FAIL, text))
    checks += [check_budget(entry.measures, budget) for budget in policy.budgets]
    if policy.licences is not None:
        checks.append(check_licences(entry.lineage, policy.licences))
    if policy.max_contamination is not None:
        checks.append(check_contamination(entry.evaluation, reference.contamination, policy))
    return checks


def _winner(
    judged: dict[str, dict[str, Any]], entries: dict[str, Entry], champion: Evaluation, policy: Policy
) -> tuple[str | None, str]:
    passing = sorted(name for name, item in judged.items() if item["verdict"] == PASS)
    if not passing:
        return None, f"none of {len(judged)} candidates passed; the champion stays"
    totals = {name: _total(entries[name].evaluation) for name in passing}
    sizes = {name: entries[name].bytes or 0 for name in passing}
    if policy.winner == "smallest":
        name = min(passing, key=lambda item: (sizes[item], -totals[item], item))
        said = f"the smallest ({words.size(sizes[name])})"
    else:
        name = min(passing, key=lambda item: (-totals[item], sizes[item], item))
        said = f"the best total ({totals[name]:.3f})"
    alone = "the only candidate that passed" if len(passing) == 1 else f"{said} of {len(passing)} that passed"
    # The champion is measured by the rule too: else a run that changes nothing would promote the second best.
    if entries[name].evaluation.digest == champion.digest:
        return None, f"{name}: {alone}; it is the champion already and stays; rule `{policy.winner}`"
    return name, f"{name}: {alone}; rule `{policy.winner}`"


def _total(model: Evaluation) -> float:
    value = total_of(model)
    return float("-inf") if value is None else value
