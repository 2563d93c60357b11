"""Minimal pairs: a grammatical sentence and the same with one planted error; the model should find the first
likelier.

RuBLiMP, arXiv 2406.19232: score = share of pairs with log P(good) > log P(bad).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evals.errors import EvalError
from evals.items import Item
from evals.records import read_jsonl, sort_key

PAIR_FILES = ("pairs*.jsonl.gz", "pairs*.jsonl")
TASK = "rublimp"
_FIELDS = ("id", "good", "bad", "phenomenon")


@dataclass(frozen=True)
class Pair:
    """One pair. `id` names the sentence it was made from: pairs of one sentence are one cluster."""

    id: str
    good: str
    bad: str
    phenomenon: str

    @property
    def cluster(self) -> str:
        """The sentence it was made from; its id means nothing outside this task."""
        return f"{TASK}:{self.id}"

    @property
    def canonical(self) -> str:
        """Its content as canonical JSON, for hashing."""
        return json.dumps([self.id, self.phenomenon, self.good, self.bad], ensure_ascii=False)


def read_pairs(path: Path, per_phenomenon: int | None = None) -> list[Pair]:
    """The pairs of a file, at most `per_phenomenon` of each phenomenon, chosen by a hash of their content.

    Raises `EvalError` that names file, line and field when a field is missing, and when there is no pair.
    """
    found: dict[str, dict[str, Pair]] = {}
    for where, value in read_jsonl(path):
        for field in _FIELDS:
            if not isinstance(value, dict) or not isinstance(value.get(field), str) or not value[field]:
                raise EvalError(f"{where}: field `{field}` is missing or not text")
        pair = Pair(*(value[field] for field in _FIELDS))
        found.setdefault(pair.phenomenon, {})[sort_key(pair.canonical)] = pair
    if not found:
        raise EvalError(f"{path}: no minimal pairs in this file")
    return [
        pairs[key]
        for _, pairs in sorted(found.items())
        for key in sorted(pairs)[: per_phenomenon or len(pairs)]
    ]


def texts(pairs: Sequence[Pair]) -> list[str]:
    """The sentences whose log-probabilities are compared, two a pair."""
    return [text for pair in pairs for text in (pair.good, pair.bad)]


def items(pairs: Sequence[Pair], logprobs: Sequence[float]) -> list[Item]:
    """One item per pair, in their order, from the log-probabilities of `texts`: 1.0 when the good sentence is
    likelier, else 0.0 (a tie is no success).
    """
    return [
        Item(TASK, doc_hash(pair), sort_key(pair.good, pair.bad), pair.cluster, "acc", float(good > bad))
        for pair, good, bad in zip(pairs, logprobs[::2], logprobs[1::2], strict=True)
    ]


def doc_hash(pair: Pair) -> str:
    """By which results of two models are joined."""
    return sort_key(pair.canonical)
