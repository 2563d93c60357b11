"""The budgets of the design, measured on this machine: install, run, no-op, help, tests."""

from __future__ import annotations

import re
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from stages.common.atomic import read_json
from stages.evaluate.models import FOLDER
from tests.proof import readme
from tests.proof.common import RESULTS, ROOT, SCRATCH, piece, run, write_result

CLAIM = "budgets"
BUDGET_SECONDS = {
    "install": 180,
    "gorn run": 720,
    "no-op dvc repro": 3,
    "gorn --help": 0.3,
    "tests": 720,
    "one evaluation, alone": 25,
    "one evaluation, answers known": 10,
}
STAGE = re.compile(r"^\[ *\d+/\d+\] (\S+): ran in ([\d.]+) s")


def measure() -> None:
    """A fresh clone with a virtual environment of its own, as a newcomer has it."""
    folder = SCRATCH / CLAIM / "clone"
    seconds: dict[str, Any] = {"install": piece(CLAIM, "install", lambda: _install(folder))}
    first = piece(CLAIM, "run", lambda: _run(folder))
    seconds["gorn run"] = first["seconds"]
    seconds["no-op dvc repro"] = piece(
        CLAIM, "noop", lambda: _best_of(3, [_bin(folder, "dvc"), "repro"], folder)
    )
    seconds["gorn --help"] = piece(
        CLAIM, "help", lambda: _best_of(5, [_bin(folder, "gorn"), "--help"], folder)
    )
    seconds["tests"] = piece(CLAIM, "tests", lambda: _seconds(["make", "test"], folder))
    # Within the run two share the cores.
    command = [_bin(folder, "python"), "-m", "stages.evaluate", "adapt-higgs-4bit"]
    seconds["one evaluation, alone"] = piece(CLAIM, "evaluation", lambda: _asked(command, folder))
    seconds["one evaluation, answers known"] = piece(CLAIM, "known", lambda: _seconds(command, folder))
    write_result(
        CLAIM,
        {
            "seconds": seconds,
            "budget_seconds": BUDGET_SECONDS,
            "kept": {name: seconds[name] <= budget for name, budget in BUDGET_SECONDS.items()},
            "stages": first["stages"],
            "milliseconds_per_step_of_pretrain": _step(first["stages"]["pretrain"], folder),
            "table": first["table"],
            "commit": run(["git", "rev-parse", "--short", "HEAD"], folder).stdout.strip(),
        },
    )
    readme.write()


def _asked(command: list[str], folder: Path) -> Any:
    shutil.rmtree(folder / FOLDER, ignore_errors=True)
    return _seconds(command, folder)


def _bin(folder: Path, name: str) -> str:
    return str(folder / ".venv" / "bin" / name)


def _install(folder: Path) -> float:
    shutil.rmtree(folder, ignore_errors=True)
    run(["git", "clone", "--quiet", str(ROOT), str(folder)], ROOT)
    return _seconds(["make", "install", f"PYTHON={sys.base_prefix}/bin/python3"], folder)


def _run(folder: Path) -> dict[str, Any]:
    started = time.monotonic()
    done = run(["make", "run"], folder)
    seconds = round(time.monotonic() - started, 1)
    found = [STAGE.match(line) for line in done.stdout.splitlines() + done.stderr.splitlines()]
    # Now, because the next `dvc repro` compares with the champion that this run has just promoted.
    report = folder / "out" / "report"
    shutil.copyfile(report / readme.PICTURE, RESULTS / readme.PICTURE)
    stages = {match[1]: float(match[2]) for match in found if match}
    return {"seconds": seconds, "stages": stages, "table": read_json(report / "table.json")}


def _step(seconds: float, folder: Path) -> float:
    """How fast this machine trained: it tells a slow hour of a shared host from a slow program."""
    steps = read_json(folder / "out" / "pretrain" / "training.json")["steps"]
    return round(1000 * seconds / int(steps), 1)


def _seconds(command: list[str], folder: Path) -> float:
    started = time.monotonic()
    run(command, folder)
    return round(time.monotonic() - started, 2)


def _best_of(times: int, command: list[str], folder: Path) -> float:
    return min(_seconds(command, folder) for _ in range(times))
