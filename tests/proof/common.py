"""What the claims share: workspaces, resumable pieces, the machine, the result files."""

from __future__ import annotations

import json
import math
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from stages.common import environment
from stages.common.atomic import write_json
from stages.common.hashing import sha256_file

ROOT = Path(__file__).resolve().parents[2]
SCRATCH = ROOT / ".gorn" / "proof"
RESULTS = ROOT / "docs" / "results"
LOCKS = ("dvc.lock", "stages/dvc.lock")
# What holds times, or reads what holds them (DESIGN 4): the only outs that may differ between equal runs.
TIMED = ("out/measure", "out/gate", "out/report", "out/validate_docs")


def piece(claim: str, name: str, make: Callable[[], Any]) -> Any:
    """The value of one finished piece of a claim, made now unless an earlier run left it."""
    path = SCRATCH / claim / "pieces" / f"{name}.json"
    if not path.exists():
        sys.stderr.write(f"{claim}: {name} ...\n")
        write_json(path, make())
    return json.loads(path.read_text(encoding="utf-8"))


def write_result(claim: str, values: dict[str, Any]) -> None:
    """Write docs/results/<claim>.json: the values, the command that makes them, the machine, the commit."""
    write_json(
        RESULTS / f"{claim}.json",
        {
            "claim": claim,
            "command": f"make proof CLAIM={claim}",
            "machine": machine(),
            "commit": commit(),
            **values,
        },
    )


def replace_between(path: Path, begin: str, end: str, text: str) -> None:
    """Put `text` between the markers `begin` and `end` of the page `path`."""
    before, _, rest = path.read_text(encoding="utf-8").partition(begin)
    after = rest.partition(end)[2]
    path.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")


def machine() -> dict[str, Any]:
    """CPU, cores, memory and the versions that times and weights depend on."""
    import psutil
    import torch

    cpu = platform.processor() or "unknown"
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.split(":", 1)[1].strip()
            for line in info.read_text().splitlines()
            if line.startswith("model name")
        ]
        cpu = names[0] if names else cpu
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def interval(values: Sequence[float]) -> dict[str, Any]:
    """Mean and Student's 95 % interval."""
    from scipy.stats import t

    count = len(values)
    mean = math.fsum(values) / count
    spread = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1))
    half = float(t.ppf(0.975, count - 1)) * spread / math.sqrt(count)
    return {"mean": mean, "low": mean - half, "high": mean + half, "values": list(values)}


def commit() -> str:
    """The commit of this checkout, with `+` when tracked files other than docs differ from it."""
    head = run(["git", "rev-parse", "--short", "HEAD"], ROOT).stdout.strip()
    code = ["--", ".", ":!docs", ":!README.md"]
    dirty = run(["git", "status", "--porcelain", "--untracked-files=no", *code], ROOT).stdout.strip()
    return head + ("+" if dirty else "")


def run(
    command: Sequence[str], cwd: Path, check: bool = True, **extra: str
) -> subprocess.CompletedProcess[str]:
    """Run a command with this environment's programs on PATH; its stderr is shown when it fails."""
    environment.quiet()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, **environment.ALLOCATOR, "PATH": path, **extra}
    done = subprocess.run(command, cwd=cwd, env=env, text=True, capture_output=True, check=False)
    if check and done.returncode:
        raise RuntimeError(
            f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        )
    return done


def workspace(
    claim: str, name: str, edit: Callable[[dict[str, Any]], None] | None = None, own_cache: bool = False
) -> Path:
    """A clone of the committed tree in which `edit` has changed params.yaml; an existing one is used again.

    It shares this checkout's DVC cache, so that what was made once is not made again, unless `own_cache`.
    """
    folder = SCRATCH / claim / name
    if not (folder / ".git").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        run(["git", "clone", "--quiet", str(ROOT), str(folder)], ROOT)
        if not own_cache:
            run(["dvc", "config", "--local", "cache.dir", str(ROOT / ".dvc" / "cache")], folder)
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    if edit:
        edit(params)
    (folder / "params.yaml").write_text(
        yaml.safe_dump(params, allow_unicode=True, sort_keys=False), encoding="utf-8"
    )
    return folder


def emptied(folder: Path) -> Path:
    """The workspace `folder` as if nothing had run in it."""
    for leftover in ("out", ".gorn", ".dvc/cache", ".dvc/tmp"):
        shutil.rmtree(folder / leftover, ignore_errors=True)
    for lock in LOCKS:
        (folder / lock).unlink(missing_ok=True)
    return folder


def begin_like(folder: Path, other: Path) -> None:
    """Give a new workspace what `other` has made, so that only what differs runs."""
    if not (folder / "out").exists():
        shutil.copytree(other / "out", folder / "out")
        for lock in LOCKS:
            shutil.copyfile(other / lock, folder / lock)
        # An out that is not in the cache is made again.
        cache = run(["dvc", "cache", "dir"], other).stdout.strip()
        run(["dvc", "config", "--local", "cache.dir", cache], folder)


def score(folder: Path, checkpoint: Path, out: Path) -> dict[str, Any]:
    """Score `checkpoint` into `out` as the stage `evaluate` of the workspace `folder` does."""
    from stages.common.atomic import read_json
    from stages.common.params import load, select
    from stages.evaluate.stage import STAGE

    params = load(folder / "params.yaml")
    environment.fix_threads(params.threads)
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    inputs = {"checkpoint": checkpoint, "corpus": folder / "out" / "corpus"}
    STAGE.run(select(params, STAGE.reads), inputs, {"evaluate": out})
    scores = read_json(out / "scores.json")
    return {"total": scores["total"], "bpc": scores["bpc"], "tasks": scores["tasks"]}


def out_hashes(folder: Path, timed: bool = False) -> dict[str, str]:
    """SHA-256 of every file below out/, without what holds times unless `timed`."""
    files = sorted(file for file in (folder / "out").rglob("*") if file.is_file())
    names = {str(file.relative_to(folder)): file for file in files}
    return {name: sha256_file(file) for name, file in names.items() if timed or not name.startswith(TIMED)}


def tiny(params: dict[str, Any]) -> None:
    """The test-sized world with two candidates: every stage, most of the time spent on imports."""
    params["threads"] = 1  # as fast at this size, and two claims can run side by side
    params["corpus"]["sources"] = [{"type": "world", "seed": 7, "size": 0.08, "tasks_per_kind": 20}]
    params["candidates"] = {
        "adapt-bf16": {"source": "adapt", "recipe": "bf16"},
        "distill-ternary": {"source": "distill", "recipe": "ternary"},
    }
    params["validation"]["min_documents"] = 50
    params["tokens"]["vocab_size"] = 600
    params["base"]["bootstrap"]["parameters"] = 100_000
    params["judge_model"]["parameters"] = 100_000
    for block in (
        params["base"]["bootstrap"],
        params["pretrain"],
        params["adapt"],
        params["distill"],
        params["judge_model"],
    ):
        block["training"] |= {
            "tokens": 40_000,
            "batch_size": 8,
            "sequence_length": 64,
            "checkpoint_steps": 10,
        }
    params["evaluate"] |= {"questions": 20, "limit": 20}
    params["judge"]["pairs"] = 20
    params["measure"] |= {"prompt_tokens": [1, 32], "new_tokens": 4, "warmup": 1, "repeats": 3}
    params["gate"]["min_clusters"] = 5
