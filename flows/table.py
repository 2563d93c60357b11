"""The terminal's last word: one line per candidate with intervals, verdict, winner and champion."""

from __future__ import annotations

from typing import Any

from flows.results import CHAMPION, Cell, Results

VERDICT_STYLE = {"pass": "green", "fail": "red", "not comparable": "yellow", "not enough data": "yellow"}
MISSING = "-"
# Columns of the table where there is no terminal, such as in a log file.
LOG_WIDTH = 120


def rows(results: Results) -> list[list[str]]:
    """The table's cells as text: name, total, bpc ru, bpc en, size, latency, preference, verdict."""
    return [_row(results, cell) for cell in results.cells.values()]


def header(results: Results) -> list[str]:
    """Column titles; latency is that of the longest prompt measured."""
    prompt = longest_prompt(results)
    latency = f"p50 ms ({prompt})" if prompt else "p50 ms"
    return ["candidate", "total [95 %]", "bpc ru", "bpc en", "size", latency, "judge", "verdict"]


def longest_prompt(results: Results) -> str | None:
    """The longest prompt length (tokens) with numbers in every measured cell; None where there is none."""
    measured = [_measured(cell) for cell in results.cells.values()]
    lengths = [set(prompts) for prompts in measured if prompts]
    shared = set.intersection(*lengths) if lengths else set()
    return max(shared, key=int, default=None)


def _measured(cell: Cell) -> dict[str, Any]:
    """Measures by prompt length; null stands for a length that the model has too few positions for."""
    return {length: found for length, found in (cell.measures.get("prompts") or {}).items() if found}


def _row(results: Results, cell: Cell) -> list[str]:
    prompt = _measured(cell).get(longest_prompt(results) or "", {})
    return [
        cell.name,
        with_interval(cell.scores.get("total")),
        number(cell.scores.get("bpc", {}).get("ru", {}).get("value")),
        number(cell.scores.get("bpc", {}).get("en", {}).get("value")),
        size(cell.measures.get("bytes")),
        number(prompt.get("latency_ms", {}).get("p50"), 1),
        number(cell.judge.get("preference"), 2),
        verdict(results, cell.name),
    ]


def verdict(results: Results, name: str) -> str:
    """The gate's verdict on `name`; the winner is marked, the champion has none."""
    if name == CHAMPION:
        version = results.decision["champion"].get("version")
        return "base model" if version is None else f"version {version}"
    text = str(results.candidate(name).get("verdict", MISSING))
    return f"{text}, winner" if results.winner == name else text


def with_interval(score: dict[str, Any] | None, digits: int = 3) -> str:
    """`0.731 [0.702, 0.760]`, or a dash."""
    if not score or score.get("value") is None:
        return MISSING
    interval = score.get("ci")
    ends = f" [{number(interval[0], digits)}, {number(interval[1], digits)}]" if interval else ""
    return number(score["value"], digits) + ends


def number(value: float | None, digits: int = 3) -> str:
    """`value` with `digits` decimals, or a dash."""
    return MISSING if value is None else f"{value:.{digits}f}"


def size(value: int | None) -> str:
    """Bytes in decimal units, as disks are sold."""
    if value is None:
        return MISSING
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= factor:
            return f"{value / factor:.2f} {unit}"
    return f"{value} B"


def render(results: Results, promotion: str | None = None) -> None:
    """Print the table, why each held candidate was held, the winner and what became of it."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        console.width = LOG_WIDTH
    table = Table(title="Candidates and the champion", title_justify="left")
    for index, title in enumerate(header(results)):
        table.add_column(title, justify="left" if index in (0, 7) else "right", no_wrap=index == 0)
    for row in rows(results):
        style = VERDICT_STYLE.get(row[-1].removesuffix(", winner"), "")
        shown = [escape(text) for text in row]
        table.add_row(*shown[:-1], f"[{style}]{shown[-1]}[/]" if style else shown[-1])
    console.print(table)
    for name, entry in sorted(results.decision["candidates"].items()):
        if entry.get("verdict") != "pass":
            console.print(
                escape(f"  {name}: {'; '.join(entry.get('reasons') or ['no reason given'])}"), highlight=False
            )
    reason = results.decision.get("winner_reason") or ""
    console.print(
        escape(f"Winner: {results.winner or 'none'}{'. ' + reason if reason else ''}"), highlight=False
    )
    if promotion:
        console.print(escape(promotion), highlight=False)
