"""Export for raters and import of their labels: blinded, undone by the key, faults named in one line."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from judge_fakes import make_pairs

from evals.errors import EvalError
from evals.judge import labels, people, rubrics
from evals.judge.verdicts import Pair, Single

PAIR, GRADE = rubrics.load("pair.ru"), rubrics.load("purity.ru")
COUNT = 12


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An export of pairs."""
    people.export(tmp_path / "round1", make_pairs(COUNT), PAIR, seed=7)
    return tmp_path / "round1"


def sheet(folder: Path) -> list[dict[str, str]]:
    text = (folder / people.SHEET).read_text(encoding="utf-8-sig")
    return list(csv.DictReader(io.StringIO(text, newline="")))


def write_sheet(path: Path, rows: list[dict[str, str]], delimiter: str = ",") -> Path:
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return path


def label_studio(path: Path, folder: Path, choose: Any, rater: Any = 5) -> Path:
    """What Label Studio gives back for the tasks of `folder`."""
    tasks = json.loads((folder / people.TASKS).read_text(encoding="utf-8"))
    for task in tasks:
        chosen = choose(task["data"])
        result = [
            {"from_name": "label", "to_name": "question", "type": "choices", "value": {"choices": [chosen]}}
        ]
        result.append({"from_name": "comment", "type": "textarea", "value": {"text": ["заметка"]}})
        task["annotations"] = [{"completed_by": rater, "was_cancelled": chosen is None, "result": result}]
    path.write_text(json.dumps(tasks, ensure_ascii=False), encoding="utf-8")
    return path


def right(row: dict[str, str]) -> str:
    """The label of a rater who knows that ours, `Будет ...`, is right."""
    return "1" if row["answer_1"].startswith("Будет") else "2"


def test_what_was_exported_comes_back_unblinded_from_both_forms(folder: Path, tmp_path: Path) -> None:
    rows = [{**row, "label": right(row), "rater": "anna", "comment": "да"} for row in sheet(folder)]
    by_sheet = write_sheet(tmp_path / "anna.csv", rows, ";")
    wrong = {"1": "2", "2": "1"}
    by_studio = label_studio(
        tmp_path / "boris.json", folder, lambda row: wrong[right(row)], {"id": 9, "email": "b@x.ru"}
    )
    found = labels.read([by_sheet, by_studio], people.key_path(folder))
    ids, raters, matrix = found.matrix()
    assert ids == [pair.id for pair in make_pairs(COUNT)]
    assert raters == ["9", "anna"]
    assert matrix == [["theirs", "ours"]] * COUNT
    assert {label.cluster for label in found.labels} == {f"c{i}" for i in range(COUNT // 2)}
    assert {label.comment for label in found.labels} == {"да", "заметка"}


def test_raters_see_neither_ids_nor_a_fixed_order(folder: Path) -> None:
    rows = sheet(folder)
    shown = "".join(path.read_text(encoding="utf-8") for path in folder.iterdir())
    assert not any(word in shown for word in ("ours", "theirs", '"p0"', "c0"))
    assert {row["answer_1"].startswith("Будет") for row in rows} == {True, False}
    assert [row["question"] for row in rows] != [pair.question for pair in make_pairs(COUNT)]
    assert {row["question"] for row in rows} == {pair.question for pair in make_pairs(COUNT)}
    assert sorted(path.name for path in folder.iterdir()) == [
        people.GUIDE, people.SHEET, people.CONFIG, people.TASKS,
    ]  # fmt: skip


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(folder: Path, tmp_path: Path) -> None:
    people.export(tmp_path / "again", make_pairs(COUNT), PAIR, seed=7)
    people.export(tmp_path / "other", make_pairs(COUNT), PAIR, seed=8)
    for name in (people.SHEET, people.TASKS, people.CONFIG, people.GUIDE):
        assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    assert (folder / people.SHEET).read_bytes() != (tmp_path / "other" / people.SHEET).read_bytes()
    assert people.key_path(folder).read_bytes() == people.key_path(tmp_path / "again").read_bytes()


def test_the_config_names_every_field_and_label(folder: Path) -> None:
    view = ElementTree.parse(folder / people.CONFIG).getroot()
    fields = json.loads((folder / people.TASKS).read_text(encoding="utf-8"))[0]["data"]
    assert {text.get("value") for text in view.iter("Text")} == {
        f"${name}" for name in fields if name != "item"
    }
    assert [choice.get("value") for choice in view.iter("Choice")] == list(PAIR.labels)
    named = {element.get("name") for element in view.iter() if element.get("name")}
    assert {choices.get("toName") for choices in view.iter("Choices")} <= named


def test_grades_go_out_and_come_back(tmp_path: Path) -> None:
    items = [Single(f"s{i}", "c", f"Вопрос {i}", f"Ответ {i}") for i in range(5)]
    people.export(tmp_path / "g", items, GRADE, seed=1)
    guide = (tmp_path / "g" / people.GUIDE).read_text(encoding="utf-8")
    assert all(f"`{grade}`: {said}" in guide for grade, said in zip(GRADE.labels, GRADE.scale, strict=True))
    rows = [
        {**row, "label": row["answer"][-1].replace("0", "5"), "rater": "a"} for row in sheet(tmp_path / "g")
    ]
    found = labels.read([write_sheet(tmp_path / "a.csv", rows)], people.key_path(tmp_path / "g"))
    assert [label.value for label in found.labels] == ["5", "1", "2", "3", "4"]


def test_empty_and_skipped_items_are_counted_and_no_labels(folder: Path, tmp_path: Path) -> None:
    rows = [{**row, "label": "" if place else "0", "rater": "a"} for place, row in enumerate(sheet(folder))]
    skipped = label_studio(tmp_path / "b.json", folder, lambda _: None)
    found = labels.read([write_sheet(tmp_path / "a.csv", rows), skipped], people.key_path(folder))
    assert ([label.value for label in found.labels], found.empty) == (["tie"], 2 * COUNT - 1)


@pytest.mark.parametrize("text", ["=1+1", "@SUM(A1)", "+7", "-x"])
def test_an_answer_is_never_a_formula(tmp_path: Path, text: str) -> None:
    people.export(tmp_path / "f", [Pair("i", "c", text, text, "b\u2028c")], PAIR, seed=0)
    (row,) = sheet(tmp_path / "f")
    assert not any(cell.startswith(("=", "@", "+", "-")) for cell in row.values())
    (task,) = json.loads((tmp_path / "f" / people.TASKS).read_text(encoding="utf-8"))
    assert task["data"]["question"] == text
    rows = [{**row, "label": "0", "rater": "a"}]
    assert (
        len(labels.read([write_sheet(tmp_path / "a.csv", rows)], people.key_path(tmp_path / "f")).labels) == 1
    )


def spoil(row: dict[str, str], **changes: str) -> list[dict[str, str]]:
    return [{**row, "label": "1", "rater": "a", **changes}]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda row: spoil(row, item="beef"), "line 2: item `beef` was not exported"),
        (
            lambda row: spoil(row, label="хорошо"),
            "line 2: label `хорошо` is unknown; it must be one of 1, 2, 0",
        ),
        (lambda row: spoil(row, label="3"), "label `3` is unknown"),
        (lambda row: spoil(row, rater=""), "line 2: the label has no rater"),
        (lambda row: spoil(row) * 2, "line 3: rater a labels item"),
        (lambda row: [{"item": row["item"], "label": "1"}], "column rater is missing"),
        (lambda _: [{"a": "b"}], "column item, label, rater is missing"),
    ],
)
def test_faults_of_a_sheet_are_named(folder: Path, tmp_path: Path, make: Any, said: str) -> None:
    row = {**sheet(folder)[0], "question": "в одну строку"}
    with pytest.raises(EvalError) as error:
        labels.read([write_sheet(tmp_path / "a.csv", make(row))], people.key_path(folder))
    assert said in str(error.value) and "a.csv" in str(error.value) and "\n" not in str(error.value)


