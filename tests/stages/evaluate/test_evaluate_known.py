"""What was answered is not asked again, and what differs is."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from evals.errors import EvalError
from stages.common.hashing import sha256_path
from stages.common.stage import main
from stages.evaluate import models
from stages.evaluate.stage import STAGE

CELL = "adapt-bf16"
OUT = Path("out/evaluate") / CELL
ASKED = "the model is asked"


@pytest.fixture
def known(answered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the evaluated project as the working folder, in which no model can be loaded."""
    copy = tmp_path / "project"
    shutil.copytree(answered, copy)
    monkeypatch.chdir(copy)

    def asked(*_: Any) -> None:
        raise EvalError(ASKED)

    monkeypatch.setattr(models, "Loaded", asked)
    return copy


def _edit(change: Callable[[dict[str, Any]], Any]) -> None:
    values = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    change(values)
    Path("params.yaml").write_text(yaml.safe_dump(values, allow_unicode=True), encoding="utf-8")


def test_known_answers_give_the_same_bytes(known: Path) -> None:
    before = sha256_path(OUT)
    shutil.rmtree(known / "out/evaluate")
    assert main(STAGE, [CELL]) == 0
    assert sha256_path(OUT) == before


def test_known_answers_need_no_torch(known: Path, root: Path) -> None:
    """Nor lm-eval, nor Transformers: their imports take longer than all the rest."""
    code = (
        "import sys\nfrom stages.common.stage import main\nfrom stages.evaluate.stage import STAGE\n"
        f"status = main(STAGE, ['{CELL}'])\n"
        "print(status, sorted({'torch', 'transformers', 'lm_eval', 'datasets'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=known, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 []", done.stderr


def _weight(_: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = Path("out/quantize") / CELL / "model.safetensors"
    tensors = load_file(path)
    tensors["model.norm.weight"][0] += 2**-10
    save_file(tensors, path, metadata={"format": "pt"})


def _prompt(_: Path) -> None:
    path = Path("out/corpus/tasks/plural/test.jsonl")
    path.write_text(path.read_text(encoding="utf-8").replace("номер", "Номер", 1), encoding="utf-8")


def _question(_: Path) -> None:
    path = Path("out/corpus/questions.jsonl")
    path.write_text(path.read_text(encoding="utf-8").replace("Вопрос", "вопрос"), encoding="utf-8")


def _setting(key: str, value: Any) -> Callable[[Path], None]:
    return lambda _: _edit(lambda values: values["evaluate"].__setitem__(key, value))


CHANGES: dict[str, Callable[[Path], None]] = {
    "a weight": _weight,
    "a prompt": _prompt,
    "an open question": _question,
    "precision": _setting("precision", "bf16"),
    "batch size": _setting("batch_size", 4),
    "shots": _setting("shots", 1),
    "window": _setting("bpc_window", 16),
    "held-out documents": _setting("bpc_characters", 100),
    "threads": lambda _: _edit(lambda values: values.__setitem__("threads", 2)),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_changed_is_never_found(known: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    CHANGES[name](known)
    assert main(STAGE, [CELL]) == 1
    assert ASKED in capsys.readouterr().err


@pytest.mark.parametrize("package", ["lm-eval", "torch", "transformers", "tokenizers"])
def test_another_version_of_what_computes_is_never_found(
    known: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], package: str
) -> None:
    real = models.version
    monkeypatch.setattr(models, "version", lambda name: "9.9" if name == package else real(name))
    assert main(STAGE, [CELL]) == 1
    assert ASKED in capsys.readouterr().err


def test_our_own_code_is_part_of_the_scope(monkeypatch: pytest.MonkeyPatch, known: Path, capsys: Any) -> None:
    monkeypatch.setattr(models, "CODE", models.CODE[:-1])
    assert main(STAGE, [CELL]) == 1
    assert ASKED in capsys.readouterr().err


@pytest.mark.parametrize("key", ["limit", "questions"])
def test_fewer_items_are_found(known: Path, key: str) -> None:
    _edit(lambda values: values["evaluate"].__setitem__(key, 3))
    assert main(STAGE, [CELL]) == 0


def test_a_cut_cache_is_asked_for_the_rest_alone(
    answered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "project"
    shutil.copytree(answered, copy)
    monkeypatch.chdir(copy)
    before = sha256_path(OUT)
    (file,) = models.FOLDER.glob("*.jsonl")
    whole = file.read_bytes()
    lines = whole.splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:20]) + lines[20][:25])
    assert main(STAGE, [CELL]) == 0
    assert sha256_path(OUT) == before
    keys = [json.loads(line)["key"] for line in file.read_bytes().splitlines() if line.endswith(b"}")]
    assert len(keys) == len(set(keys))
    assert set(keys) == {json.loads(line)["key"] for line in lines if line.strip()}
