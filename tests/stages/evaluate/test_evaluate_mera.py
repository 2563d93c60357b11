"""The keys of MERA as the stage obeys them, with a model whose answers are known beforehand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from evals import recall
from evals.mera import submission
from stages.common.stage import main
from stages.evaluate import models
from stages.evaluate.stage import STAGE

CELL = "adapt-bf16"
OUT = Path("out/evaluate") / CELL
CODE = {
    "instruction": "{function}",
    "inputs": {"function": "def f(x):\n", "tests": "[{'x': 1}, {'x': 4}]"},
    "outputs": ["2", "5"],
    "meta": {"id": 1, "entry_point": "f", "canonical_solution": "    return x + 1"},
}
DETOX = {"instruction": "{toxic_comment}", "inputs": "грубость", "outputs": "мягкость", "meta": {"id": 1}}


def _rcb(number: int, answer: str) -> dict[str, Any]:
    text = "{premise}\n{hypothesis}\nОтвет:"
    inputs = {"premise": f"Идёт дождь {number}.", "hypothesis": "Сухо."}
    return {"instruction": text, "inputs": inputs, "outputs": answer, "meta": {"id": number}}


class Answering:
    """A model that writes right programs in half of the samples, and 2 where it may choose or must write."""

    tokenizer_hash, max_length = "t", 2048

    def __init__(self, *_: Any) -> None:
        self.prompts: list[str] = []

    def run(self, tasks: Sequence[Any]) -> Any:
        return recall.run(self, tasks, lambda *_: 0)

    def loglikelihood(self, requests: Sequence[Any]) -> list[Any]:
        return [[-float(request.arguments[1] != " 2"), False] for request in requests]

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        programs = ["    return x + 1\n", "    return x\n"] * len(requests)
        return [
            program if request.arguments[0].startswith("def") else " 2"
            for request, program in zip(requests, programs, strict=False)
        ]

    def logprobs(self, label: str, texts: Sequence[str], window: int) -> tuple[list[float], int]:
        return [-10.0] * len(texts), 0

    def answer(self, texts: Sequence[str]) -> list[str]:
        return ["да"] * len(texts)


@pytest.fixture
def mera(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project with a folder of four records of MERA's tasks."""
    monkeypatch.setattr(models, "Loaded", Answering)
    files = {
        "rucodeeval": [CODE],
        "rudetox": [DETOX],
        "rcb": [_rcb(1, "1"), _rcb(2, "2"), _rcb(3, "3"), _rcb(4, "")],
    }
    Path("mera").mkdir()
    for name, rows in files.items():
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        Path(f"mera/{name}.jsonl").write_text(text, encoding="utf-8")
    return project


def _scores(**changes: Any) -> dict[str, Any]:
    values = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    values["evaluate"] |= {"suites": ["world", "mera"], **changes}
    Path("params.yaml").write_text(yaml.safe_dump(values, allow_unicode=True), encoding="utf-8")
    assert main(STAGE, [CELL]) == 0
    return dict(json.loads((OUT / "scores.json").read_text(encoding="utf-8")))


def test_programs_are_run_only_where_that_is_allowed(mera: Path) -> None:
    refused = _scores()
    assert "switched off; allow it with `execute_code`" in refused["refused"]["rucodeeval"]
    assert "name their folder with `detox_scorers`" in refused["refused"]["rudetox"]
    assert "execute_code" in refused["mera"]["not_submitted"]["ruCodeEval"]
    assert "ruDetox" not in refused["mera"]["not_submitted"]
    assert refused["mera"]["official"] is False
    scores = _scores(execute_code=True)
    assert scores["tasks"]["rucodeeval"]["metrics"]["pass@1"] == 0.5
    assert "ruCodeEval" in scores["mera"]["tasks"]
    assert "ruCodeEval" not in scores["mera"]["not_submitted"]
    assert scores["conditions"] != refused["conditions"]


@pytest.mark.parametrize("mode", ["choice", "generate"])
def test_modes_shots_and_unanswered_items(mera: Path, mode: str) -> None:
    name = "rcb" if mode == "choice" else "rcb_gen"
    Path("mera/rudetox.jsonl").unlink()  # its one record would be its own shot
    scores = _scores(mode=mode, shots=0)
    assert (scores["tasks"][name]["n"], scores["tasks"][name]["unanswered"]) == (3, 1)
    assert scores["tasks"][name]["value"] == pytest.approx(1 / 3)
    # Of three answered records one is RCB's own shot; the item without an answer is asked and not scored.
    asked = _scores(shots=None, ask_unanswered=True, draw="mera")
    assert asked["tasks"][name]["n"] == 2
    faults = submission.validate(OUT / "submission/submission.zip")
    assert "RCB" not in {fault.task for fault in faults}
    assert asked["conditions"]["shots"] is None
    assert asked["conditions"] != scores["conditions"]


def test_a_folder_without_scorers_is_one_line(mera: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _scores()
    Path("scorers").mkdir()
    values = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    values["evaluate"]["detox_scorers"] = "scorers"
    Path("params.yaml").write_text(yaml.safe_dump(values, allow_unicode=True), encoding="utf-8")
    capsys.readouterr()
    assert main(STAGE, [CELL]) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("evaluate: scorers/style/calibration.json: no calibration of a scorer")
