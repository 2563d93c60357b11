"""items.parquet and answers.parquet: fixed schemas, the same bytes for the same values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from evals.bpc import Bits
from evals.items import Item
from evals.questions import Question
from stages.common.hashing import sha256_bytes

ITEM_FIELDS = ("task", "doc_hash", "prompt_hash", "cluster", "metric", "value")
ANSWER_FIELDS = ("id", "cluster", "question", "answer", "reference", "wrong")


def write_items(path: Path, items: Sequence[Item], bits: Mapping[str, Bits]) -> None:
    """One row per item and metric; bits per character as task `bpc_<language>` with metrics `bits` and
    `chars`.

    A held-out document is its own cluster; its text is its prompt.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [
        (item.task, item.doc_hash, item.prompt_hash, item.cluster, item.metric, item.value) for item in items
    ]
    for language, found in sorted(bits.items()):
        for document, bit, characters in zip(found.documents, found.bits, found.characters, strict=True):
            doc_hash = sha256_bytes(f"{document.id}\0{document.text}".encode())
            head = (f"bpc_{language}", doc_hash, sha256_bytes(document.text.encode()), document.id)
            rows += [(*head, "bits", bit), (*head, "chars", float(characters))]
    schema = pa.schema([(name, pa.float64() if name == "value" else pa.string()) for name in ITEM_FIELDS])
    columns = [list(column) for column in zip(*rows, strict=True)]
    pq.write_table(
        pa.Table.from_arrays(
            [pa.array(c, t) for c, t in zip(columns, schema.types, strict=True)], schema=schema
        ),
        path,
    )


def write_answers(path: Path, questions: Sequence[Question], answers: Sequence[str]) -> None:
    """One row per open question, in the order asked; an empty table when none was."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [
        dict(zip(ANSWER_FIELDS, (q.id, q.cluster, q.text, answer, q.reference, q.wrong), strict=True))
        for q, answer in zip(questions, answers, strict=True)
    ]
    pq.write_table(
        pa.Table.from_pylist(rows, schema=pa.schema([(name, pa.string()) for name in ANSWER_FIELDS])), path
    )
