"""Long documents cut at paragraph bounds, so that filters and packing see even sizes."""

from __future__ import annotations

import math
import re

# From the best place to cut to the last resort.
_BOUNDS = tuple(re.compile(pattern) for pattern in (r"\n\n", r"\n", r"(?<=[.!?…])\s", r"\s"))


def cut(text: str, max_chars: int) -> list[str]:
    """Parts of `text` of at most `max_chars` characters and about equal length, in order.

    Each cut is the paragraph bound nearest to the even place; without one a line end, a sentence end, a
    space, or (in text without any) the limit itself. Only the white space at the cuts is lost.
    """
    parts = []
    rest = text.strip()
    while len(rest) > max_chars:
        place = _place(rest, len(rest) / math.ceil(len(rest) / max_chars), max_chars)
        parts.append(rest[:place].rstrip())
        rest = rest[place:].lstrip()
    return [*parts, rest] if rest else parts


def _place(text: str, ideal: float, max_chars: int) -> int:
    for bound in _BOUNDS:
        places = [
            match.start() for match in bound.finditer(text, 1, max_chars + 1) if match.start() >= ideal / 2
        ]
        if places:
            return min(places, key=lambda place: (abs(place - ideal), place))
    return max_chars
