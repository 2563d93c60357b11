"""From all evaluations to the decision: a verdict with reasons per candidate, and one winner or none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from evals.gate import words
from evals.gate.judged import Vote, check_judge
from evals.gate.policy import FAIL, PASS, Check, Policy, worst
from evals.gate.rules import check, check_bytes, total_of
from evals.gate.tables import Evaluation

SCHEMA = 1
CHAMPION = "champion"


@dataclass(frozen=True)
class Entry:
    """One candidate at the gate. `parent` names its bf16 parent, `bytes` is the size on disk or None."""

    evaluation: Evaluation
    parent: str | None
    bytes: int | None
    vote: Vote


def decide(entries: dict[str, Entry], champion: Evaluation, policy: Policy) -> dict[str, Any]:
    """The parts `candidates`, `winner`, `winner_reason` and `rule` of decision.json."""
    judged = {name: _judged(name, entries, champion, policy) for name in entries}
    winner, reason = _winner(judged, entries, champion, policy)
    return {"candidates": judged, "winner": winner, "winner_reason": reason, "rule": policy.winner}


def _judged(name: str, entries: dict[str, Entry], champion: Evaluation, policy: Policy) -> dict[str, Any]:
    entry = entries[name]
    checks, notes = _checks(entry, entries, champion, policy), []
    if not entry.vote.votes:
        notes.append(f"the judge does not vote: {entry.vote.reason}")
    if entry.evaluation.digest == champion.digest:
        notes.append("it is already the champion, weight for weight")
    others = {CHAMPION: champion} | ({entry.parent: entries[entry.parent].evaluation} if entry.parent else {})
    for against, other in others.items():
        if _tokenizers_differ(entry.evaluation, other):
            notes.append(f"{against} has another tokenizer; items and bits per character do not depend on it")
    verdict = worst([item.verdict for item in checks])
    held = [item.text for item in checks if item.verdict != PASS]
    reasons = held or [f"holds all {len(checks)} rules", *(item.text for item in checks)]
    return {
        "verdict": verdict,
        "digest": entry.evaluation.digest,
        "bytes": entry.bytes,
        "parent": entry.parent,
        "reasons": [*reasons, *notes],
        "checks": [item.as_json() for item in checks],
    }


def _tokenizers_differ(model: Evaluation, other: Evaluation) -> bool:
    return None not in (model.tokenizer, other.tokenizer) and model.tokenizer != other.tokenizer


def _checks(entry: Entry, entries: dict[str, Entry], champion: Evaluation, policy: Policy) -> list[Check]:
    model = entry.evaluation
    checks = [check(model, champion, CHAMPION, rule, policy) for rule in policy.against_champion]
    if entry.parent is not None:
        parent = entries[entry.parent].evaluation
        checks += [check(model, parent, entry.parent, rule, policy) for rule in policy.against_parent]
    if policy.max_bytes is not None:
        checks.append(check_bytes(entry.bytes, policy.max_bytes))
    elif policy.winner == "smallest" and entry.bytes is None:
        text = (
            "the size on disk is missing, but `winner: smallest` needs it; a missing number closes the gate"
        )
        checks.append(Check("winner", None, "bytes", None, FAIL, text))
    if entry.vote.votes:
        checks.append(check_judge(entry.vote, policy))
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
