"""Records of MERA's form, filled and laid out as MERA's own code does."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.errors import EvalError
from evals.records import Layout, Record, fill, parse, read_records

GOLDEN_TASKS = ("bps", "lcs", "rcb", "ruhhh", "simplear", "rumultiar")
GOOD = {"instruction": "Сколько? {inputs}", "inputs": "2 + 2 =", "outputs": "4", "meta": {"id": 7}}


def _write(path: Path, *values: Any) -> Path:
    path.write_text(
        "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values), encoding="utf-8"
    )
    return path


def _record(instruction: str, inputs: Any) -> Record:
    return Record(instruction, inputs, "", "1", "1", "here:1")


def test_named_places_are_filled_and_other_braces_stay() -> None:
    text = "Верно ли: {left} < {right}? Скобки { } ( {} ) {{ остаются."
    assert fill(text, {"left": "2", "right": "3"}, "") == "Верно ли: 2 < 3? Скобки { } ( {} ) {{ остаются."


@given(st.text(), st.text())
def test_values_are_never_filled_again(left: str, right: str) -> None:
    values = {"a": left + "{b}", "b": right + "{a}"}
    assert fill("{a}|{b}", values, "") == values["a"] + "|" + values["b"]


@given(st.text(alphabet="{}[]() "))
def test_brackets_alone_are_no_places(text: str) -> None:
    assert fill(text, "x", "") == text


def test_a_single_place_of_another_name_takes_string_inputs() -> None:
    assert fill("Перепиши: {toxic_comment}", "текст", "") == "Перепиши: текст"


def test_a_place_without_field_is_refused_by_name() -> None:
    with pytest.raises(EvalError, match=r"rcb\.jsonl:3.*\{premise\}"):
        fill("{premise} {hypothesis}", {"hypothesis": "h"}, "rcb.jsonl:3")


@pytest.mark.parametrize("field", ["instruction", "inputs", "outputs", "meta"])
def test_a_missing_field_names_file_line_and_field(tmp_path: Path, field: str) -> None:
    broken = {name: value for name, value in GOOD.items() if name != field}
    path = _write(tmp_path / "test.jsonl", GOOD, broken)
    with pytest.raises(EvalError, match=rf"test\.jsonl:2: field `{field}` is missing"):
        read_records(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"meta": {}}, "`meta.id` is missing"),
        ({"meta": {"id": [1]}}, r"`meta.id` is \[1\], expected text or a whole number"),
        ({"meta": {"id": True}}, "`meta.id` is True, expected"),
        ({"meta": {"id": 1, "cluster": {}}}, "`meta.cluster` is {}, expected"),
        ({"instruction": " "}, "`instruction` is empty"),
        ({"inputs": {"q": {"а": "б"}}}, "`inputs.q` is dict, expected text or a number"),
        ({"inputs": {"q": True}}, "`inputs.q` is bool"),
        ({"outputs": {"virtue": "1"}}, "`outputs` is dict"),
        ({"instruction": 5}, "`instruction` is int"),
        ({"inputs": [1]}, "`inputs` is list"),
    ],
)
def test_wrong_types_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(EvalError, match=f"f:1: field {message}"):
        parse({**GOOD, **change}, "f:1")


def test_equal_ids_an_empty_file_and_broken_json_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EvalError, match=r"t\.jsonl:2 and .*t\.jsonl:1 share meta\.id 7"):
        read_records(_write(tmp_path / "t.jsonl", GOOD, GOOD))
    with pytest.raises(EvalError, match="the split is empty"):
        read_records(_write(tmp_path / "empty.jsonl"))
    (tmp_path / "b.jsonl").write_text(json.dumps(GOOD) + "\n{oops\n", encoding="utf-8")
    with pytest.raises(EvalError, match=r"b\.jsonl: line 2 is not JSON"):
        read_records(tmp_path / "b.jsonl")
    (tmp_path / "k.jsonl").write_bytes((json.dumps(GOOD) + "\n").encode() + "Привет".encode("cp1251"))
    with pytest.raises(EvalError, match=r"k\.jsonl: not readable as UTF-8"):
        read_records(tmp_path / "k.jsonl")
    with pytest.raises(EvalError, match="no such file"):
        read_records(tmp_path / "absent.jsonl")


def test_compressed_records_numbers_and_clusters(tmp_path: Path) -> None:
    path = tmp_path / "test.jsonl.gz"
    other = {
        **GOOD,
        "meta": {"id": "b", "cluster": "fact-3"},
        "inputs": {"n": 3, "word": "три", "lost": None},
    }
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.write(json.dumps(GOOD) + "\n" + json.dumps(other) + "\n")
    first, second = read_records(path)
    assert (first.id, first.cluster) == ("7", None)
    assert (second.cluster, second.inputs) == ("fact-3", {"n": "3", "word": "три"})


def test_layout_strips_unless_told_otherwise() -> None:
    record = _record("{inputs}", " { ( ) ")
    assert Layout().full(record) == "{ ( )"
    assert Layout(strip=False).full(record) == " { ( ) "


def _golden(shared_data: Path, task: str, mode: str) -> list[dict[str, Any]]:
    lines = (shared_data / "mera_golden/prompts.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    return [row for row in rows if row["task"] == task and row["mode"] == mode]


@pytest.mark.parametrize("task", GOLDEN_TASKS)
def test_zero_shot_prompts_are_those_of_mera(shared_data: Path, task: str) -> None:
    from evals.suites import load

    found = {item.name: item for item in load([shared_data / "mera_human"]).tasks}[task]
    records = {record.id: record for record in found.test}
    rows = _golden(shared_data, task, "zero_shot")
    assert len(rows) >= 5
    for row in rows:
        record = records[str(row["item_id"])]
        assert found.layout.full(record) == row["context"]
        assert record.outputs == row["target"]
        if row["continuations"] is not None:
            assert [" " + choice for choice in found.choices or ()] == row["continuations"]


@pytest.mark.parametrize("task", GOLDEN_TASKS)
def test_prompts_with_shots_are_those_of_mera(shared_data: Path, task: str) -> None:
    """lm-eval joins the turns (blank line between, one space before an answer); the shots are MERA's."""
    from dataclasses import replace

    from evals.harness import configured
    from evals.suites import load

    found = {item.name: item for item in load([shared_data / "mera_human"]).tasks}[task]
    records = {record.id: record for record in found.test}
    for row in _golden(shared_data, task, "mera_shots"):
        shots = tuple(records[str(name)] for name in row["shots"])
        item = records[str(row["item_id"])]
        prepared = configured(replace(found, test=(item,), shots=shots))
        assert prepared.fewshot_context(prepared.eval_docs[0], len(shots)) == row["context"]
