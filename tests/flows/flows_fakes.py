"""A small project in the form of docs/architecture.md: real DVC stages, invented models and scores."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil

REPO = Path(__file__).resolve().parents[2]
CANDIDATES = ("adapt-bf16", "adapt-ternary")

DVC_YAML = """\
vars:
  - champion.json
stages:
  sources:
    cmd: python make.py sources
    always_changed: true
    outs:
      - out/sources: {cache: false}
  base:
    desc: The model to start from
    cmd: python make.py base
    deps: [out/sources]
    params: [seed]
    outs: [out/base]
  quantize:
    foreach: ${candidates}
    do:
      cmd: python make.py quantize ${key}
      deps: [out/base]
      params: ["candidates.${key}", seed]
      outs: ["out/quantize/${key}"]
  evaluate:
    foreach: ${candidates}
    do:
      cmd: python make.py evaluate ${key}
      deps: ["out/quantize/${key}"]
      outs: ["out/evaluate/${key}", "out/measure/${key}"]
  evaluate_champion:
    cmd: python make.py evaluate champion
    deps: [champion.json, "${path}"]
    outs: [out/evaluate/champion, out/measure/champion]
  gate:
    cmd: python make.py gate
    deps: [champion.json, out/evaluate, out/quantize]
    outs: [out/gate, out/report]
"""

MAKE_PY = """\
import sys
sys.path.insert(0, {here!r})
import flows_fakes
flows_fakes.stage(*sys.argv[1:])
"""


def checkpoint(folder: Path, content: str) -> str:
    """A folder that looks like a checkpoint to `digest`; its digest."""
    from stages.common.checkpoint import digest

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text("{}", encoding="utf-8")
    (folder / "model.safetensors").write_text(content, encoding="utf-8")
    return digest(folder)


def write(path: Path, value: Any) -> None:
    """`value` as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def scores(total: float, model: Path) -> dict[str, Any]:
    """scores.json of the checkpoint `model` with one task."""
    from stages.common.checkpoint import digest

    return {
        "model": {"digest": digest(model)},
        "conditions": {"shots": 0},
        "tasks": {
            "capitals": {"metric": "acc", "value": total, "ci": [total - 0.02, total + 0.02], "n": 220}
        },
        "total": {"value": total, "ci": [total - 0.02, total + 0.02], "tasks": 1, "missing": []},
        "bpc": {"ru": {"value": 0.5, "ci": [0.4, 0.6], "documents": 9, "characters": 900}},
    }


def measures(size: int) -> dict[str, Any]:
    """measures.json with one prompt length."""
    prompts = {"1": times(12.5)}
    return {"device": "cpu", "bytes": size, "bits_per_weight": 16.0, "machine": {}, "prompts": prompts}


def times(latency: float) -> dict[str, Any]:
    """One prompt length of measures.json."""
    return {
        "ttft_ms": {"p50": 1.5, "p95": 2.0},
        "latency_ms": {"p50": latency, "p95": 15.0},
        "prefill_tokens_per_s": {"p50": 800.0},
        "decode_tokens_per_s": {"p50": 80.0, "ci": [70.0, 90.0]},
    }


def decision(root: Path, winner: str | None, champion: dict[str, Any]) -> dict[str, Any]:
    """A decision over the checkpoints of `root`: the winner passes, every other candidate fails."""
    from stages.common.checkpoint import digest

    entries = {
        name: {
            "verdict": "pass" if name == winner else "fail",
            "digest": digest(root / "out" / "quantize" / name),
            "bytes": 1000,
            "parent": None,
            "reasons": [] if name == winner else ["total: 0.2 below its parent"],
            "checks": [
                {
                    "rule": "r",
                    "against": "champion",
                    "metric": "total",
                    "verdict": "pass",
                    "text": "total holds",
                }
            ],
        }
        for name in CANDIDATES
    }
    judged = {
        "version": champion["version"],
        "digest": champion["digest"],
        "compared": digest(root / champion["path"]),
    }
    reason = "the smallest that passed" if winner else "no candidate passed"
    return {
        "schema": 2,
        "champion": judged,
        "candidates": entries,
        "winner": winner,
        "winner_reason": reason,
        "rule": "smallest",
    }


def stage(name: str, cell: str = "") -> None:
    """What the fake stages of DVC_YAML do, in the current folder."""
    import yaml

    out = Path("out")
    seed = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))["seed"]
    sys.stderr.write(f"{name}: working on {cell or 'all'}\n")
    if name == "sources":
        write(out / "sources" / "fingerprints.json", {})
    elif name == "base":
        checkpoint(out / "base", f"base {seed}")
        curve = {"every": 1, "loss": [3.0, 2.5]}
        write(out / "base" / "training.json", {"steps": 2, "tokens": {}, "points": [], "curve": curve})
        manifest = {
            "schema": 1,
            "stage": "base",
            "params": {"seed": seed},
            "lineage": {"licence": "Apache-2.0"},
        }
        write(
            out / "base" / "gorn.json", {**manifest, "tokens": {"world-en": 1000}, "notes": {}, "files": {}}
        )
    elif name == "quantize":
        checkpoint(out / "quantize" / cell, f"{cell} {seed}")
        write(
            out / "quantize" / cell / "gorn.json",
            {"schema": 1, "stage": "quantize", "params": {"seed": seed}},
        )
    elif name == "evaluate":
        told = json.loads(Path("champion.json").read_text(encoding="utf-8"))
        model = Path(told["path"]) if cell == "champion" else out / "quantize" / cell
        write(out / "evaluate" / cell / "scores.json", scores(0.3 if cell == "champion" else 0.8, model))
        write(out / "measure" / cell / "measures.json", measures(1000))
    elif name == "gate":
        told = json.loads(Path("champion.json").read_text(encoding="utf-8"))
        write(out / "gate" / "decision.json", decision(Path(), CANDIDATES[0], told))
        report(Path())


