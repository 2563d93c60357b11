"""answers.parquet in, verdicts.parquet out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.common.errors import UserError, one_line

if TYPE_CHECKING:
    from evals.judge.verdicts import Pair, Verdict

ANSWERS = ("id", "cluster", "question", "answer", "reference", "wrong")


def read_answers(path: Path, count: int) -> list[dict[str, Any]]:
    """The first `count` rows. Raises `UserError` when the table is unreadable or lacks a column."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(path, columns=list(ANSWERS)).slice(0, count).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path}: not the answers of stage evaluate ({one_line(error)})") from error


def pairs(
    ours: list[dict[str, Any]], theirs: list[dict[str, Any]], where: Path
) -> tuple[list[Pair], list[Pair]]:
    """Candidate against champion, and right against wrong, for the same questions in the same order.

    Raises `UserError` when the two models were asked different questions.
    """
    from evals.judge.verdicts import Pair

    if [(row["id"], row["question"]) for row in ours] != [(row["id"], row["question"]) for row in theirs]:
        raise UserError(f"{where}: the candidate and the champion had different questions; run `dvc repro`")
    judged = [
        Pair(row["id"], row["cluster"], row["question"], row["answer"], other["answer"])
        for row, other in zip(ours, theirs, strict=True)
    ]
    truth = [Pair(row["id"], row["cluster"], row["question"], row["reference"], row["wrong"]) for row in ours]
    return judged, truth


def write_verdicts(path: Path, verdicts: Sequence[Verdict]) -> None:
    """One row per judged pair, in the order of the questions; `consistent` is null for equal answers."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema(
        [
            ("id", pa.string()),
            ("cluster", pa.string()),
            ("p_first", pa.float64()),
            ("p_second", pa.float64()),
            ("preference", pa.float64()),
            ("consistent", pa.bool_()),
        ]
    )
    rows = [{name: getattr(verdict, name) for name in schema.names} for verdict in verdicts]
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)
