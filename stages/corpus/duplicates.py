"""Exact and near duplicates: of every group the first document stays.

Near duplicates are found by MinHash (Broder 1997) with multiply-shift hashing (Dietzfelbinger et al. 1997)
over word 5-grams and locality-sensitive hashing in bands (Indyk and Motwani 1998), then verified by the
Jaccard similarity of the very sets, so that an unlucky hash never drops a document.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import xxhash
from numpy.typing import NDArray

from stages.corpus.words import Hashes, ngram_hashes

PERMUTATIONS = 128
SHINGLE = 5
RECALL = 0.99
_SEED = 20_230_517


def content_key(words: list[str]) -> bytes:
    """Digest of the normal words of a text: the same when only case, spaces and punctuation differ."""
    return hashlib.sha256(" ".join(words).encode("utf-8", "surrogatepass")).digest()


class ExactIndex:
    """Remembers the first document of every content."""

    def __init__(self) -> None:
        self._first: dict[bytes, str] = {}

    def find(self, key: bytes) -> str | None:
        """The id of the kept document with this `content_key`, or None."""
        return self._first.get(key)

    def add(self, key: bytes, document: str) -> None:
        """Remember a kept document."""
        self._first.setdefault(key, document)


def bands_for(similarity: float) -> tuple[int, int]:
    """(bands, rows), bands * rows <= 128, that find a pair of this similarity with probability >= 0.99.

    P = 1 - (1 - s^rows)^bands (Leskovec et al., Mining of Massive Datasets, section 3.4.2); more rows mean
    fewer candidates to verify, so the most rows that still find the pair are taken.
    """
    for rows in range(16, 0, -1):
        bands = PERMUTATIONS // rows
        if 1 - (1 - similarity**rows) ** bands >= RECALL:
            return bands, rows
    return PERMUTATIONS, 1


def shingles(words: Hashes) -> Hashes:
    """Sorted distinct hashes of the word 5-grams of a document; a shorter one is a single shingle."""
    return np.unique(ngram_hashes(words, min(SHINGLE, max(len(words), 1))))


def jaccard(a: Hashes, b: Hashes) -> float:
    """|A and B| / |A or B| of two sorted arrays without repeats."""
    common = len(np.intersect1d(a, b, assume_unique=True))
    union = len(a) + len(b) - common
    return common / union if union else 1.0


@dataclass(frozen=True)
class Probe:
    """A document as the index sees it: its sorted shingles and one key for each band."""

    items: Hashes
    keys: list[int]


class NearIndex:
    """Kept documents by the bands of their MinHash signatures.

    A document costs 8 bytes for each of its words and a table entry for each band.
    """

    def __init__(self, similarity: float) -> None:
        self.similarity = similarity
        self._bands, self._rows = bands_for(similarity)
        generator = np.random.Generator(np.random.PCG64(_SEED))
        count = self._bands * self._rows
        self._a: Hashes = generator.integers(0, 2**63, count, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
        self._b: Hashes = generator.integers(0, 2**63, count, dtype=np.uint64)
        self._buckets: dict[int, list[int]] = {}
        self._sets: list[Hashes] = []
        self._ids: list[str] = []

    def signature(self, items: Hashes) -> NDArray[np.uint32]:
        """MinHash of a set: (bands * rows,) minima of (a x + b mod 2^64) >> 32."""
        lowest = np.full(len(self._a), 2**64 - 1, dtype=np.uint64)
        for start in range(0, len(items), 1024):
            hashed = items[start : start + 1024, None] * self._a[None, :] + self._b[None, :]
            np.minimum(lowest, hashed.min(axis=0), out=lowest)
        return (lowest >> np.uint64(32)).astype(np.uint32)

    def probe(self, words: Hashes) -> Probe:
        """What `find` and `add` need to know of a document with these word hashes, shape (words,)."""
        items = shingles(words)
        bands = self.signature(items).reshape(self._bands, self._rows)
        keys = [xxhash.xxh3_64_intdigest(band.tobytes(), seed=number) for number, band in enumerate(bands)]
        return Probe(items, keys)

    def find(self, probe: Probe) -> tuple[str, float] | None:
        """(id, similarity) of the first kept document that is at least as similar as asked, or None."""
        size = len(probe.items)
        for place in sorted({place for key in probe.keys for place in self._buckets.get(key, ())}):
            other = self._sets[place]
            if min(size, len(other)) < self.similarity * max(size, len(other)):
                continue
            similarity = jaccard(probe.items, other)
            if similarity >= self.similarity:
                return self._ids[place], similarity
        return None

    def add(self, probe: Probe, document: str) -> None:
        """Remember a kept document."""
        for key in probe.keys:
            self._buckets.setdefault(key, []).append(len(self._ids))
        self._ids.append(document)
        self._sets.append(probe.items)
