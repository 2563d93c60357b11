"""`gorn submission`: the zip of an evaluated cell, and every fault of one in a line."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import flows_fakes as fakes
import pytest
import yaml

from evals import suites
from evals.items import Answer
from evals.mera import submission
from evals.records import Record
from flows import cli

RCB: list[dict[str, Any]] = [
    {
        "instruction": "{premise} {hypothesis}",
        "inputs": {"premise": "а", "hypothesis": "б"},
        "outputs": "",
        "meta": {"id": number},
    }
    for number in (4, 5)
]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose candidate answered the two items of RCB."""
    root = fakes.bare(tmp_path / "project")
    monkeypatch.chdir(root)
    records = [Record("", "", "", str(row["meta"]["id"]), "", "", row["meta"]) for row in RCB]
    task = replace(suites.describe("rcb"), test=tuple(records))
    given = {"rcb": [Answer(record.id, "2", logprobs=(-1.0, -0.5, -2.0)) for record in records]}
    out = root / "out/evaluate/adapt-bf16"
    missing = submission.export([task], given, {}, out / "submission")
    (out / "scores.json").write_text(json.dumps({"mera": {"not_submitted": missing}}))
    (root / "out/evaluate/plain").mkdir()
    (root / "out/evaluate/plain/scores.json").write_text("{}")
    return root


def test_the_zip_of_a_cell_is_written_with_its_logs(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["submission", "write", "adapt-bf16", "sent/mera.zip"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert "USE is not in it: it was not asked" in told
    assert told[-1] == "sent/mera.zip: 1 of 23 tasks, logs in sent/mera-logs.zip"
    with zipfile.ZipFile("sent/mera.zip") as archive:
        assert archive.namelist() == ["RCB.json"]
        rows = json.loads(archive.read("RCB.json"))["data"]["test"]
    assert rows == [{"outputs": "2", "meta": {"id": number}} for number in (4, 5)]
    with zipfile.ZipFile("sent/mera-logs.zip") as archive:
        assert archive.namelist() == ["rcb.json"]


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("adapt-ternary", "`adapt-ternary` was not evaluated (evaluated: adapt-bf16, plain); run `gorn run`"),
        ("plain", "no task of MERA was asked; name its data in `evaluate.suites`"),
    ],
)
def test_a_cell_without_a_submission_is_one_line(
    project: Path, capsys: pytest.CaptureFixture[str], cell: str, said: str
) -> None:
    assert cli.main(["submission", "write", cell, "mera.zip"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert not Path("mera.zip").exists()


def test_faults_are_named_one_a_line(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["submission", "write", "adapt-bf16", "mera.zip"])
    capsys.readouterr()
    assert cli.main(["submission", "check", "mera.zip"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 22
    assert "no_task: USE.json is not in the archive" in lines
    Path("no.zip").write_bytes(b"PK")
    assert cli.main(["submission", "check", "no.zip"]) == 1
    assert capsys.readouterr().out.startswith("unreadable_zip: no.zip: not readable as a zip archive")


def test_ids_are_compared_with_the_items_of_the_suites(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("mera").mkdir()
    rows = [*RCB, {**RCB[0], "meta": {"id": 6}}]
    Path("mera/rcb.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    values = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    values["evaluate"]["suites"] = ["mera"]
    Path("params.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    cli.main(["submission", "write", "adapt-bf16", "mera.zip"])
    capsys.readouterr()
    assert cli.main(["submission", "check", "mera.zip", "--items"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert "no_id: RCB.json: item 6 has no answer" in lines
    assert len([line for line in lines if line.startswith("not compared: ")]) == 22
    assert "not compared: USE: not in evaluate.suites" in lines


def test_suites_without_a_task_of_mera_have_nothing_to_compare(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks = project / "out/corpus/tasks"
    tasks.mkdir(parents=True)
    (tasks / "index.json").write_text('{"own": {"language": "ru", "type": "generate"}}')
    row = {"instruction": "{inputs}", "inputs": "?", "outputs": "!", "meta": {"id": 0}}
    (tasks / "own.jsonl").write_text(json.dumps(row))
    cli.main(["submission", "write", "adapt-bf16", "mera.zip"])
    assert cli.main(["submission", "check", "mera.zip", "--items"]) == 1
    said = capsys.readouterr()
    assert "holds no task of MERA, so --items has nothing to compare" in said.err
    assert "no fault" not in said.out
