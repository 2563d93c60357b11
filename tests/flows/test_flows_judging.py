"""The judge in MLflow: verdicts as a table, calls as traces, once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import flows_fakes as fakes
import pandas as pd
import pytest

from flows import judging
from flows import publish as publishing
from flows import results as reading
from flows.registry import Registry
from stages.common.errors import UserError
from stages.common.params import load

pytestmark = pytest.mark.e2e

SENT = [{"role": "system", "content": "Сравни."}, {"role": "user", "content": "Пиши на [ПОЧТА]"}]
PAIR = {
    "id": "q1",
    "cluster": "c1",
    "question": "Столица Франции?",
    "candidate_answer": "Париж",
    "champion_answer": "Лион",
    "p_first": 0.9,
    "p_second": 0.7,
    "preference": 0.8,
    "consistent": True,
    "missing": None,
}
LOST = {**PAIR, "id": "q2", **dict.fromkeys(("p_first", "p_second", "preference", "consistent"))}


def write_verdicts(root: Path, rows: list[dict[str, Any]]) -> Path:
    path = root / "out/judge/adapt-bf16/verdicts.parquet"
    pd.DataFrame(rows, columns=list(PAIR)).to_parquet(path)
    return path


def write_grades(root: Path) -> Path:
    path = root / "out/judge/adapt-bf16/grades.parquet"
    row = {"rubric": "purity.ru", "id": "q1", "cluster": "c1", "question": "Столица Франции?"}
    row |= {"candidate_answer": "Париж", "candidate_grade": 4.5, "candidate_missing": None}
    row |= {"champion_answer": "Лион", "champion_grade": None, "champion_missing": "unparsable"}
    pd.DataFrame([row]).to_parquet(path)
    return path


def write_calls(folder: Path, begin: float, count: int, **more: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "api.jsonl").open("a", encoding="utf-8") as file:
        for index in range(count):
            call = {
                "judge": "a" * 64,
                "prompt": f"p{begin}{index}",
                "shares": [0.2, 0.8],
                "text": "2",
                **more,
            }
            file.write(json.dumps({**call, "started": begin + index, "seconds": 0.5}) + "\n")


def test_both_orders_of_a_pair_are_rows_and_a_missing_verdict_is_said(tmp_path: Path) -> None:
    (tmp_path / "out/judge/adapt-bf16").mkdir(parents=True)
    lost = {**LOST, "missing": "unparsable"}
    table = judging.verdict_table(write_verdicts(tmp_path, [PAIR, lost]))
    assert table is not None
    assert table["order"] == ["candidate first", "champion first", "not judged"]
    assert table["preference"] == [0.9, 0.7, None]
    assert table["prompt"][0] == "Столица Франции?"
    assert (table["candidate"][0], table["champion"][0]) == ("Париж", "Лион")
    assert table["missing"] == [None, None, "unparsable"]


def test_nothing_judged_is_no_table_and_a_broken_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "out/judge/adapt-bf16").mkdir(parents=True)
    assert judging.verdict_table(tmp_path / "none.parquet") is None
    path = write_verdicts(tmp_path, [])
    assert judging.verdict_table(path) is None
    grades = judging.grade_table(write_grades(tmp_path))
    assert grades and (grades["candidate_grade"], grades["champion_missing"]) == ([4.5], ["unparsable"])
    assert judging.grade_table(tmp_path / "none.parquet") is None
    path.write_bytes(b"cut")
    with pytest.raises(UserError, match=r"verdicts\.parquet: not a table"):
        judging.verdict_table(path)


def test_calls_are_read_in_order_and_torn_lines_left_to_the_judge(tmp_path: Path) -> None:
    write_calls(tmp_path, 2000.0, 1)
    write_calls(tmp_path, 1000.0, 2)
    with (tmp_path / "api.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"judge": "a", "prompt": "x", "shares": null, "text": ""}\n{"judge": "torn')
    (calls,) = judging.read_calls(tmp_path).values()
    assert [call.start / judging.SECOND for call in calls] == [1000, 1001, 2000]
    assert all(call.end - call.start == judging.SECOND // 2 for call in calls)


def test_a_published_run_has_tables_win_rates_passport_and_traces_once(
    project: Path, registry: Registry
) -> None:
    write_verdicts(project, [PAIR])
    rates = {"raw": {"value": 0.6, "ci": [0.5, 0.7]}, "corrected": {"value": None}}
    graded = {"candidate": {"value": 4.5, "ci": [4.1, 4.8], "missing": {"unparsable": 2}}, "scale": [1, 5]}
    summary = {"preference": 0.6, "ci": [0.5, 0.7], "win_rate": rates, "grades": {"purity.ru": graded}}
    write_grades(project)
    fakes.write(project / "out/judge/adapt-bf16/summary.json", summary)
    fakes.write(project / "out/judge/adapt-bf16/passport.json", {"schema": 1, "valid": True})
    write_calls(project / ".gorn/judge", 1000.0, 3, messages=SENT)
    client, experiment = registry.client, registry.experiment()
    first = publishing.publish(registry, load(), reading.read())
    (run,) = client.search_runs([experiment], "tags.`candidate` = 'adapt-bf16'")
    logged = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert {"passport.json", judging.TABLE, judging.GRADES} <= logged
    named = {name.removeprefix("judge/grades/purity.ru/"): v for name, v in run.data.metrics.items()}
    assert (named["candidate"], named["candidate_ci_hi"], named["candidate/missing/unparsable"]) == (
        4.5,
        4.8,
        2,
    )
    assert (run.data.metrics["judge/win_rate/raw"], run.data.metrics["judge/win_rate/raw_ci_lo"]) == (
        0.6,
        0.5,
    )
    assert registry.version(1).tags["judge_win_rate_raw"] == "0.600 [0.500, 0.700]"
    assert "judge_win_rate_corrected" not in registry.version(1).tags
    (trace,) = client.search_traces(locations=[experiment])
    calls = [span for span in trace.data.spans if span.name == "call"]
    assert [span.inputs for span in calls] == [{"messages": SENT}] * 3
    assert calls[0].outputs == {"text": "2", "shares": [0.2, 0.8]}
    assert trace.info.request_time == 1000 * 1000
    # Other numbers, the same calls and one more: only that one is written.
    write_calls(project / ".gorn/judge", 5000.0, 1)
    fakes.write(project / "out/judge/adapt-bf16/passport.json", {"schema": 1, "valid": False})
    second = publishing.publish(registry, load(), reading.read())
    assert second.run != first.run
    traces = sorted(client.search_traces(locations=[experiment]), key=lambda one: len(one.data.spans))
    assert [len(one.data.spans) - 1 for one in traces] == [1, 3]
    # A reply of a time when messages were not kept has the digest of its prompt.
    (late,) = (span for span in traces[0].data.spans if span.name == "call")
    assert late.inputs == {"prompt_sha256": "p5000.00"}
