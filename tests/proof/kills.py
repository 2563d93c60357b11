"""`kill -9` at any moment, then `dvc repro`: the bytes of an undisturbed run."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from stages.common import environment
from tests.proof.common import emptied, out_hashes, piece, run, tiny, workspace, write_result

CLAIM = "kills"
# Random kills per round: a round starts from nothing, is killed so often, each time goes on from where it
# was, and ends undisturbed.
ROUNDS = (5, 5, 4, 4)
# Environment switches of the stage runner's own fault points (stages/common/faults.py).
PLACED = ("inside-checkpoint-write", "between-rename-and-manifest:tokens")


def measure() -> None:
    """One undisturbed run, then rounds of kills, each followed by `dvc repro` to the end."""
    undisturbed = piece(CLAIM, "undisturbed", _undisturbed)
    rounds = [
        piece(CLAIM, f"round-{number}", lambda n=number, k=kills: _random_kills(n, k, undisturbed))
        for number, kills in enumerate(ROUNDS, 1)
    ]
    rounds += [piece(CLAIM, name, lambda name=name: _placed_kill(name, undisturbed)) for name in PLACED]
    write_result(
        CLAIM,
        {
            "files_compared": len(undisturbed["hashes"]),
            "undisturbed_seconds": undisturbed["seconds"],
            "rounds": rounds,
            "kills": sum(len(found["kills"]) for found in rounds),
            "rounds_equal": sum(not found["different"] for found in rounds),
        },
    )


def _fresh() -> Path:
    return emptied(workspace(CLAIM, "world", tiny, own_cache=True))


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


def _random_kills(number: int, kills: int, undisturbed: dict[str, Any]) -> dict[str, Any]:
    folder, chance = _fresh(), random.Random(number)
    # The moments spread over the whole run: what one run has finished, the next does not repeat.
    longest = 2 * float(undisturbed["seconds"]) / kills
    return {
        "kills": [_kill(folder, chance.uniform(2, longest)) for _ in range(kills)],
        **_finish(folder, undisturbed),
    }


def _kill(folder: Path, seconds: float) -> dict[str, Any]:
    """SIGKILL to a `dvc repro` and all its processes after `seconds`; the stage that it struck."""
    process = _start(folder)
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return {
        "kill": "random",
        "after_seconds": round(seconds, 1),
        "met": process.returncode == -signal.SIGKILL,
        "stage": _stage(folder),
    }


def _placed_kill(name: str, undisturbed: dict[str, Any]) -> dict[str, Any]:
    folder = _fresh()
    process = _start(folder, GORN_FAULT=name)
    process.wait(timeout=600)
    kill = {"kill": name, "met": process.returncode != 0, "stage": _stage(folder)}
    return {"kills": [kill], **_finish(folder, undisturbed)}


def _stage(folder: Path) -> str | None:
    """The stage that the last run was at."""
    log = (folder / "killed.log").read_text(errors="replace")
    stages = [line.split("'")[1] for line in log.splitlines() if line.startswith("Running stage")]
    return stages[-1] if stages else None


def _finish(folder: Path, undisturbed: dict[str, Any]) -> dict[str, Any]:
    """`dvc repro` to the end; the files whose bytes are not those of the undisturbed run."""
    run(["dvc", "repro"], folder)
    hashes = out_hashes(folder)
    different = [
        name
        for name in sorted({*hashes, *undisturbed["hashes"]})
        if hashes.get(name) != undisturbed["hashes"].get(name)
    ]
    return {"different": different}
