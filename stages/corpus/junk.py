"""Junk by counting: repetition, symbols and words.

The rules are those of Gopher (Rae et al. 2021, arXiv 2112.11446, table A1) and FineWeb (Penedo et al. 2024,
arXiv 2406.17557, section 3.6), the limits those of FineWeb2 for rus_Cyrl (Penedo et al. 2025, arXiv
2506.20920), loosened where classic prose, plays and verse failed them. A rule that needs a sample looks only
at long texts.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

WORD = re.compile(r"\w+(?:[-'’]\w+)*")
_SENTENCE_ENDS = tuple('.!?…:;,»"”)—-')
_MARKUP = re.compile(r"[<>{}\[\]|\\^~#@*_=+$%&/]")
_SPACE = re.compile(r"\s+")
_LETTER = re.compile(r"[^\W\d_]")
_LONG_TOKEN = re.compile(r"\S{61,}")


@dataclass(frozen=True)
class Limits:
    """Least or greatest values a text may have. FineWeb2's own stand behind those that differ."""

    words: int = 4
    lines: int = 12  # below this neither line ends nor repeated lines are a statistic: questions with answers
    mean_word_min: float = 2.0  # 3: arithmetic in words and tables of sums are text here
    mean_word_max: float = 11.0
    alphabetic_words: float = 0.4  # 0.713: the same
    letters: float = 0.4
    symbols: float = 0.1
    line_ends: float = 0.05  # 0.231: plays and lists of names
    newlines_per_word: float = 0.6  # 0.139: verse has four words a line
    duplicate_lines: float = 0.322
    duplicate_line_chars: float = 0.25
    word_run: int = 5
    word_run_share: float = 0.05  # a laugh of seven words is no junk in a chapter
    distinct_words: float = 0.2
    top_ngrams: tuple[tuple[int, float], ...] = ((2, 0.2), (3, 0.18), (4, 0.16))
    duplicate_ngrams: tuple[tuple[int, float], ...] = ((5, 0.3), (8, 0.25))
    ngram_words: int = 150  # below this a refrain is not a statistic


LIMITS = Limits()


def junk_reason(text: str, limits: Limits = LIMITS) -> str | None:
    """The first rule that `text` breaks, as `name=value`; None for text that passes them all."""
    words = WORD.findall(text)
    if len(words) < limits.words:
        return f"words={len(words)}"
    return (
        _characters(text, words, limits)
        or _lines(text, len(words), limits)
        or _repetition([word.casefold() for word in words], limits)
    )


def _characters(text: str, words: Sequence[str], limits: Limits) -> str | None:
    mean = sum(map(len, words)) / len(words)
    visible = len(_SPACE.sub("", text))
    letters = len(_LETTER.findall(text)) / visible
    symbols = len(_MARKUP.findall(text)) / visible
    alphabetic = sum(_LETTER.search(word) is not None for word in words) / len(words)
    unbroken = sum(map(len, _LONG_TOKEN.findall(text))) / visible
    return _first(
        ("mean_word", mean, limits.mean_word_min <= mean <= limits.mean_word_max),
        ("letters", letters, letters >= limits.letters),
        ("symbols", symbols, symbols <= limits.symbols),
        ("alphabetic_words", alphabetic, alphabetic >= limits.alphabetic_words),
        ("unbroken", unbroken, unbroken <= 0.2),
    )


def _lines(text: str, words: int, limits: Limits) -> str | None:
    lines = [line for line in text.split("\n") if line.strip()]
    if len(lines) < limits.lines:
        return None
    ends = sum(line.endswith(_SENTENCE_ENDS) for line in lines) / len(lines)
    per_word = len(lines) / words
    repeated, characters = _repeated(lines)
    return _first(
        ("line_ends", ends, ends >= limits.line_ends),
        ("newlines_per_word", per_word, per_word <= limits.newlines_per_word),
        ("duplicate_lines", repeated, repeated <= limits.duplicate_lines),
        ("duplicate_line_chars", characters, characters <= limits.duplicate_line_chars),
    )


def _repeated(lines: Sequence[str]) -> tuple[float, float]:
    counts = Counter(lines)
    again = {line: count - 1 for line, count in counts.items() if count > 1}
    characters = sum(len(line) * count for line, count in again.items())
    return sum(again.values()) / max(len(lines), 1), characters / max(sum(map(len, lines)), 1)


def repeated_line_share(text: str) -> float:
    """Share of the lines of `text` that stood in it before."""
    return _repeated([line for line in text.split("\n") if line.strip()])[0]


def _repetition(words: Sequence[str], limits: Limits) -> str | None:
    longest = longest_run(words)
    # The more words, the fewer new ones (Heaps' law), so only the first thousand are compared.
    distinct = len(set(words[:1000])) / len(words[:1000])
    found = _first(
        ("word_run", longest, longest < max(limits.word_run, limits.word_run_share * len(words))),
        ("distinct_words", distinct, distinct >= limits.distinct_words),
    )
    if found or len(words) < limits.ngram_words:
        return found
    size = sum(map(len, words))
    for n, limit in limits.top_ngrams:
        share = _top_share(words, n) / size
        if share > limit:
            return f"top_{n}gram={share:.3f}"
    for n, limit in limits.duplicate_ngrams:
        share = _duplicate_share(words, n) / size
        if share > limit:
            return f"duplicate_{n}gram={share:.3f}"
    return None


def longest_run(words: Sequence[str]) -> int:
    """Length of the longest run of one and the same word."""
    longest = run = 1
    for before, after in pairwise(words):
        run = run + 1 if before == after else 1
        longest = max(longest, run)
    return longest if words else 0


def _top_share(words: Sequence[str], n: int) -> int:
    """Characters covered by the most frequent n-gram, counted as in Gopher: length times count."""
    counts = Counter(zip(*(words[i:] for i in range(n)), strict=False))
    if not counts:
        return 0
    most = max(counts.values())
    longest = max(sum(map(len, gram)) for gram, count in counts.items() if count == most)
    return longest * most if most > 1 else 0


def _duplicate_share(words: Sequence[str], n: int) -> int:
    """Characters inside n-grams that stood in the text before, each counted once (Gopher)."""
    seen: set[tuple[str, ...]] = set()
    characters, place = 0, 0
    while place <= len(words) - n:
        gram = tuple(words[place : place + n])
        if gram in seen:
            characters += sum(map(len, gram))
            place += n
        else:
            seen.add(gram)
            place += 1
    return characters


def _first(*rules: tuple[str, float, bool]) -> str | None:
    return next((f"{name}={value:.3f}" for name, value, passes in rules if not passes), None)
