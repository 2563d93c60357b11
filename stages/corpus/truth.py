"""Cleaning judged by the truth that the embedded world keeps about its planted defects."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from stages.corpus.record import LedgerRow

# Which reasons of the ledger deal with which defect.
ANSWERS: Mapping[str, frozenset[str]] = {
    "exact_duplicate": frozenset({"exact_duplicate", "near_duplicate"}),
    "near_duplicate": frozenset({"exact_duplicate", "near_duplicate"}),
    "mojibake": frozenset({"repaired", "mojibake"}),
    "pii": frozenset({"redacted"}),
    "junk": frozenset({"junk", "too_short", "language", "mojibake"}),
    "foreign_language": frozenset({"language"}),
    "contaminated": frozenset({"contaminated"}),
}
# Which defects a reason claims to have met; `too_short` claims nothing.
CLAIMS: Mapping[str, frozenset[str]] = {
    "exact_duplicate": frozenset({"exact_duplicate", "near_duplicate"}),
    "near_duplicate": frozenset({"exact_duplicate", "near_duplicate"}),
    "repaired": frozenset({"mojibake", "junk"}),
    "mojibake": frozenset({"mojibake", "junk"}),
    "redacted": frozenset({"pii"}),
    "junk": frozenset({"junk"}),
    "language": frozenset({"foreign_language", "junk"}),
    "contaminated": frozenset({"contaminated"}),
}


def join(truth: Iterable[Any], ledger: Iterable[LedgerRow]) -> list[dict[str, Any]]:
    """The truth's rows with the action and reasons of the ledger, and whether the defect was dealt with.

    A duplicate is dealt with as well when its original, coming later, was dropped in its stead.
    """
    by_id = {row.id: row for row in ledger}
    joined = []
    for planted in truth:
        row = by_id[planted.document_id]
        answers = ANSWERS[planted.defect]
        handled = bool(answers & set(row.reasons))
        original = by_id.get(_original(planted.defect, planted.detail))
        if original is not None and not handled:
            handled = bool(answers & set(original.reasons)) and planted.document_id in original.detail
        joined.append(
            {
                "document_id": planted.document_id,
                "defect": planted.defect,
                "detail": planted.detail,
                "action": row.action,
                "reasons": list(row.reasons),
                "handled": handled,
            }
        )
    return joined


def _original(defect: str, detail: str) -> str:
    """The id of the document that a planted duplicate repeats; empty for other defects."""
    return str(json.loads(detail).get("original", "")) if defect.endswith("_duplicate") else ""


def score(joined: Sequence[dict[str, Any]], ledger: Sequence[LedgerRow]) -> dict[str, dict[str, Any]]:
    """Per defect: planted, handled, recall; per reason: claimed, right, precision. A share of nothing is null."""
    defects: dict[str, set[str]] = {}
    for planted in joined:
        defects.setdefault(planted["document_id"], set()).add(planted["defect"])
        if original := _original(planted["defect"], planted["detail"]):
            defects.setdefault(original, set()).add(planted["defect"])
    recall = {}
    for defect in sorted({planted["defect"] for planted in joined}):
        rows = [planted["handled"] for planted in joined if planted["defect"] == defect]
        recall[defect] = {
            "planted": len(rows),
            "handled": sum(rows),
            "recall": round(sum(rows) / len(rows), 4),
        }
    precision = {}
    for reason, claims in sorted(CLAIMS.items()):
        right = [bool(claims & defects.get(row.id, set())) for row in ledger if reason in row.reasons]
        share = round(sum(right) / len(right), 4) if right else None
        precision[reason] = {"claimed": len(right), "right": sum(right), "precision": share}
    return {"recall": recall, "precision": precision}
