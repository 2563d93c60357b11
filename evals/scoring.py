"""Exact match after normalisation, for answers that a model writes out. No regular expression picks an
answer.
"""

from __future__ import annotations

import unicodedata
from typing import Any

_MINUS = "-\u2010\u2011\u2012\u2013\u2014\u2212"


def normalise(answer: str) -> str:
    """Fold case, ё/е, punctuation and blanks.

    Punctuation between two digits stays (a comma becomes a point: 3,5 = 3.5), and so does a minus before a
    digit; an answer of nothing but punctuation stays whole. Full stops after the answer go.
    """
    text = unicodedata.normalize("NFKC", answer).casefold().replace("ё", "е")
    kept = "".join(_sign(text, place) for place in range(len(text)))
    return " ".join(kept.split()) or " ".join(text.split())


def _sign(text: str, place: int) -> str:
    sign = text[place]
    if sign not in _MINUS and not unicodedata.category(sign).startswith("P"):
        return sign
    before = text[place - 1] if place else " "
    after = text[place + 1] if place + 1 < len(text) else " "
    if sign in _MINUS and after.isdigit() and not before.isalnum():
        return "-"
    if before.isdigit() and after.isdigit():
        return "-" if sign in _MINUS else "." if sign == "," else sign
    return " "


def exact_match(gold: str, answer: str) -> float:
    """1.0 when the two are equal after `normalise`, else 0.0."""
    return float(normalise(gold) == normalise(answer))


def process_results(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """lm-eval's hook: the metric of one generated answer."""
    return {"exact_match": exact_match(doc["outputs"], results[0])}
