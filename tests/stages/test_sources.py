"""Stage `sources`: fingerprints change with the files and with nothing else."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from stages import sources
from stages.common.errors import UserError
from stages.common.params import Params, load, parse
from stages.common.stage import execute, main
from stages.sources import STAGE


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project as the working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _params(root: Path, **changes: Any) -> Params:
    values = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))
    for key, value in changes.items():
        block, name = key.split("__")
        values[block][name] = value
    return parse(values, "params.yaml")


def _texts(*paths: str) -> list[dict[str, Any]]:
    files = {"type": "files", "paths": list(paths), "subset": "s", "language": "ru", "licence": "MIT"}
    return [files, {"type": "world", "seed": 7}]


def _run(params: Params) -> list[dict[str, Any]]:
    execute(STAGE, params)
    return list(json.loads(Path("out/sources/fingerprints.json").read_text(encoding="utf-8"))["files"])


def test_the_embedded_world_needs_nothing_outside(project: Path, root: Path) -> None:
    assert _run(_params(root)) == []
    # A student that the stages make themselves is no file either.
    assert _run(load(root / "profiles" / "finegates.yaml")) == []


def test_every_named_file_is_listed_with_its_hash(project: Path, root: Path) -> None:
    for name in ("a.txt", "b.jsonl", "deep/c.txt.gz", "notes.md", "protect.jsonl", "model/config.json"):
        path = Path("data") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    suite = Path("data/suite/task")
    suite.mkdir(parents=True)
    (suite / "test.jsonl").write_text("{}")
    params = _params(
        root,
        corpus__sources=_texts("data/*.txt", "data/deep"),
        corpus__protect=["data/protect.jsonl"],
        base__source="local",
        base__path="data/model",
        evaluate__suites=["world", "data/suite"],
        adapt__data=[
            {"paths": ["data/b.jsonl"], "subset": "talk", "language": "ru", "licence": "MIT"},
        ],
        adapt__mix=None,
        judge__judges=[{"type": "folder", "name": "mine", "path": "data/model"}],
        judge__labels=["data/protect.jsonl"],
    )
    rows = _run(params)
    assert [(row["key"], row["path"]) for row in rows] == [
        ("corpus.sources.0.paths.0", "data/a.txt"),
        ("corpus.sources.0.paths.1", "data/deep/c.txt.gz"),
        ("corpus.protect.0", "data/protect.jsonl"),
        ("base.path", "data/model/config.json"),
        ("evaluate.suites.1", "data/suite/task/test.jsonl"),
        ("judge.judges.0.path", "data/model/config.json"),
        ("judge.labels.0", "data/protect.jsonl"),
    ]
    apart = json.loads(Path("out/sources_supervised/fingerprints.json").read_text(encoding="utf-8"))["files"]
    assert [(row["key"], row["path"]) for row in apart] == [("adapt.data.0.paths.0", "data/b.jsonl")]
    assert rows[0]["sha256"] == hashlib.sha256(b"a.txt").hexdigest()
    assert rows[0]["size"] == 5


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"corpus__sources": _texts("absent.jsonl")}, "corpus.sources.0.paths.0"),
        ({"corpus__sources": _texts("absent/*.jsonl")}, "corpus.sources.0.paths.0"),
        ({"corpus__protect": ["absent.jsonl"]}, "corpus.protect.0"),
        ({"base__source": "local", "base__path": "absent"}, "base.path"),
        ({"evaluate__suites": ["absent"]}, "evaluate.suites.0"),
        ({"judge__judges": [{"type": "folder", "name": "x", "path": "absent"}]}, "judge.judges.0.path"),
        ({"judge__labels": ["absent"]}, "judge.labels.0"),
        ({"judge__rubric": "absent.yaml"}, "judge.rubric"),
        ({"distill__student": "absent"}, "distill.student"),
    ],
)
def test_a_missing_path_is_one_line_with_its_key(
    project: Path, root: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any], key: str
) -> None:
    _run(_params(root))
    before = Path("out/sources/fingerprints.json").read_bytes()
    values = _params(root, **change).model_dump(mode="json")
    Path("params.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    assert main(STAGE, []) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"sources: params.yaml: {key}: absent")
    assert line.endswith("correct the path")
    assert Path("out/sources/fingerprints.json").read_bytes() == before


def test_a_file_of_unknown_form_is_refused(project: Path, root: Path) -> None:
    Path("a.docx").touch()
    with pytest.raises(UserError, match=r"a\.docx is none of \.jsonl, \.txt, \.parquet"):
        _run(_params(root, corpus__sources=_texts("a.docx")))


def test_a_judge_that_is_off_is_not_looked_for(project: Path, root: Path) -> None:
    assert _run(_params(root, judge__labels=["absent"], judge__enabled=False)) == []


def test_unchanged_files_are_not_read_again(
    project: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []

    def count(path: Path) -> str:
        read.append(path)
        return hashlib.sha256(path.read_bytes()).hexdigest()

    monkeypatch.setattr(sources, "sha256_file", count)
    Path("a.txt").write_text("one")
    params = _params(root, corpus__sources=_texts("a.txt"))
    first = _run(params)
    assert _run(params) == first
    assert len(read) == 1


def test_a_changed_file_of_the_same_size_and_age_is_noticed(project: Path, root: Path) -> None:
    path = Path("a.txt")
    path.write_text("one")
    params = _params(root, corpus__sources=_texts("a.txt"))
    first, stat = _run(params), path.stat()
    time.sleep(0.02)
    path.write_text("two")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert _run(params)[0]["sha256"] != first[0]["sha256"]


@pytest.mark.parametrize("content", ["{", "[]", '{"/a.txt": 3}', "\x00"])
def test_a_broken_cache_is_ignored(project: Path, root: Path, content: str) -> None:
    Path("a.txt").write_text("one")
    Path(".gorn").mkdir()
    Path(".gorn/fingerprints.json").write_text(content)
    rows = _run(_params(root, corpus__sources=_texts("a.txt")))
    assert rows[0]["sha256"] == hashlib.sha256(b"one").hexdigest()


def test_a_lost_cache_changes_nothing(project: Path, root: Path) -> None:
    Path("a.txt").write_text("one")
    params = _params(root, corpus__sources=_texts("a.txt"))
    first = _run(params)
    Path(".gorn/fingerprints.json").unlink()
    assert _run(params) == first


HUB = "hub:MERA-evaluation/MERA"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files of a data set as HF's cache holds them, without a network."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    repository = tmp_path / "hub/datasets--MERA-evaluation--MERA"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs/main").write_text(COMMIT)
    folder = repository / "snapshots" / COMMIT
    folder.mkdir(parents=True)
    return folder


def _table(path: Path, question: str, answer: str) -> None:
    record = {
        "instruction": "{question}\nОтвет:",
        "inputs": {"question": question},
        "outputs": answer,
        "meta": {"id": 1},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist([record]), path)


def test_a_data_set_of_the_hub_is_known_by_its_commit_and_files(
    fetched: Path, project: Path, root: Path
) -> None:
    _table(fetched / "rcb/test-00000-of-00001.parquet", "Кто там?", "")
    rows = _run(_params(root, evaluate__suites=[HUB]))
    (row,) = rows
    assert (row["key"], row["path"]) == (
        "evaluate.suites.0",
        f"{HUB}@{COMMIT}/rcb/test-00000-of-00001.parquet",
    )
    _table(fetched / "rcb/test-00000-of-00001.parquet", "Кто здесь?", "")
    assert _run(_params(root, evaluate__suites=[HUB]))[0]["sha256"] != row["sha256"]


def test_offline_without_a_copy_is_one_line(fetched: Path, project: Path, root: Path) -> None:
    with pytest.raises(UserError, match="other/data is not in the Hugging Face cache") as error:
        _run(_params(root, evaluate__suites=["hub:other/data"]))
    assert "\n" not in str(error.value)
    assert "name a folder with its files" in str(error.value)


def test_items_of_the_hub_are_protected_and_asked_offline(
    fetched: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from datasets import config

    from evals import suites
    from evals import tasks as declarations
    from stages.common.suites import places
    from stages.corpus.contamination import suite_records

    monkeypatch.setattr(config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    monkeypatch.setattr(declarations, "mera", lambda: ["rcb"])
    configs = "configs:\n- config_name: rcb\n  data_files:\n"
    for split, question in (("test", "Кто там?"), ("train", "Кто здесь?")):
        _table(fetched / f"rcb/{split}-00000-of-00001.parquet", question, "1")
        configs += f"  - {{split: {split}, path: rcb/{split}-*.parquet}}\n"
    (fetched / "README.md").write_text(f"---\n{configs}---\n", encoding="utf-8")
    assert [record["inputs"] for record in suite_records([HUB])] == [{"question": "Кто там?"}]
    (task,) = suites.load(places([HUB], tmp_path), shots=0).tasks
    assert [record.inputs for record in task.test] == [{"question": "Кто там?"}]
