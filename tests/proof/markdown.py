"""Tables of the documentation and the values in them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ("---",) * len(head), *rows))


def spread(value: dict[str, Any], sign: str = "", form: str = ".4f") -> str:
    """A mean with its interval; `sign` "+" shows the sign of every number."""
    mean, low, high = (format(value[key], f"{sign}{form}") for key in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]"
