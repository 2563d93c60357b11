"""The terminal's last word: one line per candidate with intervals, verdict, winner and champion.

The numbers are those of table.json, which the stage `report` wrote.
"""

from __future__ import annotations

from typing import Any

from evals.gate.words import size
from flows.results import Results
from stages.common.atomic import read_json
from stages.common.champion import CHAMPION
from stages.common.errors import UserError

VERDICT_STYLE = {"pass": "green", "fail": "red", "not comparable": "yellow", "not enough data": "yellow"}
MISSING = "-"
# Columns of the table where there is no terminal, such as in a log file.
LOG_WIDTH = 120


def read(results: Results) -> dict[str, Any]:
    """table.json, candidates by name and the champion last. Raises `UserError` when it is of another
    decision.
    """
    path = results.out / "report" / "table.json"
    table = dict(read_json(path))
    told = {row["name"]: (row["digest"], row["verdict"]) for row in table["rows"] if row["name"] != CHAMPION}
    decided = {
        name: (entry.get("digest"), entry.get("verdict"))
        for name, entry in results.decision["candidates"].items()
    }
    same = all(table[key] == results.decision.get(key) for key in ("champion", "winner", "winner_reason"))
    if told != decided or not same:
        raise UserError(f"{path}: not about the gate's decision; run `dvc repro report`")
    return {**table, "rows": sorted(table["rows"], key=lambda row: (row["name"] == CHAMPION, row["name"]))}


def header(table: dict[str, Any]) -> list[str]:
    """Column titles; latency is that of the longest prompt that every model was timed with."""
    prompt = table["speed_prompt_tokens"]
    latency = f"p50 ms ({prompt})" if prompt else "p50 ms"
    size = ["size", "removed"] if cut(table) else ["size"]
    return ["candidate", "total [95 %]", "bpc ru", "bpc en", *size, latency, "judge", "verdict"]


def cut(table: dict[str, Any]) -> bool:
    """Whether any candidate is made of a model that was cut."""
    return any(row.get("removed_share") is not None for row in table["rows"])


def adaptation(row: dict[str, Any]) -> dict[str, Any]:
    """How a row's model was adapted: method, parameters trained and removed; without what nobody knows."""
    found = {key: row.get(key) for key in ("method", "trainable_parameters", "removed_parameters")}
    return {key: value for key, value in found.items() if value is not None}


def removed(row: dict[str, Any]) -> str:
    """Share of the parameters before the cut that a candidate has not, or a dash."""
    share = row.get("removed_share")
    return MISSING if share is None else f"{100 * share:.1f} %"


def rows(table: dict[str, Any]) -> list[list[str]]:
    """The table's cells as text, under the titles of `header`."""
    return [
        [
            row["name"],
            with_interval(row["total"]),
            number(row["bpc"].get("ru", {}).get("value")),
            number(row["bpc"].get("en", {}).get("value")),
            MISSING if row["bytes"] is None else size(row["bytes"]),
            *([removed(row)] if cut(table) else []),
            number(row["latency_ms"], 1),
            number((row["judge"] or {}).get("value"), 2),
            _verdict(table, row),
        ]
        for row in table["rows"]
    ]


def _verdict(table: dict[str, Any], row: dict[str, Any]) -> str:
    """The gate's verdict; the winner is marked, the champion has none."""
    if row["name"] == CHAMPION:
        version = table["champion"].get("version")
        return "base model" if version is None else f"version {version}"
    text = row["verdict"] or MISSING
    return f"{text}, winner" if row["winner"] else text


def with_interval(score: dict[str, Any] | None, digits: int = 3) -> str:
    """`0.731 [0.702, 0.760]`, or a dash."""
    if not score or score.get("value") is None:
        return MISSING
    low, high = score.get("ci") or (None, None)
    ends = "" if low is high is None else f" [{number(low, digits)}, {number(high, digits)}]"
    return number(score["value"], digits) + ends


def number(value: float | None, digits: int = 3) -> str:
    """`value` with `digits` decimals, or a dash."""
    return MISSING if value is None else f"{value:.{digits}f}"


def render(results: Results, promotion: str | None = None) -> None:
    """Print the table, why each held candidate was held, the winner and what became of it."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = read(results)
    console = Console()
    if not console.is_terminal:
        console.width = LOG_WIDTH
    drawn = Table(title="Candidates and the champion", title_justify="left")
    for index, title in enumerate(header(table)):
        drawn.add_column(
            title, justify="left" if title in ("candidate", "verdict") else "right", no_wrap=index == 0
        )
    for cells in rows(table):
        style = VERDICT_STYLE.get(cells[-1].removesuffix(", winner"), "")
        shown = [escape(text) for text in cells]
        drawn.add_row(*shown[:-1], f"[{style}]{shown[-1]}[/]" if style else shown[-1])
    console.print(drawn)
    for row in table["rows"]:
        if row["name"] != CHAMPION and row["verdict"] != "pass":
            console.print(
                escape(f"  {row['name']}: {'; '.join(row['reasons'] or ['no reason given'])}"),
                highlight=False,
                soft_wrap=True,
            )
    reason = table["winner_reason"] or ""
    console.print(
        escape(f"Winner: {table['winner'] or 'none'}{'. ' + reason if reason else ''}"),
        highlight=False,
        soft_wrap=True,
    )
    if promotion:
        console.print(escape(promotion), highlight=False, soft_wrap=True)
