"""The values that travel through cleaning."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass


@dataclass(frozen=True)
class Record:
    """A document as it was read. `id` is unique and stable: file and line, or the world's own id."""

    id: str
    source: str
    subset: str
    language: str
    licence: str
    text: str


@dataclass(frozen=True)
class Unreadable:
    """A record that could not be read; it counts against `corpus.broken_lines_share` of its file."""

    file: str
    line: int
    reason: str


@dataclass(frozen=True)
class LedgerRow:
    """What happened to one document: `kept`, `changed` (kept, but not as it was) or `dropped`, and why.

    `detail` holds numbers, languages and ids of other documents, never text or personal data.
    """

    id: str
    source: str
    subset: str
    action: str
    reasons: tuple[str, ...]
    detail: str


@dataclass(frozen=True)
class Document:
    """A kept document with the columns of documents.parquet, but for the split, which needs all of them.

    `record` is what it was made from; the `id` of a part of a long record is `<record id>#<number>`.
    """

    record: Record
    id: str
    text: str
    n_words: int
    lang: str
    lang_score: float
    mojibake: bool
    repeated_line_share: float
    pii: int
    pii_kinds: Counter[str]
