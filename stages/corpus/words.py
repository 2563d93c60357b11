"""Words as 64-bit hashes, and hashes of their n-grams: what duplicate search and decontamination compare."""

from __future__ import annotations

import re
from collections.abc import Collection

import numpy as np
import xxhash
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
_WORD = re.compile(r"\w+")
_BASE = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xD6E8FEB86659FD93)
_CACHED = 500_000


def normal_words(text: str) -> list[str]:
    """The words of `text` in lower case with ё as е, without punctuation; digits stay: numbers are facts."""
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
    """Hash of every run of `n` words, shape (max(words - n + 1, 0),); see `ngrams`."""
    return ngrams(words, [n])[n]


def ngrams(words: Hashes, sizes: Collection[int]) -> dict[int, Hashes]:
    """Size -> hashes of all runs of so many words: polynomials in `_BASE` modulo 2^64, mixed.

    The runs of n + 1 words come from those of n, so that many sizes cost little more than the longest.
    """
    found = {}
    total = np.zeros(len(words) + 1, dtype=np.uint64)
    for size in range(1, max(sizes, default=0) + 1):
        total = total[:-1] * _BASE + words[size - 1 :] if size <= len(words) else total[:0]
        if size in sizes:
            mixed = (total ^ (total >> np.uint64(32))) * _MIX
            found[size] = mixed ^ (mixed >> np.uint64(29))
    return found
