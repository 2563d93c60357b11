"""Decontamination: documents that contain test items are found by the words of the items' filled inputs.

An item with 13 words or more is recognised by any 13 of them in a row (Brown et al. 2020, arXiv 2005.14165, appendix C).
A shorter one must stand in the document whole; below `SHORTEST` words it is no evidence (`7 + 5` is arithmetic, not a
leak), and is counted as not protected. Instructions are shared by all items and play no part, nor does any run of words
that the training items hold too: both would drop documents that merely have the form of the task.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from stages.common.errors import UserError
from stages.common.outside import expand
from stages.corpus.words import Hashes, WordHasher, ngram_hashes, normal_words

NGRAM = 13
SHORTEST = 8


def filled_inputs(inputs: Any) -> str:
    """The inputs of a MERA-form record as text: a string as it is, the values of an object in their order."""
    if isinstance(inputs, dict):
        return " ".join(filled_inputs(value) for value in inputs.values())
    if isinstance(inputs, list):
        return " ".join(filled_inputs(value) for value in inputs)
    return str(inputs)


class TestItems:
    """The hashes of the test items: by number of words (8 to 13), sorted."""

    __test__ = False

    def __init__(self, test: Iterable[Any], train: Iterable[Any], hasher: WordHasher) -> None:
        """`test` and `train` are the `inputs` of records; runs of words that `train` holds too are no evidence."""
        self._hasher = hasher
        grams: dict[int, list[Hashes]] = {}
        self.counts = {"items": 0, "by_13_words": 0, "whole": 0, "too_short": 0}
        for inputs in test:
            words = hasher(normal_words(filled_inputs(inputs)))
            self._count(len(words))
            if len(words) >= SHORTEST:
                size = min(len(words), NGRAM)
                grams.setdefault(size, []).append(ngram_hashes(words, size))
        self._grams = {size: np.unique(np.concatenate(parts)) for size, parts in sorted(grams.items())}
        self._forgive(train)

    def _count(self, words: int) -> None:
        self.counts["items"] += 1
        kind = "by_13_words" if words >= NGRAM else "whole" if words >= SHORTEST else "too_short"
        self.counts[kind] += 1

    def _forgive(self, train: Iterable[Any]) -> None:
        shared: dict[int, list[Hashes]] = {size: [] for size in self._grams}
        for inputs in train:
            words = self._hasher(normal_words(filled_inputs(inputs)))
            for size, parts in shared.items():
                parts.append(ngram_hashes(words, size))
        for size, parts in shared.items():
            if parts:
                self._grams[size] = np.setdiff1d(self._grams[size], np.concatenate(parts))

    def hits(self, words: Hashes) -> int:
        """How many runs of words of a document (hashes, shape (words,)) are those of test items."""
        return sum(
            int(np.isin(ngram_hashes(words, size), grams).sum()) for size, grams in self._grams.items()
        )


def protected_inputs(patterns: Iterable[str]) -> Iterator[Any]:
    """The `inputs` of every record of the files of `corpus.protect`. Raises `UserError` with file and line."""
    for number, pattern in enumerate(patterns):
        for path in expand(pattern, f"corpus.protect.{number}"):
            yield from _read_inputs(path)


def _read_inputs(path: Path) -> Iterator[Any]:
    import json

    from stages.corpus.files import read_lines

    for line, text in read_lines(path):
        try:
            record = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UserError(
                f"{path}, line {line}: not JSON ({error}); corpus.protect takes task files"
            ) from error
        if not isinstance(record, dict) or record.get("inputs") in (None, "", {}, []):
            raise UserError(
                f"{path}, line {line}: a task record without the field `inputs`; mend or remove it"
            )
        yield record["inputs"]
