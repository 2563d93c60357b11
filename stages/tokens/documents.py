"""Streaming reads of documents.parquet: what the tokenizer trains on, and what is packed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stages.common.errors import UserError, one_line

COLUMNS = ["subset", "language", "licence", "split", "text"]
BATCH_DOCUMENTS = 512
MAX_CHARS_PER_LANGUAGE = 30_000_000
# A language with little text must not hold the others down to its size.
LEAST_SHARE_OF_LARGEST = 4


def batches(path: Path, columns: list[str] | None = None) -> Iterator[list[dict[str, Any]]]:
    """Rows of the table in its order, some hundred at a time. Raises `UserError` when it is unreadable."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        for batch in file.iter_batches(batch_size=BATCH_DOCUMENTS, columns=columns or COLUMNS):
            yield batch.to_pylist()
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; run the stage `corpus`") from error
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: not the documents table of `corpus` ({one_line(error)})") from error


def balanced_texts(path: Path) -> Iterator[str]:
    """Training documents, thinned evenly so that no language has much more text than another.

    Every language gives at most the size of the smallest, or a quarter of the largest if that is more.
    """
    totals: Counter[str] = Counter()
    for rows in batches(path, ["language", "split", "n_chars"]):
        for row in rows:
            if row["split"] == "train":
                totals[row["language"]] += row["n_chars"]
    if not totals:
        raise UserError(f"{path}: no training document; lower `corpus.heldout_share` or add text")
    cap = max(min(totals.values()), max(totals.values()) // LEAST_SHARE_OF_LARGEST)
    cap = min(cap, MAX_CHARS_PER_LANGUAGE)
    seen: Counter[str] = Counter()
    taken: Counter[str] = Counter()
    for rows in batches(path):
        for row in rows:
            language, text = row["language"], row["text"]
            if row["split"] != "train":
                continue
            seen[language] += len(text)
            if taken[language] * totals[language] <= seen[language] * cap and taken[language] < cap:
                taken[language] += len(text)
                yield text
