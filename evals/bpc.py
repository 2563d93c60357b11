"""Bits per character on held-out text: comparable across tokenizers, and across alphabets unlike bits per
byte.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from evals.errors import EvalError
from evals.logprobs import LOGIT_BUDGET, encode, text_logprobs
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


def bits_per_character(
    model: Any,
    tokenizer: Any,
    documents: list[Document],
    window: int,
    budget: int = LOGIT_BUDGET,
    advance: Callable[[int], None] = lambda _: None,
) -> Bits:
    """Score `documents` with the model's own tokenizer; see `evals.logprobs.text_logprobs` for the windows.

    Raises `EvalError` when there is no document or a log-probability is not finite.
    """
    if not documents:
        raise EvalError("no held-out documents to measure bits per character on; raise corpus.heldout_share")
    texts = [document.text for document in documents]
    logprobs = text_logprobs(model, tokenizer, texts, window, budget, advance)
    unknown = tokenizer.unk_token_id
    lost = sum(ids.count(unknown) for ids in encode(tokenizer, texts)) if unknown is not None else 0
    bits = tuple(-value / math.log(2) for value in logprobs)
    return Bits(tuple(documents), bits, tuple(len(text) for text in texts), lost)
