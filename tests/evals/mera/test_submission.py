"""The archive for MERA's server: its shapes, and every fault of one by its kind."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evals import suites
from evals import tasks as declarations
from evals.errors import EvalError
from evals.items import Answer
from evals.mera import submission
from evals.mera.metrics import LABELS
from evals.records import Record
from evals.suites import Task

META: dict[str, dict[str, Any]] = {
    "use": {"id_task": "16", "variant": 3, "score": 2, "type": "text"},
    "rutie": {"dialog_id": 0, "question_id": 0},
}


def _task(name: str) -> Task:
    task = suites.describe(name)
    records = [
        Record("", "", "1", str(number), str(number), "", {"id": number, **META.get(name, {})})
        for number in range(2)
    ]
    if name == "rutie":
        records = [replace(r, meta={"dialog_id": 0, "question_id": n}) for n, r in enumerate(records)]
    return replace(task, test=tuple(records))


def _answer(task: Task, record: Record) -> Answer:
    text = "1" if task.choices is None or "1" in task.choices else task.choices[0]
    return Answer(record.id, text, written=(text,))


def _all() -> tuple[list[Task], dict[str, list[Answer]], dict[str, Any]]:
    tasks = [_task(name) for name in declarations.mera()]
    answers = {task.name: [_answer(task, record) for record in task.test] for task in tasks}
    results = {
        name: {"0": [["1", None]] * 10, "1": [["2", "3"]] * 10} for name in ("rucodeeval", "ruhumaneval")
    }
    return tasks, answers, results


def _expected(tasks: list[Task]) -> dict[str, Any]:
    return {task.spec["title"]: task.test for task in tasks}


@pytest.fixture
def whole(tmp_path: Path) -> tuple[Path, list[Task]]:
    tasks, answers, results = _all()
    assert submission.export(tasks, answers, results, tmp_path) == {}
    return tmp_path / "submission.zip", tasks


def _contents(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive:
        return {name: json.loads(archive.read(name)) for name in archive.namelist()}


def test_a_whole_submission_has_every_task_in_its_shape(whole: tuple[Path, list[Task]]) -> None:
    path, tasks = whole
    assert submission.validate(path, _expected(tasks)) == []
    files = _contents(path)
    assert len(files) == 23
    first = {name.removesuffix(".json"): value["data"]["test"][0] for name, value in files.items()}
    assert first["RCB"] == {"outputs": "1", "meta": {"id": 0}}
    assert first["USE"] == {"outputs": "1", "meta": {"id": 0, "id_task": "16", "variant": 3}}
    assert first["ruTiE"] == {"outputs": "1", "meta": {"dialog_id": 0, "question_id": 0}}
    assert first["ruEthics"]["outputs"] == dict.fromkeys(LABELS, "1")
    assert first["ruCodeEval"]["outputs"] == [[["1", None]] * 10]
    with zipfile.ZipFile(path.with_name("logs.zip")) as archive:
        assert len(archive.namelist()) == 23


def test_equal_answers_give_equal_bytes(whole: tuple[Path, list[Task]], tmp_path: Path) -> None:
    tasks, answers, results = _all()
    submission.export(tasks, answers, results, tmp_path / "again")
    assert (tmp_path / "again/submission.zip").read_bytes() == whole[0].read_bytes()


def test_what_is_missing_is_named_and_logs_keep_the_programs(tmp_path: Path) -> None:
    tasks, answers, _ = _all()
    missing = submission.export(tasks[1:], answers, {}, tmp_path)
    assert set(missing) == {"BPS", "ruCodeEval", "ruHumanEval"}
    assert "execute_code" in missing["ruCodeEval"] and missing["BPS"] == "it was not asked"
    kinds = {fault.task: fault.kind for fault in submission.validate(tmp_path / "submission.zip")}
    assert kinds == dict.fromkeys(missing, "no_task")
    assert "rucodeeval.json" in _contents(tmp_path / "logs.zip")
    with pytest.raises(EvalError, match="task `rcb`, item 1: no answer to export"):
        submission.export([_task("rcb")], {"rcb": [Answer("0", "1")]}, {}, tmp_path / "x")
    assert not (tmp_path / "x").exists()


def _rows(files: dict[str, Any], name: str) -> list[Any]:
    return list(files[f"{name}.json"]["data"]["test"])


def _set(name: str, number: int, **fields: Any) -> Any:
    def change(files: dict[str, Any]) -> None:
        row = _rows(files, name)[number]
        for field, value in fields.items():
            row.pop(field) if value is None else row.update({field: value})

    return change


FAULTS: dict[str, tuple[str, Any]] = {
    "no_task": ("LCS", lambda files: files.pop("LCS.json")),
    "extension": ("LCS", lambda files: files.update({"LCS.txt": files.pop("LCS.json")})),
    "no_data_field": ("LCS", lambda files: files["LCS.json"].pop("data")),
    "no_split": ("LCS", lambda files: files["LCS.json"].update(data={"test_": []})),
    "empty_split": ("LCS", lambda files: files["LCS.json"].update(data={"test": []})),
    "no_outputs_field_for_doc": ("LCS", _set("LCS", 1, outputs=None)),
    "no_meta_field_for_doc": ("LCS", _set("LCS", 1, meta=None)),
    "no_id_field_for_doc": ("LCS", _set("LCS", 1, meta={})),
    "no_id": ("LCS", lambda files: files["LCS.json"]["data"]["test"].pop()),
    "doc_output_type_error": ("MultiQ", _set("MultiQ", 0, outputs=[{"segment": "1"}])),
    "doc_parse_output_error": ("ruCodeEval", _set("ruCodeEval", 0, outputs=[["1", "2"]] * 10)),
    "unknown_id": (
        "LCS",
        lambda files: files["LCS.json"]["data"]["test"].append({"outputs": "1", "meta": {"id": 77}}),
    ),
    "duplicate_id": (
        "LCS",
        lambda files: files["LCS.json"]["data"]["test"].append({"outputs": "1", "meta": {"id": 0}}),
    ),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_every_planted_fault_is_named(whole: tuple[Path, list[Task]], tmp_path: Path, kind: str) -> None:
    path, tasks = whole
    task, plant = FAULTS[kind]
    files = _contents(path)
    plant(files)
    broken = tmp_path / "broken.zip"
    with zipfile.ZipFile(broken, "w") as archive:
        for name, value in files.items():
            archive.writestr(name, json.dumps(value))
    found = submission.validate(broken, _expected(tasks))
    faults = {(fault.kind, fault.task) for fault in found}
    # An item whose answer cannot be found is also one without an answer.
    also = {("no_id", task)} if kind in ("no_meta_field_for_doc", "no_id_field_for_doc") else set()
    assert faults == {(kind, task), *also}
    assert all(task in fault.message and "\n" not in fault.message for fault in found)


@pytest.mark.parametrize(
    ("task", "outputs"),
    [
        ("ruEthics", {"virtue": "1"}),
        ("ruEthics", dict.fromkeys(LABELS, "да")),
        ("ruHumanEval", [[["1"]], [["1"]]]),
        ("ruHumanEval", [[1, 2]]),
        ("ruCodeEval", [[["1"]] * 3]),
        ("ruEthics", dict.fromkeys(LABELS, "10")),
        ("BPS", "999"),
        ("MathLogicQA", "E"),
        ("RWSD", "да"),
        ("LCS", "много\nстрок"),
    ],
)
def test_answers_of_a_wrong_inner_shape_are_named(task: str, outputs: Any) -> None:
    value = {"data": {"test": [{"outputs": outputs, "meta": {"id": 0}}]}}
    (fault,) = submission.content_faults(task, value)
    assert fault.kind == "doc_parse_output_error" and "\n" not in fault.message


@pytest.mark.parametrize(
    ("task", "outputs"),
    [("BPS", "7"), ("BPS", "-1"), ("RWSD", "Да"), ("LCS", "11"), ("MultiQ", "что угодно")],
)
def test_answers_that_a_task_or_its_twin_can_give_are_no_faults(task: str, outputs: str) -> None:
    value = {"data": {"test": [{"outputs": outputs, "meta": {"id": 0}}]}}
    assert submission.content_faults(task, value) == []


@pytest.mark.parametrize("lacking", ["id", "id_task", "variant"])
def test_an_item_of_the_exam_is_named_by_three_fields(lacking: str) -> None:
    meta = {"id": 0, "id_task": "16", "variant": 3}
    record = Record("", "", "", "0", None, "", meta)
    rows = [{"outputs": "1", "meta": {name: value for name, value in meta.items() if name != lacking}}]
    (unnamed, unanswered) = submission.content_faults("USE", {"data": {"test": rows}}, [record])
    assert (unanswered.kind, unnamed.kind) == ("no_id_field_for_doc", "no_id")
    assert f"`meta` has no `{lacking}`" in unanswered.message
    rows[0]["meta"] = {**meta, lacking: 77}
    kinds = {fault.kind for fault in submission.content_faults("USE", {"data": {"test": rows}}, [record])}
    assert kinds == {"no_id", "unknown_id"}


def test_files_that_no_task_is_called_are_named(whole: tuple[Path, list[Task]]) -> None:
    path, _ = whole
    with zipfile.ZipFile(path, "a") as archive:
        for name in ("notes.txt", "bps.json", "LCS.txt", "folder/"):
            archive.writestr(name, "{}")
    found = submission.validate(path)
    assert [(fault.kind, fault.message.partition(":")[0]) for fault in found] == [
        ("unknown_file", name) for name in ("LCS.txt", "bps.json", "notes.txt")
    ]


def test_files_that_cannot_be_read(whole: tuple[Path, list[Task]], tmp_path: Path) -> None:
    (tmp_path / "no.zip").write_bytes(b"no zip")
    assert [fault.kind for fault in submission.validate(tmp_path / "no.zip")] == ["unreadable_zip"]
    assert [fault.kind for fault in submission.validate(tmp_path / "absent.zip")] == ["unreadable_zip"]
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr("LCS.json", b"\xff{")
    kinds = {fault.task: fault.kind for fault in submission.validate(tmp_path / "bad.zip")}
    assert (kinds["LCS"], kinds["RCB"]) == ("unreadable_file", "no_task")


def test_the_sample_that_mera_broke_on_purpose(shared_data: Path) -> None:
    text = (shared_data / "mera_cards/submission_format_samples.json").read_text(encoding="utf-8")
    found = {
        title: {fault.kind for fault in submission.content_faults(title, value)}
        for title, value in json.loads(text).items()
    }
    assert {title: kinds for title, kinds in found.items() if kinds} == {
        "PARus": {"no_data_field"},
        "CheGeKa": {"no_split"},
        "MultiQ": {"doc_output_type_error"},
        "ruHumanEval": {"doc_parse_output_error"},
        "ruTiE": {"no_outputs_field_for_doc", "no_meta_field_for_doc"},
    }
    assert len(found) == 18
