"""What an answer is read as: MERA's filters of generated text (v1.2; compared with mera_golden)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

NO_MATCH = "-1"
# The first digit, letter or word that stands alone; a Cyrillic А is no Latin A.
_PATTERNS: Mapping[str, re.Pattern[str]] = {
    "digit": re.compile(r"\b[0-9]\b"),
    "letter": re.compile(r"\b[A-D]\b"),
    "yes_no": re.compile(r"\b(?:Да|Нет)\b"),
}


def choice(kind: str, text: str) -> str:
    """The option that a generative twin wrote (`kind`: digit, letter or yes_no), or "-1"."""
    found = _PATTERNS[kind].search(text)
    return found.group() if found else NO_MATCH


def written(text: str) -> str:
    """A written answer: leading blanks go, trailing ones stay."""
    return text.lstrip()


def likeliest(logprobs: Sequence[float], choices: Sequence[str]) -> str:
    """The choice of the greatest summed log-probability, the first of equals."""
    return choices[max(range(len(choices)), key=lambda place: logprobs[place])]
