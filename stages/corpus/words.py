"""Words as 64-bit hashes, and hashes of their n-grams: what duplicate search and decontamination compare."""

from __future__ import annotations

import re

import numpy as np
import xxhash
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
_WORD = re.compile(r"\w+")
_BASE = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xD6E8FEB86659FD93)
_CACHED = 500_000


def normal_words(text: str) -> list[str]:
    """The words of `text` in lower case with ё as е; punctuation is lost, digits stay, because numbers are facts."""
    return _WORD.findall(text.casefold().replace("ё", "е"))


class WordHasher:
    """Hashes words with xxh3 and remembers the frequent ones."""

    def __init__(self) -> None:
        self._known: dict[str, int] = {}

    def __call__(self, words: list[str]) -> Hashes:
        """One uint64 a word, shape (words,)."""
        known = self._known
        if len(known) > _CACHED:
            known.clear()
        values = []
        for word in words:
            value = known.get(word)
            if value is None:
                value = known[word] = xxhash.xxh3_64_intdigest(word.encode("utf-8", "surrogatepass"))
            values.append(value)
        return np.array(values, dtype=np.uint64)


def ngram_hashes(words: Hashes, n: int) -> Hashes:
    """Hash of every run of `n` words, shape (max(words - n + 1, 0),): a polynomial in `_BASE` modulo 2^64, mixed."""
    count = len(words) - n + 1
    if count <= 0:
        return np.empty(0, dtype=np.uint64)
    total = np.zeros(count, dtype=np.uint64)
    for place in range(n):
        total = total * _BASE + words[place : place + count]
    total = (total ^ (total >> np.uint64(32))) * _MIX
    return total ^ (total >> np.uint64(29))
