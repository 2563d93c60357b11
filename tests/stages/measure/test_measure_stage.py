"""The stage on real, tiny checkpoints in processes of their own, and its errors."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from training_fakes import tiny_model

from stages.common.checkpoint import digest
from stages.common.errors import UserError
from stages.common.params import parse
from stages.common.stage import execute
from stages.measure import stage

ROOT = Path(__file__).resolve().parents[3]
CELL = "adapt-bf16"


def params(**measure: Any) -> Any:
    values = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    block = {"prompt_tokens": [1, 20], "new_tokens": 4, "warmup": 1, "repeats": 3, **measure}
    return parse({**values, "threads": 1, "device": "cpu", "measure": block}, "params.yaml")


def checkpoint(folder: Path) -> Path:
    tiny_model(layers=1, max_position_embeddings=32).bfloat16().save_pretrained(folder)
    return folder


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (tmp_path / "champion.json").write_text(json.dumps({"version": None, "digest": None, "path": "out/base"}))
    return tmp_path


@pytest.mark.slow
def test_a_candidate_is_measured_and_long_prompts_are_refused_by_name(project: Path) -> None:
    folder = checkpoint(project / "out" / "quantize" / CELL)
    execute(stage.STAGE, params(prompt_tokens=[1, 20, 40]), CELL)
    found = json.loads((project / "out/measure" / CELL / "measures.json").read_text())
    assert found["bytes"] == sum(file.stat().st_size for file in folder.iterdir())
    assert found["bits_per_weight"] == 16.0
    assert found["device"] == "cpu" and found["peak_device_bytes"] is None
    assert found["peak_rss_bytes"] >= found["baseline_rss_bytes"] > 50_000_000
    assert found["load_s"] > 0
    assert found["machine"]["threads"] == 1 and found["machine"]["torch"] == torch.__version__
    assert found["prompts"]["40"] is None
    assert "32 positions" in found["reasons"]["40"]
    for length in ("1", "20"):
        times = found["prompts"][length]
        assert 0 < times["ttft_ms"]["p50"] <= times["latency_ms"]["p50"] <= times["latency_ms"]["p95"]
        low, high = times["decode_tokens_per_s"]["ci"]
        assert 0 < low <= times["decode_tokens_per_s"]["p50"] <= high
    assert (project / f"out/measure/{CELL}.manifest.json").exists()


def test_a_truncated_checkpoint_leaves_the_earlier_measures_untouched(project: Path) -> None:
    folder = checkpoint(project / "out" / "quantize" / CELL)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    earlier = project / "out/measure" / CELL / "measures.json"
    earlier.parent.mkdir(parents=True)
    earlier.write_text("{}")
    with pytest.raises(UserError, match=r"model\.safetensors: truncated"):
        execute(stage.STAGE, params(), CELL)
    assert earlier.read_text() == "{}"


def test_a_champion_with_another_digest_is_refused(project: Path) -> None:
    folder = checkpoint(project / "out" / "base")
    known = {"version": 3, "digest": "0" * 64, "path": "out/base"}
    (project / "champion.json").write_text(json.dumps(known))
    with pytest.raises(UserError, match=rf"its digest is {digest(folder)[:12]}.*gorn champion fetch"):
        execute(stage.STAGE, params(), "champion")
    assert not (project / "out/measure/champion").exists()


def test_a_champion_without_a_path_is_refused(project: Path) -> None:
    (project / "champion.json").write_text("{}")
    with pytest.raises(UserError, match=r"champion\.json: has no `path`"):
        stage.locate(params(), "champion")


def test_a_killed_child_is_reported_with_the_likely_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    killed = subprocess.CompletedProcess([], -signal.SIGKILL)
    monkeypatch.setattr(stage.subprocess, "run", lambda *_, **__: killed)
    with pytest.raises(UserError, match=r"out/x: the measuring process was killed by SIGKILL.*memory"):
        stage.measure_in_fresh_process({"folder": "out/x"})


def test_a_child_that_fails_in_another_way_is_our_error(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = subprocess.CompletedProcess([], 70)
    monkeypatch.setattr(stage.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(RuntimeError, match="status 70"):
        stage.measure_in_fresh_process({"folder": "out/x"})


@pytest.mark.parametrize(("device", "asked"), [("auto", ["auto", "cpu"]), ("cuda", ["cuda"])])
def test_with_a_gpu_the_cpu_is_measured_too_unless_one_device_is_named(
    project: Path, monkeypatch: pytest.MonkeyPatch, device: str, asked: list[str]
) -> None:
    checkpoint(project / "out" / "quantize" / CELL)
    seen: list[str] = []

    def fresh(spec: dict[str, Any]) -> dict[str, Any]:
        seen.append(spec["device"])
        used = "cpu" if spec["device"] == "cpu" else "cuda"
        return {
            "device": used,
            "parameters": 1000,
            "library": {},
            "load_s": 0.1,
            "prompts": {},
            "reasons": {},
        }

    monkeypatch.setattr(stage, "measure_in_fresh_process", fresh)
    execute(stage.STAGE, params().model_copy(update={"device": device}), CELL)
    found = json.loads((project / "out/measure" / CELL / "measures.json").read_text())
    assert seen == asked
    assert found["device"] == "cuda"
    assert ("on_cpu" in found) is (device == "auto")


def test_the_cells_are_the_candidates_and_the_champion() -> None:
    known = params()
    assert list(stage.cells(known)) == [*known.candidates, "champion"]
