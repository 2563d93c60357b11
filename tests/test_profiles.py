"""Every profile is valid, and its real code path runs with a shrunk model and text of a few pages."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from test_graph import graph_stages

from stages.common.params import Params, load, parse
from stages.common.stage import execute
from stages.measure import child
from stages.measure import stage as measuring

ROOT = Path(__file__).resolve().parent.parent
PROFILES = sorted((ROOT / "profiles").glob("*.yaml"))
SHRUNK = {
    "tokens": 2_000,
    "batch_size": 4,
    "accumulate": 2,
    "sequence_length": 64,
    "precision": "fp32",
    "checkpoint_steps": 4,
    "learning_rate": 1e-3,
}


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_profile_is_valid(path: Path) -> None:
    load(path)


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_profile_writes_out_every_key_that_the_graph_declares(path: Path) -> None:
    """DVC reads the file itself and knows no defaults: a key that is not there stops `dvc repro`."""
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    for stage in graph_stages():
        for key in stage.reads:
            block, _, part = key.partition(".")
            assert block in values, key
            assert not part or part in values[block], key


def test_the_embedded_profile_is_the_default_run() -> None:
    assert (ROOT / "profiles" / "embedded.yaml").read_text() == (ROOT / "params.yaml").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_profile_runs_shrunk(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # A fresh process for each of twenty models is twenty imports of torch; test_measure_stage.py has one.
    here = SimpleNamespace(run=_measured_here, DEVNULL=subprocess.DEVNULL)
    monkeypatch.setattr(measuring, "subprocess", here)
    params = _shrunk(path, tmp_path)
    (tmp_path / "champion.json").write_text('{"version": null, "digest": null, "path": "out/base"}')
    for stage in graph_stages():
        cells = stage.cells(params) if stage.cells else [None]
        for cell in cells:
            execute(stage, params, cell)
    decision = json.loads((tmp_path / "out/gate/decision.json").read_text())
    assert set(decision["candidates"]) == set(params.candidates)
    found = json.loads((tmp_path / "out/validate/contamination.json").read_text())["tasks"]
    assert found
    assert not [name for name, task in found.items() if task["contaminated"]]
    assert "<html" in (tmp_path / "out/report/report.html").read_text()


def _measured_here(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
    """The measuring child, without an interpreter of its own."""
    assert command[:3] == [sys.executable, "-m", "stages.measure.child"]
    return subprocess.CompletedProcess(command, child.main(command[3:]))


def _shrunk(path: Path, folder: Path) -> Params:
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    values["threads"] = 1
    for name in ("pretrain", "adapt", "distill", "judge_model"):
        values[name]["training"] |= SHRUNK
    for source in values["corpus"]["sources"]:
        _shrink_source(source, folder)
    values["validation"] |= {"min_documents": 20, "max_dropped_share": 1.0}
    values["corpus"]["heldout_share"] = 0.2
    values["corpus"]["min_chars"] = 20
    values["tokens"]["vocab_size"] = 400
    if values["base"]["source"] == "bootstrap":
        values["base"]["bootstrap"]["training"] |= SHRUNK
        values["base"]["bootstrap"]["parameters"] = 60_000
    else:
        values["base"] |= {"source": "local", "path": str(_model(folder / "model"))}
    values["judge_model"]["parameters"] = 60_000
    values["judge_model"]["vocab_size"] = 400
    if path.stem != "embedded":  # one profile runs every recipe; each cell costs the imports of a process
        values["candidates"] = {
            name: values["candidates"][name] for name in ("adapt-bf16", "distill-higgs-4bit")
        }
    if values["evaluate"]["suites"] != ["world"]:
        values["evaluate"]["suites"] = [str(_suite(folder / "suite"))]
    values["evaluate"] |= {"limit": 5, "bpc_characters": 500, "bpc_window": 64, "batch_size": 4}
    values["evaluate"]["questions"] = min(4, values["evaluate"]["questions"])
    values["judge"]["pairs"] = 4
    values["measure"] |= {"prompt_tokens": [1, 16], "new_tokens": 2, "warmup": 0, "repeats": 3}
    return parse(values, str(path))


def _shrink_source(source: dict[str, Any], folder: Path) -> None:
    if source["type"] == "world":
        source |= {"size": 0.05, "tasks_per_kind": 20}
        return
    file = folder / f"{source['subset']}.jsonl"
    rng = random.Random(source["subset"])
    with file.open("w", encoding="utf-8") as lines:
        for number in range(60):
            text = " ".join(_sentence(rng, source["language"]) for _ in range(4))
            record = {"text": text, "question": text, "instruction": text, "answer": str(number)}
            lines.write(json.dumps(record, ensure_ascii=False) + "\n")
    source["paths"] = [str(file)]


WORDS = {
    "ru": ["река", "дом", "старый", "город", "человек", "говорит", "вечер", "дорога", "зима", "письмо"],
    "en": ["river", "house", "old", "town", "people", "talk", "evening", "road", "winter", "letter"],
}
LINKS = {"ru": ["и", "в", "на", "не", "с"], "en": ["and", "in", "the", "of", "to"]}


def _sentence(rng: random.Random, language: str) -> str:
    words, links = WORDS[language], LINKS[language]
    return " ".join(f"{rng.choice(words)} {rng.choice(links)}" for _ in range(6)).capitalize() + "."


def _model(folder: Path) -> Path:
    """A tiny checkpoint of the family that the real profiles use, with a tokenizer trained here."""
    from stages.common.bpe import train_tokenizer
    from stages.common.checkpoint import save_model
    from stages.common.training.shape import derive_shape, new_model

    rng = random.Random(0)
    texts = [_sentence(rng, language) for language in ("ru", "en") for _ in range(50)]
    tokenizer = train_tokenizer(texts, 400)
    shape = derive_shape(60_000, len(tokenizer))
    save_model(new_model(shape, tokenizer.eos_token_id, seed=0), tokenizer, folder)
    return folder


def _suite(folder: Path) -> Path:
    """Ten sums in MERA's form, with the index that says what the task is."""
    folder.mkdir()
    with (folder / "sums.jsonl").open("w", encoding="utf-8") as lines:
        for number in range(10):
            record = {
                "instruction": "Реши пример.\n{inputs}",
                "inputs": f"{number} + 1 =",
                "outputs": str(number + 1),
                "meta": {"id": number},
            }
            lines.write(json.dumps(record, ensure_ascii=False) + "\n")
    index = {"sums": {"language": "ru", "type": "generate", "choices": None, "metric": "exact_match"}}
    (folder / "index.json").write_text(json.dumps(index))
    return folder
