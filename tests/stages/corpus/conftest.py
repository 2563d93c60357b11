"""A small corpus stage in a folder of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from params_fakes import fitting

from stages.common.params import load
from stages.common.stage import execute
from stages.corpus.stage import STAGE

RunCorpus = Callable[..., Path]


@pytest.fixture
def run_corpus(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> RunCorpus:
    """Run the stage on `sources` with the default parameters and `changes`; returns the folder of its out.

    It leaves params.yaml behind, for `main(STAGE, [])`.
    """
    monkeypatch.chdir(tmp_path)
    defaults = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))

    def run(sources: list[dict[str, Any]], **changes: Any) -> Path:
        Path("out/sources").mkdir(parents=True, exist_ok=True)
        Path("suite").mkdir(exist_ok=True)
        Path("suite/other.jsonl").write_text(
            '{"inputs": "Это вопрос из другой области?"}\n', encoding="utf-8"
        )
        corpus = defaults["corpus"] | {"sources": sources} | changes
        values = fitting(defaults | {"corpus": corpus})
        Path("params.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
        execute(STAGE, load())
        return tmp_path / "out" / "corpus"

    return run


def write_jsonl(path: Path, texts: list[str]) -> dict[str, Any]:
    """Write texts as jsonl; returns the declaration of the source."""
    lines = [json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts]
    path.write_text("".join(lines), encoding="utf-8")
    return {"type": "files", "paths": [path.name], "subset": "own", "language": "ru", "licence": "MIT"}


@pytest.fixture
def jsonl() -> Callable[[Path, list[str]], dict[str, Any]]:
    """`write_jsonl`, for tests."""
    return write_jsonl
