"""A tiny corpus and checkpoint in a project of their own, for the evaluate stage."""

from __future__ import annotations

import contextlib
import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from evaluation_models import make_model, make_tokenizer

from stages.common.stage import main
from stages.evaluate.stage import STAGE

WORDS = ["кот", "дом", "река", "лес", "мост", "снег", "окно", "хлеб"]


def _jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def _rows(answers: list[str], start: int) -> list[dict[str, Any]]:
    return [
        {
            "instruction": "Слово {word}, номер {n}.\nОтвет:",
            "inputs": {"word": WORDS[n % 8], "n": str(n + start)},
            "outputs": answers[n % len(answers)],
            "meta": {"id": n + start, "cluster": f"f{n // 2}", "difficulty": 1},
        }
        for n in range(12)
    ]


def _corpus(folder: Path) -> list[str]:
    index: dict[str, Any] = {}
    for name, answers in (("kinship", ["да", "нет", "да"]), ("plural", WORDS)):
        kind, metric = ("choice", "acc") if name == "kinship" else ("generate", "exact_match")
        choices = sorted(set(answers)) if kind == "choice" else None
        index[name] = {
            "language": "ru",
            "type": kind,
            "choices": choices,
            "metric": metric,
            "test": 12,
            "train": 12,
        }
        for split, start in (("test", 0), ("train", 100)):
            _jsonl(folder / f"tasks/{name}/{split}.jsonl", _rows(answers, start))
    (folder / "tasks/index.json").write_text(json.dumps(index, ensure_ascii=False), encoding="utf-8")
    question = {"instruction": "Вопрос: {q}\nОтвет:", "reference": "лес", "wrong": "мост"}
    _jsonl(
        folder / "questions.jsonl",
        [
            {**question, "id": f"q{n}", "cluster": f"f{n}", "inputs": {"q": f"что такое {word}?"}}
            for n, word in enumerate(WORDS)
        ],
    )
    documents = [
        {
            "id": f"{language}-{n}",
            "language": language,
            "split": "train" if n % 4 == 0 else "heldout",
            "text": f"{'Это' if language == 'ru' else 'This is'} {word} {n}. " * (1 + n % 5),
        }
        for language in ("ru", "en")
        for n, word in enumerate(WORDS * 3)
    ]
    pq.write_table(pa.Table.from_pylist(documents), folder / "documents.parquet")
    return [row["text"] for row in documents]


@pytest.fixture(scope="session")
def prepared(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project, built once."""
    project = tmp_path_factory.mktemp("project")
    tokenizer = make_tokenizer(_corpus(project / "out/corpus"))
    for name, seed in (("base", 1), ("quantize/adapt-bf16", 2)):
        model = make_model(tokenizer, seed=seed)
        model.save_pretrained(project / "out" / name)
        tokenizer.save_pretrained(project / "out" / name)
    params = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))
    params["threads"] = 1
    params["device"] = "cpu"
    params["evaluate"] |= {"batch_size": 8, "questions": 5, "bpc_characters": 400, "bpc_window": 32}
    (project / "params.yaml").write_text(yaml.safe_dump(params, allow_unicode=True), encoding="utf-8")
    (project / "out/sources").mkdir()
    champion = {"version": None, "digest": None, "path": "out/base"}
    (project / "champion.json").write_text(json.dumps(champion), encoding="utf-8")
    return project


@pytest.fixture(scope="session")
def answered(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project after one evaluation, every answer of which is in the cache."""
    copy = tmp_path_factory.mktemp("answered") / "project"
    shutil.copytree(prepared, copy)
    with contextlib.chdir(copy):
        assert main(STAGE, ["adapt-bf16"]) == 0
    return copy


@pytest.fixture
def project(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the project as the working folder."""
    copy = tmp_path / "project"
    shutil.copytree(prepared, copy)
    monkeypatch.chdir(copy)
    return copy
