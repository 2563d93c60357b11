"""Equal inputs give equal bytes, and a changed key re-runs only what depends on it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import yaml

from stages.evaluate.models import FOLDER
from tests.proof.common import SCRATCH, out_hashes, piece, run, tiny, workspace, write_result

CLAIM = "reproducible"
# One key per block, and the stages that must run again for it (the measurements and what reads them aside).
CHANGES: dict[str, tuple[tuple[str, ...], Any]] = {
    "judge.probe_pairs": (("judge", "probe_pairs"), 10),
    "gate.alpha": (("gate", "alpha"), 0.1),
    "measure.repeats": (("measure", "repeats"), 4),
    "distill.temperature": (("distill", "temperature"), 2.0),
}


def measure() -> None:
    """The default graph as `gorn run` left it in another clone (claim budgets), then forced; a tiny one once
    per changed key.
    """
    folder = SCRATCH / "budgets" / "clone"
    if not (folder / "dvc.lock").exists():
        raise SystemExit(f"{CLAIM}: compares with the run of `make proof CLAIM=budgets`; run that first")
    hashes = {
        "first": piece(CLAIM, "first", lambda: _repro(folder)),
        "second": piece(CLAIM, "forced", lambda: _forced(folder)),
    }
    names = sorted(set(hashes["first"]) | set(hashes["second"]))
    different = [name for name in names if hashes["first"].get(name) != hashes["second"].get(name)]
    again = {
        change: piece(CLAIM, f"change-{change}", lambda change=change: _change(change)) for change in CHANGES
    }
    write_result(
        CLAIM, {"files_compared": len(names), "different": different, "stages_run_after_change": again}
    )


def _repro(folder: Path, *options: str) -> dict[str, str]:
    # The run has promoted a champion since, so without options only what follows from that is made.
    run(["dvc", "repro", *options], folder)
    return out_hashes(folder)


def _forced(folder: Path) -> dict[str, str]:
    # What was answered before would only be written down again.
    shutil.rmtree(folder / FOLDER, ignore_errors=True)
    return _repro(folder, "--force")


def _change(change: str) -> list[str]:
    folder = workspace(CLAIM, "tiny", tiny)
    run(["dvc", "repro"], folder)
    path, value = CHANGES[change]
    _set(folder / "params.yaml", path, value)
    done = run(["dvc", "repro"], folder)
    stages = [line.split("'")[1] for line in done.stdout.splitlines() if line.startswith("Running stage")]
    workspace(CLAIM, "tiny", tiny)
    return [stage for stage in stages if not stage.endswith(":sources")]


def _set(file: Path, path: tuple[str, ...], value: Any) -> None:
    params = yaml.safe_load(file.read_text(encoding="utf-8"))
    block = params
    for key in path[:-1]:
        block = block[key]
    block[path[-1]] = value
    file.write_text(yaml.safe_dump(params, allow_unicode=True, sort_keys=False), encoding="utf-8")
