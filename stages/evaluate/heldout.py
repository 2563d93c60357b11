"""What the stage reads of the corpus beside the tasks: held-out documents and open questions."""

from __future__ import annotations

from pathlib import Path

from evals.bpc import Document, choose
from evals.questions import Question, read_questions
from stages.common.errors import UserError, one_line


def read(path: Path, characters: int) -> dict[str, list[Document]]:
    """Held-out documents by language, about `characters` code points of each, chosen by a hash.

    Raises `UserError` when the table is missing or unreadable, or holds no held-out document.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path, columns=["id", "language", "text"], filters=[("split", "==", "heldout")])
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; run `dvc repro corpus`") from error
    except (pa.ArrowInvalid, pa.ArrowKeyError, OSError) as error:
        raise UserError(f"{path}: not the documents table of the corpus stage ({one_line(error)})") from error
    by_language: dict[str, list[Document]] = {}
    for row in table.to_pylist():
        by_language.setdefault(row["language"], []).append(Document(str(row["id"]), row["text"]))
    if not by_language:
        raise UserError(f"{path}: no document is held out; raise `corpus.heldout_share` in params.yaml")
    return {language: choose(found, characters) for language, found in sorted(by_language.items())}


def questions(path: Path, count: int) -> list[Question]:
    """`count` open questions; none when the parameter asks for none."""
    return read_questions(path, count) if count else []
