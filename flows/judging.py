"""The judge in MLflow: a table of verdicts per candidate, calls to an endpoint as traces."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.common.errors import UserError, one_line

TABLE = "judge_verdicts.json"
GRADES = "judge_grades.json"
GRADED = (
    *("rubric", "id", "question", "candidate_answer", "candidate_grade", "candidate_missing"),
    *("champion_answer", "champion_grade", "champion_missing"),
)
CALLS = Path(".gorn/judge")
KIND = "judge calls"
CALLS_PER_TRACE = 500
SECOND = 1_000_000_000


def verdict_table(path: Path) -> dict[str, list[Any]] | None:
    """verdicts.parquet as a table with one row per pair and order; None when no pair was judged.

    `preference` is that for the candidate in this order, `both orders` the mean that counts. A pair without a
    verdict has one row, which says why. Raises `UserError` when the file cannot be read.
    """
    return _columns([line for row in _rows(path) for line in _orders(row)])


def grade_table(path: Path) -> dict[str, list[Any]] | None:
    """grades.parquet as a table with one row per rubric and question; None when nothing was graded.

    Raises `UserError` when the file cannot be read.
    """
    return _columns([{name: row[name] for name in GRADED} for row in _rows(path)])


def _rows(path: Path) -> list[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        return []
    try:
        return list(pq.read_table(path).to_pylist())
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path}: not a table of stage judge ({one_line(error)})") from error


def _columns(rows: list[dict[str, Any]]) -> dict[str, list[Any]] | None:
    return {name: [row[name] for row in rows] for name in rows[0]} if rows else None


def _orders(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    asked = (("candidate first", row["p_first"]), ("champion first", row["p_second"]))
    judged = row["preference"] is not None
    for order, preference in asked if judged else (("not judged", None),):
        yield {
            "id": row["id"],
            "prompt": row.get("question"),
            "candidate": row.get("candidate_answer"),
            "champion": row.get("champion_answer"),
            "order": order,
            "preference": preference,
            "both orders": row["preference"],
            "consistent": row["consistent"],
            "missing": row.get("missing"),
        }


@dataclass(frozen=True)
class Call:
    """One finished call: the judge and the prompt by digest, the reply, and when (nanoseconds).

    `messages`: what was sent, personal data redacted; empty for a call of a time when it was not kept.
    """

    judge: str
    prompt: str
    messages: list[dict[str, str]]
    text: str
    shares: list[float] | None
    start: int
    end: int


def read_calls(folder: Path = CALLS) -> dict[str, list[Call]]:
    """Finished calls of the reply caches, by judge and in the order of their beginning.

    A line without times, or cut by a killed run, is left out: the cache is the judge's, and it mends it.
    """
    found: dict[str, list[Call]] = {}
    for file in sorted(folder.glob("*.jsonl")):
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                value = json.loads(line)
                start = int(value["started"] * SECOND)
                end = start + int(value["seconds"] * SECOND)
                sent = value.get("messages", [])
                call = Call(value["judge"], value["prompt"], sent, value["text"], value["shares"], start, end)
            except (ValueError, KeyError, TypeError):
                continue
            if start > 0:
                found.setdefault(call.judge, []).append(call)
    return {
        judge: sorted(calls, key=lambda call: (call.start, call.prompt)) for judge, calls in found.items()
    }


def trace_calls(client: Any, experiment: str, run: str, folder: Path = CALLS) -> int:
    """Write calls that MLflow does not know yet as traces of `run`, one span a call; how many there were.

    A span's inputs are the messages as they left the machine. A judge's traces say up to when they reach, so
    that the same calls are not written twice, whatever runs read the cache again.
    """
    calls = read_calls(folder)
    if not calls:
        return 0
    import mlflow

    reached = _reached(client, experiment)
    written = 0
    for judge, every in sorted(calls.items()):
        new = [call for call in every if call.start > reached.get(judge, 0)]
        for start in range(0, len(new), CALLS_PER_TRACE):
            _trace(client, experiment, run, judge, new[start : start + CALLS_PER_TRACE])
        written += len(new)
    mlflow.flush_trace_async_logging()
    return written


def _reached(client: Any, experiment: str) -> dict[str, int]:
    """By judge, the beginning of the latest call that a trace tells of."""
    found: dict[str, int] = {}
    token = None
    while True:
        page = client.search_traces(
            locations=[experiment],
            filter_string=f"tags.`gorn.kind` = '{KIND}'",
            page_token=token,
            include_spans=False,
        )
        for trace in page:
            tags = trace.info.tags
            found[tags["gorn.judge"]] = max(found.get(tags["gorn.judge"], 0), int(tags["gorn.until"]))
        token = page.token
        if not token:
            return found


def _trace(client: Any, experiment: str, run: str, judge: str, calls: list[Call]) -> None:
    tags = {"gorn.kind": KIND, "gorn.judge": judge, "gorn.until": str(calls[-1].start)}
    root = client.start_trace(
        f"judge {judge[:12]}",
        inputs={"calls": len(calls)},
        tags=tags,
        experiment_id=experiment,
        start_time_ns=calls[0].start,
        run_id=run,
    )
    for call in calls:
        span = client.start_span(
            "call",
            root.trace_id,
            root.span_id,
            span_type="CHAT_MODEL",
            inputs={"messages": call.messages} if call.messages else {"prompt_sha256": call.prompt},
            start_time_ns=call.start,
        )
        outputs = {"text": call.text, "shares": call.shares}
        client.end_span(root.trace_id, span.span_id, outputs=outputs, end_time_ns=call.end)
    unparsable = sum(call.shares is None for call in calls)
    client.end_trace(
        root.trace_id, outputs={"unparsable": unparsable}, end_time_ns=max(call.end for call in calls)
    )
