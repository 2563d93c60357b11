"""The data section: what cleaning did and how well, the data contract, and what text costs in tokens."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stages.common.atomic import read_json


@dataclass(frozen=True)
class Data:
    """What the page says about the corpus. `gaps` are sentences about what is not there."""

    read: int
    actions: dict[str, int]
    reasons: list[tuple[str, int]]
    subsets: list[dict[str, Any]]
    unreadable: int
    defects: list[dict[str, Any]]
    claims: list[dict[str, Any]]
    contract: dict[str, Any]
    fertility: list[dict[str, Any]]
    gaps: list[str] = field(default_factory=list)


def read_data(corpus: Path, validate: Path, tokens: Path) -> Data:
    """From `out/corpus`, `out/validate` and `out/tokens`. Raises `UserError` when a summary is missing."""
    summary = read_json(corpus / "summary.json")
    truth = summary.get("truth")
    gaps = []
    if not truth:
        gaps.append(
            "No defects were planted in this corpus, so precision and recall of cleaning are not known."
        )
    return Data(
        read=summary["documents_read"],
        actions=summary["actions"],
        reasons=sorted(summary["reasons"].items(), key=lambda item: (-item[1], item[0])),
        subsets=[
            {"name": name, **found, "language": ", ".join(found["languages"])}
            for name, found in sorted(summary["subsets"].items())
        ],
        unreadable=summary["unreadable"]["count"],
        defects=[{"name": name, **row} for name, row in sorted((truth or {}).get("recall", {}).items())],
        claims=[
            {"name": name, **row}
            for name, row in sorted((truth or {}).get("precision", {}).items())
            if row["claimed"]
        ],
        contract=read_contract(read_json(validate / "verdict.json")),
        fertility=read_fertility(read_json(tokens / "fertility.json")),
        gaps=gaps,
    )


def read_contract(verdict: dict[str, Any]) -> dict[str, Any]:
    """Whether the contract held, how many expectations were checked, and those that were not met."""
    return {
        "passed": verdict["passed"],
        "checked": verdict["expectations"],
        "broken": [
            {"name": name, "severity": severity}
            for severity, names in sorted(verdict["failed"].items())
            for name in names
        ],
    }


def read_fertility(fertility: dict[str, Any]) -> list[dict[str, Any]]:
    """One row per subset (and language, where a subset has several) of fertility.json."""
    return [{"name": name, **row} for name, row in sorted(fertility["subsets"].items())]
