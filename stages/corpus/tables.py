"""The parquet tables, with fixed schemas; documents are spooled, so that memory holds one batch of texts."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from stages.corpus.language import script_shares
from stages.corpus.record import Document, LedgerRow

DOCUMENTS = pa.schema(
    [
        ("id", pa.string()),
        ("source", pa.string()),
        ("subset", pa.string()),
        ("language", pa.string()),
        ("licence", pa.string()),
        ("split", pa.string()),
        ("text", pa.string()),
        ("n_chars", pa.int64()),
        ("n_words", pa.int64()),
        ("cyrillic_share", pa.float64()),
        ("latin_share", pa.float64()),
        ("digit_share", pa.float64()),
        ("punct_share", pa.float64()),
        ("lang", pa.string()),
        ("lang_score", pa.float64()),
        ("mojibake", pa.bool_()),
        ("repeated_line_share", pa.float64()),
        ("pii", pa.int64()),
        ("sha256", pa.string()),
    ]
)
LEDGER = pa.schema(
    [
        ("id", pa.string()),
        ("source", pa.string()),
        ("subset", pa.string()),
        ("action", pa.string()),
        ("reasons", pa.list_(pa.string())),
        ("detail", pa.string()),
    ]
)
TRUTH = pa.schema(
    [
        ("document_id", pa.string()),
        ("defect", pa.string()),
        ("detail", pa.string()),
        ("action", pa.string()),
        ("reasons", pa.list_(pa.string())),
        ("handled", pa.bool_()),
    ]
)
BATCH_CHARS = 4_000_000
_DIGIT = re.compile(r"\d")
_PUNCTUATION = re.compile(r"[^\w\s]")


def row(document: Document) -> dict[str, Any]:
    """The columns of a kept document; its split is not known yet."""
    text, record = document.text, document.record
    cyrillic, latin = script_shares(text)
    return {
        "id": document.id,
        "source": record.source,
        "subset": record.subset,
        "language": record.language,
        "licence": record.licence,
        "split": "train",
        "text": text,
        "n_chars": len(text),
        "n_words": document.n_words,
        "cyrillic_share": cyrillic,
        "latin_share": latin,
        "digit_share": len(_DIGIT.findall(text)) / len(text),
        "punct_share": len(_PUNCTUATION.findall(text)) / len(text),
        "lang": document.lang,
        "lang_score": document.lang_score,
        "mojibake": document.mojibake,
        "repeated_line_share": document.repeated_line_share,
        "pii": document.pii,
        "sha256": hashlib.sha256(text.encode()).hexdigest(),
    }


class DocumentTable:
    """Writes documents.parquet in two passes: a spool while documents come, then the file with its splits."""

    def __init__(self, path: Path) -> None:
        self._path, self._spool = path, path.with_name(f".{path.name}.spool")
        self._writer = pq.ParquetWriter(self._spool, DOCUMENTS, compression="zstd")
        self._rows: list[dict[str, Any]] = []
        self._chars = 0

    def add(self, document: Document) -> None:
        """Append a kept document."""
        self._rows.append(row(document))
        self._chars += len(document.text)
        if self._chars >= BATCH_CHARS:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(pa.Table.from_pylist(self._rows, schema=DOCUMENTS))
            self._rows, self._chars = [], 0

    def finish(self, held: set[str]) -> None:
        """Give every document its split and write the table; `held` are the ids of the held-out ones."""
        self._flush()
        self._writer.close()
        place = DOCUMENTS.get_field_index("split")
        spool = pq.ParquetFile(self._spool)
        with pq.ParquetWriter(self._path, DOCUMENTS, compression="zstd") as writer:
            for number in range(spool.num_row_groups):
                table = spool.read_row_group(number)
                splits = ["heldout" if name in held else "train" for name in table["id"].to_pylist()]
                writer.write_table(table.set_column(place, DOCUMENTS.field(place), pa.array(splits)))
        spool.close()
        self._spool.unlink()


def write_ledger(path: Path, rows: Sequence[LedgerRow]) -> None:
    """Write ledger.parquet, one row per document, in the order of reading."""
    columns = {name: [getattr(row, name) for row in rows] for name in LEDGER.names}
    columns["reasons"] = [list(row.reasons) for row in rows]
    pq.write_table(pa.table(columns, schema=LEDGER), path, compression="zstd")


def write_truth(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write truth.parquet: every planted defect and what cleaning did about it."""
    pq.write_table(pa.Table.from_pylist(list(rows), schema=TRUTH), path, compression="zstd")
