"""Writes the result table of README.md from docs/results/budgets.json, between its two markers."""

from __future__ import annotations

import json
from typing import Any

from tests.proof.common import RESULTS, ROOT, replace_between

BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
PICTURE = "quality.svg"  # of the same run's report
HEAD = ("model", "total [95 %]", "bits/char ru", "bits/char en", "size", "bits/weight", "tokens/s", "verdict")


def write() -> None:
    """Replace what stands between the markers."""
    found = json.loads((RESULTS / "budgets.json").read_text(encoding="utf-8"))
    replace_between(ROOT / "README.md", BEGIN, END, section(found))


def section(found: dict[str, Any]) -> str:
    """The Markdown between the markers: the table of the default run, its machine, commit and command."""
    machine, table = found["machine"], found["table"]
    rows = [HEAD, ("---",) + ("---:",) * 6 + ("---",), *(_row(row) for row in table["rows"])]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(
        [
            "What one `make run` gave, the base model being the first champion:",
            "",
            *lines,
            "",
            f"![Total against size of every candidate](docs/results/{PICTURE})",
            "",
            f"{table['winner_reason']}. {found['seconds']['gorn run'] / 60:.1f} minutes on {machine['cpu']}, "
            f"{machine['cores']} cores, torch {machine['torch']}, commit `{found['commit']}`; written by "
            f"`{found['command']}` into [docs/results/budgets.json](docs/results/budgets.json).",
        ]
    )


def _row(row: dict[str, Any]) -> tuple[str, ...]:
    total = row["total"]
    low, high = total["ci"]
    verdict = "base model" if row["role"] == "champion" else row["verdict"]
    return (
        row["name"],
        f"{total['value']:.3f} [{low:.3f}, {high:.3f}]",
        *(f"{row['bpc'][language]['value']:.3f}" for language in ("ru", "en")),
        f"{row['bytes'] / 1e6:.2f} MB",
        f"{row['bits_per_weight']:.2f}",
        f"{row['decode_tokens_per_s']:.0f}",
        f"**{verdict}, promoted**" if row["winner"] else verdict,
    )