def test_two_files_may_not_hold_two_labels_of_one_rater(folder: Path, tmp_path: Path) -> None:
    files = [label_studio(tmp_path / f"{name}.json", folder, right) for name in "ab"]
    with pytest.raises(EvalError, match=r"b\.json, task 1: rater 5 labels item \w+ twice"):
        labels.read(files, people.key_path(folder))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not readable as JSON"),
        ('[{"item": 1, "label": "1"}]', "in the form `JSON`"),
        ('[{"annotations": [{}], "data": {"item": "x"}}]', "task 1: field 'completed_by' is missing"),
        (
            '[{"annotations": [{"completed_by": 1, "result": [{"from_name": "label", "value": {}}]}],'
            ' "data": {"item": "x"}}]',
            "'choices'",
        ),
        (
            '[{"annotations": [{"completed_by": 1, "result": []}], "data": {"item": "x"}}]',
            "item `x` was not exported",
        ),
    ],
)
def test_faults_of_an_export_of_label_studio_are_named(
    folder: Path, tmp_path: Path, text: str, said: str
) -> None:
    path = tmp_path / "export.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(EvalError) as error:
        labels.read([path], people.key_path(folder))
    assert said in str(error.value) and "export.json" in str(error.value)


def test_files_that_cannot_be_read_are_named(folder: Path, tmp_path: Path) -> None:
    cp1251 = tmp_path / "excel.csv"
    cp1251.write_bytes("item,label,rater,comment\nx,1,Анна,да\n".encode("cp1251"))
    for path, said in (
        (cp1251, "CSV UTF-8"),
        (tmp_path / "no.csv", "cannot be read"),
        (tmp_path / "no.json", "cannot be read"),
    ):
        with pytest.raises(EvalError, match=said):
            labels.read([path], people.key_path(folder))
    with pytest.raises(EvalError, match="not the key of an export"):
        labels.read([], folder / people.TASKS)


def test_what_cannot_be_exported_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    place, pairs = tmp_path / "out", make_pairs(2)
    guided = rubrics.load("pair-reference.ru")
    cases: list[tuple[Any, Any, str]] = [
        ([], PAIR, "no item to export"),
        (pairs, GRADE, "for the form `grade`"),
        ([pairs[0], pairs[0]], PAIR, "is there twice"),
        ([replace(pairs[0], reference="r"), pairs[1]], guided, "item p1: rubric"),
    ]
    for items, rubric, said in cases:
        with pytest.raises(EvalError, match=said):
            people.export(place, items, rubric, seed=0)
    assert not list(tmp_path.iterdir())
    people.export(place, pairs, PAIR, seed=0)
    with pytest.raises(EvalError, match="there already"):
        people.export(place, pairs, PAIR, seed=0)
