"""Decontamination: documents that contain test items are found by the words of the items' filled inputs.

A run of 13 words (Brown et al. 2020, arXiv 2005.14165, appendix C) of an item with its places filled is evidence when
most of them come from the inputs: instructions are shared by all items. So is a run of 13 words of the inputs alone,
whatever layout the leak has. Inputs of 8 to 12 words must stand in the document whole; shorter ones are no evidence
(`7 + 5` is arithmetic, not a leak) and count as not protected. Runs that the training items hold too are no evidence
either: they would drop documents that merely have the form of the task.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stages.common.errors import UserError
from stages.common.outside import expand
from stages.corpus.words import Hashes, WordHasher, ngram_hashes, normal_words

NGRAM = 13
SHORTEST = 8
MOSTLY = 7  # input words among 13
_PLACE = re.compile(r"\{(\w+)\}")

Record = Mapping[str, Any]


def filled_inputs(inputs: Any) -> str:
    """The inputs of a MERA-form record as text: a string as it is, the values of an object in their order."""
    if isinstance(inputs, dict):
        return " ".join(filled_inputs(value) for value in inputs.values())
    if isinstance(inputs, list):
        return " ".join(filled_inputs(value) for value in inputs)
    return str(inputs)


def prompt_words(record: Record) -> tuple[list[str], list[bool]]:
    """(words of the instruction with its places filled, whether each word comes from the inputs)."""
    inputs = record["inputs"]
    fields = inputs if isinstance(inputs, dict) else {"inputs": inputs}
    words: list[str] = []
    own: list[bool] = []
    # re.split with one group alternates literal text and names of places.
    for number, piece in enumerate(_PLACE.split(str(record.get("instruction", "")))):
        is_place = number % 2 == 1 and piece in fields
        new = normal_words(filled_inputs(fields[piece]) if is_place else piece)
        words += new
        own += [is_place] * len(new)
    return words, own


class TestItems:
    """The hashes of the test items' runs of words, sorted, by their length (8 to 13)."""

    __test__ = False

    def __init__(self, test: Iterable[Record], train: Iterable[Record], hasher: WordHasher) -> None:
        """`test` and `train` are MERA-form records; what `train` holds too is no evidence."""
        self._hasher = hasher
        self.counts = {"items": 0, "by_13_words": 0, "whole": 0, "too_short": 0}
        runs: dict[int, list[Hashes]] = {}
        for record in test:
            found = self._runs(record)
            self.counts["items"] += 1
            self.counts["by_13_words" if NGRAM in found else "whole" if found else "too_short"] += 1
            for size, hashes in found.items():
                runs.setdefault(size, []).append(hashes)
        self._grams = {size: np.unique(np.concatenate(parts)) for size, parts in sorted(runs.items())}
        self._forgive(train)

    def _runs(self, record: Record) -> dict[int, Hashes]:
        """Length of run -> hashes of the runs that are evidence of this item."""
        words, own = prompt_words(record)
        inputs = self._hasher(normal_words(filled_inputs(record["inputs"])))
        runs = ngram_hashes(self._hasher(words), NGRAM)
        if len(runs):
            mostly = (
                np.convolve(np.array(own, dtype=np.int64), np.ones(NGRAM, dtype=np.int64), "valid") >= MOSTLY
            )
            runs = runs[mostly]
        found = {NGRAM: np.concatenate([runs, ngram_hashes(inputs, NGRAM)])}
        if SHORTEST <= len(inputs) < NGRAM:
            found[len(inputs)] = ngram_hashes(inputs, len(inputs))
        return {size: hashes for size, hashes in found.items() if len(hashes)}

    def _forgive(self, train: Iterable[Record]) -> None:
        shared: dict[int, list[Hashes]] = {size: [] for size in self._grams}
        for record in train:
            texts = (normal_words(filled_inputs(record["inputs"])), prompt_words(record)[0])
            for words in map(self._hasher, texts):
                for size, parts in shared.items():
                    parts.append(ngram_hashes(words, size))
        for size, parts in shared.items():
            if parts:
                self._grams[size] = np.setdiff1d(self._grams[size], np.concatenate(parts))

    def hits(self, words: Hashes) -> int:
        """How many runs of words of a document (hashes, shape (words,)) are those of test items."""
        return sum(_common(ngram_hashes(words, size), grams) for size, grams in self._grams.items())


def _common(hashes: Hashes, known: Hashes) -> int:
    """How many of `hashes` are among the sorted `known`."""
    if not len(known):
        return 0
    places = np.minimum(np.searchsorted(known, hashes), len(known) - 1)
    return int((known[places] == hashes).sum())


def protected_records(patterns: Iterable[str]) -> Iterator[Record]:
    """The records of the files of `corpus.protect`. Raises `UserError` with file and line."""
    for number, pattern in enumerate(patterns):
        for path in expand(pattern, f"corpus.protect.{number}"):
            yield from _read_records(path)


def _read_records(path: Path) -> Iterator[Record]:
    import json

    from stages.corpus.files import read_lines

    for line, text in read_lines(path):
        try:
            record = json.loads(text)
        except (ValueError, RecursionError) as error:
            what = f"{path}, line {line}: not JSON ({error})"
            raise UserError(f"{what}; corpus.protect takes task files in MERA form") from error
        if not isinstance(record, dict) or record.get("inputs") in (None, "", {}, []):
            raise UserError(
                f"{path}, line {line}: a task record without the field `inputs`; mend or remove it"
            )
        yield record
