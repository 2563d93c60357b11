"""Decontamination: documents that contain test items are found by the words of the items' filled inputs.

Evidence is a run of 13 words (Brown et al. 2020, arXiv 2005.14165, appendix C) of the inputs of an item, or
of the item with its places filled when most words of the run come from the inputs: instructions are shared by
all items. An item of less than 26 words, from its first input word to its last, must stand in the document
whole, because 13 of its words may be the options that it shares with others; so must inputs of 8 to 12 words.
Shorter inputs are no evidence (`7 + 5` is arithmetic, not a leak) and count as not protected. Runs that the
training items hold too are no evidence either: they would drop documents that merely have the form of the
task.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stages.common.errors import UserError, one_line
from stages.common.outside import expand, text_format
from stages.common.snapshots import dataset_folder
from stages.common.suites import HUB, WORLD
from stages.corpus.words import Hashes, WordHasher, ngram_hashes, ngrams, normal_words

if TYPE_CHECKING:
    from stages.corpus.world.model import World

NGRAM = 13
SHORTEST = 8
MOSTLY = 7  # input words among 13
LONG = 26  # words of an item of which any run is evidence
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


def _from_first_input_to_last(words: list[str], own: list[bool]) -> tuple[list[str], list[bool]]:
    if not any(own):
        return [], []
    start, end = own.index(True), len(own) - own[::-1].index(True)
    return words[start:end], own[start:end]


class TestItems:
    """The hashes of the test items' runs of words, sorted, by their length (8 to 25)."""

    __test__ = False

    def __init__(self, test: Iterable[Record], train: Iterable[Record], hasher: WordHasher) -> None:
        """`test` and `train` are MERA-form records; what `train` holds too is no evidence."""
        self._hasher = hasher
        self.counts = {"items": 0, "by_13_words": 0, "whole": 0, "too_short": 0}
        runs: dict[int, list[Hashes]] = {}
        eights: list[Hashes] = [np.empty(0, dtype=np.uint64)]
        for record in test:
            found = self.runs(record)
            self.counts["items"] += 1
            self.counts["by_13_words" if NGRAM in found else "whole" if found else "too_short"] += 1
            for size, hashes in found.items():
                runs.setdefault(size, []).append(hashes)
            for words in self._both(record):
                eights.append(ngram_hashes(words, SHORTEST))
        self._eights = np.unique(np.concatenate(eights))
        self._grams = {size: np.unique(np.concatenate(parts)) for size, parts in sorted(runs.items())}
        self._forgive(train)

    def runs(self, record: Record) -> dict[int, Hashes]:
        """Length of run -> hashes of the runs that are evidence of this item; none for one that is too short.

        Runs that training items hold too are among them.
        """
        inputs = self._hasher(normal_words(filled_inputs(record["inputs"])))
        found = {NGRAM: [ngram_hashes(inputs, NGRAM)]}
        if SHORTEST <= len(inputs) < NGRAM:
            found.setdefault(len(inputs), []).append(ngram_hashes(inputs, len(inputs)))
        words, own = _from_first_input_to_last(*prompt_words(record))
        hashes = self._hasher(words)
        if len(words) >= LONG:
            count = np.convolve(np.array(own, dtype=np.int64), np.ones(NGRAM, dtype=np.int64), "valid")
            found[NGRAM].append(ngram_hashes(hashes, NGRAM)[count >= MOSTLY])
        elif words and len(inputs) >= SHORTEST:
            found.setdefault(len(words), []).append(ngram_hashes(hashes, len(words)))
        runs = {size: np.concatenate(parts) for size, parts in found.items()}
        return {size: hashes for size, hashes in runs.items() if len(hashes)}

    def _both(self, record: Record) -> tuple[Hashes, Hashes]:
        """Words of the inputs alone, and of the item with its places filled."""
        inputs = normal_words(filled_inputs(record["inputs"]))
        return self._hasher(inputs), self._hasher(prompt_words(record)[0])

    def _forgive(self, train: Iterable[Record]) -> None:
        shared: dict[int, list[Hashes]] = {size: [] for size in self._grams}
        for record in train:
            for words in self._both(record):
                for size, hashes in ngrams(words, self._grams).items():
                    shared[size].append(hashes)
        for size, parts in shared.items():
            if parts:
                self._grams[size] = np.setdiff1d(self._grams[size], np.concatenate(parts))

    def hits(self, words: Hashes) -> int:
        """How many runs of words of a document (hashes, shape (words,)) are those of test items."""
        return sum(len(hashes) for hashes in self.found(words).values())

    def found(self, words: Hashes) -> dict[int, Hashes]:
        """Length of run -> the runs of a document that are those of test items, each as often as it stands
        there.
        """
        # Every run of evidence begins with 8 words of its item, and hardly any document shares even those.
        if not len(_common(ngram_hashes(words, SHORTEST), self._eights)):
            return {}
        runs = ngrams(words, self._grams)
        return {size: _common(runs[size], known) for size, known in self._grams.items()}


