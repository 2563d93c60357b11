"""From one champion to the next: another seed, manual approval, rollback, a stale decision, two promoters."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from stages.common.atomic import read_json, write_json
from tests.proof.common import SCRATCH, piece, run, tiny, workspace, write_result

CLAIM = "retraining"
STEPS = ("first", "second_seed", "manual_waits", "approved", "rolled_back", "stale", "race")


def measure() -> None:
    """Everything on the test-sized world, through the command line; each step builds on the one before."""
    found = {step: piece(CLAIM, step, lambda step=step: globals()[f"_{step}"]()) for step in STEPS}
    write_result(CLAIM, {"steps": found})


def _folder(seed: int, mode: str = "automatic") -> Path:
    def edit(params: dict[str, Any]) -> None:
        tiny(params)
        # What the few items of this world can tell; with the default margin nothing could be shown.
        for rule in (*params["gate"]["against_champion"], *params["gate"]["against_parent"]):
            rule["margin"] = 0.1 if rule["metric"] == "total" else 0.3
        params["corpus"]["heldout_share"] = 0.2
        params["seed"] = seed
        params["promotion"]["mode"] = mode

    return workspace(CLAIM, "world", edit, own_cache=True)


def _state(folder: Path, command: list[str]) -> dict[str, Any]:
    done = run(command, folder, check=False)
    said = (done.stderr if done.returncode else done.stdout).strip().splitlines()
    return {
        "command": " ".join(command),
        "exit": done.returncode,
        "said": said[-1] if said else "",
        "champion": read_json(folder / "champion.json"),
    }


def _first() -> dict[str, Any]:
    return _state(_folder(1), ["gorn", "run"])


def _second_seed() -> dict[str, Any]:
    folder = _folder(2)
    state = _state(folder, ["gorn", "run"])
    decision = read_json(folder / "out" / "gate" / "decision.json")
    verdicts = {name: item["verdict"] for name, item in decision["candidates"].items()}
    return state | {
        "compared_with": decision["champion"],
        "verdicts": verdicts,
        "reason": decision["winner_reason"],
    }


def _manual_waits() -> dict[str, Any]:
    return _state(_folder(3, "manual"), ["gorn", "run"])


def _approve(folder: Path, version: str) -> None:
    """What a person does in the MLflow UI: set the version's tag; `version` is a Python expression."""
    script = (
        "import mlflow; c = mlflow.MlflowClient(tracking_uri='sqlite:///.gorn/mlflow.db');"
        f"c.set_model_version_tag('gorn', str({version}), 'approved', 'true')"
    )
    run([sys.executable, "-c", script], folder)


def _approved() -> dict[str, Any]:
    folder = _folder(3, "manual")
    _approve(folder, "c.get_model_version_by_alias('gorn', 'challenger').version")
    return _state(folder, ["gorn", "promote"])


def _rolled_back() -> dict[str, Any]:
    return _state(_folder(3, "manual"), ["gorn", "rollback"])


def _stale() -> dict[str, Any]:
    """The decision names the champion that the rollback has just replaced."""
    folder = _folder(3, "manual")
    path = folder / "out" / "gate" / "decision.json"
    decision = read_json(path)
    write_json(path, decision | {"champion": decision["champion"] | {"version": 999}})
    state = _state(folder, ["gorn", "promote"])
    write_json(path, decision)
    return state


def _race() -> dict[str, Any]:
    """Two `gorn promote` at once for the version that was rolled back: how each ends."""
    folder = _folder(3, "manual")
    number = read_json(SCRATCH / CLAIM / "pieces" / "approved.json")["champion"]["version"]
    _approve(folder, str(number))
    command = [str(Path(sys.executable).parent / "gorn"), "promote", "--version", str(number)]
    both = [
        subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for _ in range(2)
    ]
    said = [process.communicate()[0].strip().splitlines() for process in both]
    return {
        "exits": sorted(process.returncode for process in both),
        "said": sorted(lines[-1] if lines else "" for lines in said),
        "champion": read_json(folder / "champion.json"),
    }
