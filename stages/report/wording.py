"""Numbers as the report writes them. What is missing is a dash."""

from __future__ import annotations

import math
from collections.abc import Callable

from evals.gate import words as gate
from stages.report.models import Estimate

DASH = "–"


def percent(share: float | None, digits: int = 1) -> str:
    """`71.4` for 0.714."""
    return DASH if share is None else f"{100 * share:.{digits}f}"


def number(value: float | None, digits: int = 2) -> str:
    """Fixed decimals: `1.83`."""
    return DASH if value is None else f"{value:.{digits}f}"


def significant(value: float | None) -> str:
    """Three significant digits, thousands separated, no exponent: `6,570`, `203`, `5.83`."""
    if value is None:
        return DASH
    if value == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{round(value, 2 - math.floor(math.log10(abs(value)))):,.{digits}f}"


def signed(value: float | None, digits: int = 2) -> str:
    """With its sign: `+0.05`."""
    return DASH if value is None else f"{value:+.{digits}f}"


def count(value: int | None) -> str:
    """`12,345`."""
    return DASH if value is None else f"{value:,}"


def size(bytes_: float | None, largest: float | None = None) -> str:
    """Bytes in powers of ten, `2.11 MB`; in the unit of `largest`, so that a column keeps to one unit."""
    return DASH if bytes_ is None else gate.size(bytes_, largest, significant)


def interval(found: Estimate | None, kind: str) -> str:
    """`[69.8, 73.0]` in the style `percent`, `number` or `significant`; a dash where a bound is unknown."""
    if found is None:
        return ""
    styles: dict[str, Callable[[float | None], str]] = {
        "percent": percent,
        "number": number,
        "significant": significant,
    }
    return f"[{styles[kind](found.low)}, {styles[kind](found.high)}]"


def short(digest: str | None) -> str:
    """The first twelve digits of a hash."""
    return digest[:12] if digest else DASH


def words(name: str) -> str:
    """`near_duplicate` as `near duplicate`."""
    return name.replace("_", " ")
