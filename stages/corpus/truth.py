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
# Which defects a reason claims to have met; `too_short`, `normalised` and `cut` claim nothing.
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
LOOK_ALIKE = "pii_look_alike"


def join(
    truth: Iterable[Any], ledger: Iterable[LedgerRow], originals: Mapping[str, str], texts: Mapping[str, str]
) -> list[dict[str, Any]]:
    """The truth's rows with what the ledger says of them, and whether the defect was dealt with rightly.

    `originals` are the texts before cleaning, `texts` the cleaned ones of kept documents, by id. Personal
    data is dealt with when none of its values is left; numbers that only look like it (`valid` is false) are
    counted as the defect `pii_look_alike`, which is right when they were left alone. A duplicate is dealt
    with as well when its original, coming later, was dropped in its stead; a broken encoding when it was
    repaired or, where nothing brings the letters back, dropped.
    """
    by_id = {row.id: row for row in ledger}
    joined = []
    for planted in truth:
        row, detail = by_id[planted.document_id], json.loads(planted.detail)
        defect = LOOK_ALIKE if detail.get("valid") is False else planted.defect
        joined.append(
            {
                "document_id": planted.document_id,
                "defect": defect,
                "detail": planted.detail,
                "action": row.action,
                "reasons": list(row.reasons),
                "handled": _handled(defect, detail, row, by_id, originals, texts),
            }
        )
    return joined


def _handled(
    defect: str,
    detail: Mapping[str, Any],
    row: LedgerRow,
    by_id: Mapping[str, LedgerRow],
    originals: Mapping[str, str],
    texts: Mapping[str, str],
) -> bool:
    reasons = set(row.reasons)
    if defect == LOOK_ALIKE:
        return "redacted" not in reasons
    if defect == "pii":
        source, kept = originals[row.id], texts.get(row.id)
        values = [source[span["start"] : span["end"]] for span in detail["spans"]]
        return kept is None or not any(value in kept for value in values)
    if defect == "mojibake" and not detail.get("repairable", True):
        return "mojibake" in reasons
    if ANSWERS[defect] & reasons:
        return True
    original = by_id.get(str(detail.get("original", "")))
    return (
        defect.endswith("_duplicate")
        and original is not None
        and bool(ANSWERS[defect] & set(original.reasons))
        and row.id in original.detail
    )


def score(joined: Sequence[Mapping[str, Any]], ledger: Sequence[LedgerRow]) -> dict[str, Any]:
    """Recall per defect and precision per reason, with their counts. The precision of no claim is null."""
    defects: dict[str, set[str]] = {}
    for planted in joined:
        defects.setdefault(planted["document_id"], set()).add(planted["defect"])
        if original := json.loads(planted["detail"]).get("original"):
            # Broken, leaking and contaminated documents are copies of sound ones: either may be a duplicate.
            for document in (planted["document_id"], original):
                defects.setdefault(document, set()).add("near_duplicate")
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
