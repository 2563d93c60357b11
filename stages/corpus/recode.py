"""Russian text that was read in the wrong single-byte encoding; ftfy mends misread UTF-8 only."""

from __future__ import annotations

import re

# (encoding it was read in, encoding it was written in), frequent accidents first.
_ACCIDENTS = (
    ("cp1252", "cp1251"),
    ("latin-1", "cp1251"),
    ("cp1251", "koi8-r"),
    ("koi8-r", "cp1251"),
    ("cp1251", "cp866"),
    ("cp866", "cp1251"),
    ("koi8-r", "utf-8"),
    ("cp866", "utf-8"),
)
# All are so short or so frequent that a page of Russian without any of them is no Russian.
_FREQUENT = re.compile(
    r"\b(?:и|в|на|не|с|что|по|а|к|как|это|из|у|за|от|он|до|для|его|был|о|но)\b", re.IGNORECASE
)
_RUSSIAN = re.compile(r"[а-яё]", re.IGNORECASE)
_WORD = re.compile(r"\w+")
LEAST_WORDS = 5
LEAST_LETTERS = 0.9  # share of Russian letters among the letters of a text that was decoded well
LEAST_FREQUENT = 0.03  # share of frequent words; about 0.2 in prose


def frequent_share(text: str) -> float:
    """Share of the words of `text` that are among the most frequent of Russian."""
    return len(_FREQUENT.findall(text)) / max(len(_WORD.findall(text)), 1)


def _russian_share(text: str) -> float:
    return len(_RUSSIAN.findall(text)) / max(sum(map(str.isalpha, text)), 1)


def suspicious(text: str) -> bool:
    """Whether a text that should be Russian has enough words to tell and not one of the frequent ones."""
    return not _FREQUENT.search(text) and len(_WORD.findall(text)) >= LEAST_WORDS


def russian_recoding(text: str) -> str | None:
    """`text` as it was before it was read in the wrong encoding; None when no accident explains it."""
    for read, written in _ACCIDENTS:
        try:
            candidate = text.encode(read).decode(written)
        except UnicodeError:
            continue
        if _russian_share(candidate) >= LEAST_LETTERS and frequent_share(candidate) >= LEAST_FREQUENT:
            return candidate
    return None
