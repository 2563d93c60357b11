"""answers.parquet in; verdicts.parquet and labelled.parquet out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.common.errors import UserError, one_line

if TYPE_CHECKING:
    from evals.judge.juries import Ballot
    from evals.judge.labelled import Labelled
    from evals.judge.verdicts import Missing, Pair, Verdict

ANSWERS = ("id", "cluster", "question", "answer", "reference", "wrong")
VERDICTS, LABELLED = "verdicts.parquet", "labelled.parquet"
JUDGED = {
    **dict.fromkeys(("p_first", "p_second", "preference"), "float64"),
    **dict.fromkeys(("asked", "consistent"), "bool"),
    **dict.fromkeys(("outcome", "missing", "reason"), "string"),
}
COLUMNS = {
    **dict.fromkeys(("id", "cluster", "question", "candidate_answer", "champion_answer"), "string"),
    **JUDGED,
    "label": "float64",
    "votes": "votes",
}
KNOWN = {
    **dict.fromkeys(("id", "cluster", "question", "ours", "theirs", "truth"), "string"),
    **JUDGED,
}


def read_answers(path: Path, count: int) -> list[dict[str, Any]]:
    """The first `count` rows. Raises `UserError` when the table is unreadable or lacks a column."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(path, columns=list(ANSWERS)).slice(0, count).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path}: not the answers of stage evaluate ({one_line(error)})") from error


def compared(ours: list[dict[str, Any]], theirs: list[dict[str, Any]], where: Path) -> list[Pair]:
    """Candidate against champion for the same questions in the same order.

    Raises `UserError` when the two models were asked different questions.
    """
    from evals.judge.verdicts import Pair

    if [(row["id"], row["question"]) for row in ours] != [(row["id"], row["question"]) for row in theirs]:
        raise UserError(f"{where}: the candidate and the champion had different questions; run `dvc repro`")
    return [
        Pair(row["id"], row["cluster"], row["question"], row["answer"], other["answer"], row["reference"])
        for row, other in zip(ours, theirs, strict=True)
    ]


def right_and_wrong(rows: list[dict[str, Any]]) -> list[Pair]:
    """The right answer of every question (`ours`) against its wrong one."""
    from evals.judge.verdicts import Pair

    return [
        Pair(row["id"], row["cluster"], row["question"], row["reference"], row["wrong"], row["reference"])
        for row in rows
    ]


def write_verdicts(
    path: Path,
    pairs: Sequence[Pair],
    ballots: Sequence[Ballot[Verdict]],
    labels: Sequence[float | None],
) -> None:
    """One row per pair, in the order of judging, whether it was judged or is missing.

    `p_*` and `preference` are about the candidate; equal answers were not `asked` about, and their
    `consistent` is null; `missing` is the kind of reason why there is no verdict; `label` is what people say
    (1: the candidate's answer is better).
    """
    rows = [
        {
            "id": pair.id,
            "cluster": pair.cluster,
            "question": pair.question,
            "candidate_answer": pair.ours,
            "champion_answer": pair.theirs,
            **_judged(ballot.result),
            "label": label,
            "votes": [
                {"judge": name, "preference": _judged(vote)["preference"]} for name, vote in ballot.votes
            ],
        }
        for pair, ballot, label in zip(pairs, ballots, labels, strict=True)
    ]
    _write(path, rows, COLUMNS)


def write_labelled(path: Path, known: Sequence[Labelled], results: Sequence[Verdict | Missing]) -> None:
    """One row per labelled pair; `p_*` and `preference` are about `ours`."""
    rows = [
        {
            "id": item.pair.id,
            "cluster": item.pair.cluster,
            "question": item.pair.question,
            "ours": item.pair.ours,
            "theirs": item.pair.theirs,
            "truth": item.truth,
            **_judged(result),
        }
        for item, result in zip(known, results, strict=True)
    ]
    _write(path, rows, KNOWN)


def _judged(result: Verdict | Missing) -> dict[str, Any]:
    from evals.judge.verdicts import Missing

    if isinstance(result, Missing):
        return {**dict.fromkeys(JUDGED), "missing": result.kind, "reason": result.reason}
    names = ("p_first", "p_second", "preference", "asked", "consistent", "outcome")
    told = {name: getattr(result, name) for name in names}
    return {**told, "missing": None, "reason": None}


def _write(path: Path, rows: list[dict[str, Any]], columns: Mapping[str, str]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {
        "string": pa.string(),
        "float64": pa.float64(),
        "bool": pa.bool_(),
        "votes": pa.list_(pa.struct([("judge", pa.string()), ("preference", pa.float64())])),
    }
    schema = pa.schema([(name, kinds[kind]) for name, kind in columns.items()])
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)
