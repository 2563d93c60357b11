"""Bits per character on held-out text: comparable across tokenizers, and across alphabets unlike bits per
byte.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from evals.errors import EvalError
from evals.logprobs import encode
from evals.records import sort_key


@dataclass(frozen=True)
class Document:
    """A held-out document of one language."""

    id: str
    text: str


@dataclass(frozen=True)
class Bits:
    """Per document: `bits` = -log2 P(text), `characters` = Unicode code points. `unknown`: tokens that lose
    text.
    """

    documents: tuple[Document, ...]
    bits: tuple[float, ...]
    characters: tuple[int, ...]
    unknown: int

    @property
    def value(self) -> float:
        """Sum of bits over sum of characters: long documents weigh more."""
        return math.fsum(self.bits) / sum(self.characters)


def choose(documents: Iterable[Document], characters: int | None) -> list[Document]:
    """Whole documents in the order of a hash of id and text, until `characters` code points are reached."""
    chosen: list[Document] = []
    total = 0
    for document in sorted(documents, key=lambda item: sort_key(item.id, item.text)):
        if characters is not None and total >= characters:
            break
        if document.text:
            chosen.append(document)
            total += len(document.text)
    return chosen


def bits(documents: Sequence[Document], logprobs: Sequence[float], unknown: int) -> Bits:
    """From the natural log P(text) of every document (`evals.logprobs.text_logprobs`); see `Bits`.

    Raises `EvalError` when there is no document.
    """
    if not documents:
        raise EvalError("no held-out documents to measure bits per character on; raise corpus.heldout_share")
    characters = tuple(len(document.text) for document in documents)
    return Bits(tuple(documents), tuple(-value / math.log(2) for value in logprobs), characters, unknown)


def unknown_tokens(tokenizer: Any, texts: Sequence[str]) -> int:
    """How many tokens of `texts` lose text."""
    unknown = tokenizer.unk_token_id
    return 0 if unknown is None else sum(ids.count(unknown) for ids in encode(tokenizer, texts))