def environment() -> dict[str, str]:
    """The environment of a child that runs `gorn`, without what the test's own says about stores."""
    ours = ("MLFLOW_", "PREFECT_", "GORN_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


def bare(root: Path) -> Path:
    """A project folder with params.yaml, dvc.yaml and champion.json, not under git or DVC yet."""
    import yaml

    root.mkdir(parents=True, exist_ok=True)
    values = yaml.safe_load((REPO / "params.yaml").read_text(encoding="utf-8"))
    values["candidates"] = {
        name: {"source": "adapt", "recipe": name.removeprefix("adapt-")} for name in CANDIDATES
    }
    (root / "params.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    (root / "dvc.yaml").write_text(DVC_YAML, encoding="utf-8")
    (root / "make.py").write_text(MAKE_PY.format(here=str(Path(__file__).parent)), encoding="utf-8")
    (root / ".gitignore").write_text("/out/\n/.gorn/\n", encoding="utf-8")
    write(root / "champion.json", {"version": None, "digest": None, "path": "out/base"})
    return root


def finished(root: Path, winner: str | None = CANDIDATES[0], seed: int = 1) -> Path:
    """A bare project with everything that a run leaves under out/, written by hand."""
    bare(root)
    for name in CANDIDATES:
        checkpoint(root / "out" / "quantize" / name, f"{name} {seed}")
        manifest = {"schema": 1, "stage": "quantize", "params": {"seed": seed}, "lineage": {}, "tokens": {}}
        write(root / "out" / "quantize" / name / "gorn.json", manifest)
        write(root / "out" / "measure" / name / "measures.json", measures(1000))
        write(
            root / "out" / "judge" / name / "summary.json",
            {"preference": 0.6, "ci": [0.5, 0.7], "enabled": True},
        )
    write(root / "out" / "measure" / "champion" / "measures.json", measures(2000))
    checkpoint(root / "out" / "base", f"base {seed}")
    decide(root, winner)
    return root


def decide(root: Path, winner: str | None = CANDIDATES[0]) -> None:
    """Score everything, and let the gate decide against the champion that champion.json names."""
    told = json.loads((root / "champion.json").read_text(encoding="utf-8"))
    for name in CANDIDATES:
        scored = scores(0.8, root / "out" / "quantize" / name)
        write(root / "out" / "evaluate" / name / "scores.json", scored)
    write(root / "out" / "evaluate" / "champion" / "scores.json", scores(0.3, root / told["path"]))
    write(root / "out" / "gate" / "decision.json", decision(root, winner, told))
    report(root)


def report(root: Path) -> None:
    """table.json of what lies under out/, as the stage `report` makes it."""
    from stages.report.models import read_models
    from stages.report.table import table

    out = root / "out"
    decided = json.loads((out / "gate" / "decision.json").read_text(encoding="utf-8"))
    manifests = {name: out / "quantize" / name / "gorn.json" for name in CANDIDATES}
    models = read_models(manifests, decided, {name: out / name for name in ("evaluate", "judge", "measure")})
    write(out / "report" / "table.json", table(models, decided, []))


def retrained(root: Path, seed: int) -> None:
    """Other candidates from another seed, decided against the champion of now."""
    for name in CANDIDATES:
        checkpoint(root / "out" / "quantize" / name, f"{name} {seed}")
    decide(root)


def under_dvc(root: Path) -> Path:
    """Put a bare project under git and DVC."""
    tools = Path(sys.executable).parent
    for command in (
        ["git", "init", "-q"],
        [str(tools / "dvc"), "init", "-q"],
        ["git", "add", "-A"],
        ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", "start"],
    ):
        subprocess.run(command, cwd=root, check=True, env=environment(), capture_output=True)
    return root


def gorn(root: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the console script in `root`."""
    return subprocess.run(
        [sys.executable, "-m", "flows.cli", *arguments],
        cwd=root,
        env={**environment(), "PYTHONPATH": str(REPO), **variables},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def copy_store(source: Path, root: Path) -> None:
    """Give `root` a fresh tracking store from a template: creating one takes seconds of migrations."""
    (root / ".gorn").mkdir(exist_ok=True)
    shutil.copyfile(source, root / ".gorn" / "mlflow.db")


def runs(pid: int) -> bool:
    """Whether process `pid` is at work; a zombie that nobody reaped is not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
