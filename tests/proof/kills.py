"""`kill -9` at any moment, then `dvc repro`: the bytes of an undisturbed run."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from stages.common import environment
from tests.proof.common import out_hashes, piece, run, tiny, workspace, write_result

CLAIM = "kills"
RANDOM_KILLS = 18
# Environment switches of the stage runner's own fault points (stages/common/faults.py).
PLACED = ("inside-checkpoint-write", "between-rename-and-manifest:tokens")


def measure() -> None:
    """One undisturbed run, then every kill followed by `dvc repro` to the end."""
    undisturbed = piece(CLAIM, "undisturbed", _undisturbed)
    kills = [
        piece(CLAIM, f"random-{number:02}", lambda n=number: _random_kill(n, undisturbed))
        for number in range(RANDOM_KILLS)
    ]
    kills += [piece(CLAIM, name, lambda name=name: _placed_kill(name, undisturbed)) for name in PLACED]
    write_result(
        CLAIM,
        {
            "files_compared": len(undisturbed["hashes"]),
            "undisturbed_seconds": undisturbed["seconds"],
            "kills": kills,
            "equal": sum(not kill["different"] for kill in kills),
        },
    )


def _fresh() -> Path:
    folder = workspace(CLAIM, "world", tiny, own_cache=True)
    for leftover in ("out", ".gorn", ".dvc/cache", ".dvc/tmp"):
        shutil.rmtree(folder / leftover, ignore_errors=True)
    (folder / "dvc.lock").unlink(missing_ok=True)
    return folder


def _undisturbed() -> dict[str, Any]:
    folder = _fresh()
    started = time.monotonic()
    run(["dvc", "repro"], folder)
    return {"seconds": round(time.monotonic() - started, 1), "hashes": out_hashes(folder)}


def _start(folder: Path, **extra: str) -> subprocess.Popen[bytes]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, **environment.QUIET, "PATH": path, **extra}
    log = (folder / "killed.log").open("wb")
    return subprocess.Popen(
        ["dvc", "repro"], cwd=folder, env=env, stdout=log, stderr=log, start_new_session=True
    )


def _random_kill(number: int, undisturbed: dict[str, Any]) -> dict[str, Any]:
    folder = _fresh()
    moment = random.Random(number).uniform(0.03, 0.97) * float(undisturbed["seconds"])
    process = _start(folder)
    try:
        process.wait(timeout=moment)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return {"kill": f"random {number}", "at_seconds": round(moment, 1), **_finish(folder, undisturbed)}


def _placed_kill(name: str, undisturbed: dict[str, Any]) -> dict[str, Any]:
    folder = _fresh()
    process = _start(folder, GORN_FAULT=name)
    process.wait(timeout=600)
    log = (folder / "killed.log").read_text(errors="replace")
    return {
        "kill": name,
        "fault_met": "-9" in log or "137" in log or process.returncode != 0,
        **_finish(folder, undisturbed),
    }


def _finish(folder: Path, undisturbed: dict[str, Any]) -> dict[str, Any]:
    log = (folder / "killed.log").read_text(errors="replace")
    stages = [line.split("'")[1] for line in log.splitlines() if line.startswith("Running stage")]
    run(["dvc", "repro"], folder)
    hashes = out_hashes(folder)
    different = [
        name
        for name in sorted({*hashes, *undisturbed["hashes"]})
        if hashes.get(name) != undisturbed["hashes"].get(name)
    ]
    return {"stage": stages[-1] if stages else None, "different": different}