def _common(hashes: Hashes, known: Hashes) -> Hashes:
    """Those of `hashes` that are among the sorted `known`."""
    if not len(known):
        return known
    places = np.minimum(np.searchsorted(known, hashes), len(known) - 1)
    return hashes[known[places] == hashes]


def items_of(
    world: World | None, suites: Iterable[str], protect: Iterable[str]
) -> tuple[list[Record], list[Record]]:
    """(test items, which nothing that is trained on may contain; training items).

    Test items are the world's, its questions, those of the suites that score, and those of `corpus.protect`.
    """
    tasks = list(world.tasks.values()) if world else []
    test: list[Record] = [record for task in tasks for record in task.test]
    train: list[Record] = [record for task in tasks for record in task.train]
    questions: list[Record] = list(world.questions) if world else []
    return [*test, *questions, *suite_records(suites), *protected_records(protect)], train


def protected_records(patterns: Iterable[str]) -> Iterator[Record]:
    """The records of the files of `corpus.protect`. Raises `UserError` with file and line."""
    for number, pattern in enumerate(patterns):
        for path in expand(pattern, f"corpus.protect.{number}"):
            for line, value in _read_values(path):
                record = _as_record(value)
                if record is None:
                    raise UserError(
                        f"{path}, line {line}: a task record without the field `inputs`; mend or remove it"
                    )
                yield record


def suite_records(suites: Iterable[str]) -> Iterator[Record]:
    """The test items below the folders of `evaluate.suites`, scored or not; other lines are no items.

    A `train` split is meant for training. Raises `UserError` with file and line.
    """
    for number, suite in enumerate(suites):
        if suite == WORLD:
            continue
        at_hub = suite.startswith(HUB)
        folder = str(dataset_folder(suite.removeprefix(HUB), fetch=False)) if at_hub else suite
        formats = (".jsonl", ".parquet") if at_hub else (".jsonl",)
        for path in expand(folder, f"evaluate.suites.{number}"):
            if re.split("[.-]", path.name)[0] != "train" and text_format(path) in formats:
                yield from filter(None, (_as_record(value) for _, value in _read_values(path)))


def _as_record(value: Any) -> Record | None:
    """A MERA-form record as it is, the acceptable sentence of a minimal pair as inputs; else None."""
    if not isinstance(value, dict):
        return None
    if isinstance(value.get("good"), str) and isinstance(value.get("bad"), str):
        return {"inputs": value["good"]}
    return None if value.get("inputs") in (None, "", {}, []) else value


def _read_values(path: Path) -> Iterator[tuple[int, Any]]:
    import json

    from stages.corpus.files import read_lines

    if text_format(path) == ".parquet":
        yield from enumerate(_parquet_rows(path), start=1)
        return
    for line, text in read_lines(path):
        try:
            yield line, json.loads(text)
        except (ValueError, RecursionError) as error:
            what = f"{path}, line {line}: not JSON ({error})"
            raise UserError(f"{what}; task files in MERA form are needed here") from error


def _parquet_rows(path: Path) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        for batch in pq.ParquetFile(path).iter_batches(batch_size=512):
            yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: damaged parquet file ({one_line(error)}); copy it again") from error
