"""The stage `measure`: finds the checkpoint of a cell and has fresh processes measure it, one per device."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stages.common import champion
from stages.common.atomic import read_json, write_json
from stages.common.champion import CHAMPION, CHAMPION_FILE
from stages.common.errors import EXIT_USER, UserError
from stages.common.manifest import Facts
from stages.common.params import Params
from stages.common.stage import OUT, Paths, Stage
from stages.measure.machine import describe
from stages.measure.size import sizes, stored_bytes


def cells(params: Params) -> Sequence[str]:
    """Every candidate, and the champion beside them."""
    return [*params.candidates, CHAMPION]


def locate(_params: Params, cell: str | None) -> tuple[dict[str, Path], dict[str, Path]]:
    """The checkpoint of `cell`, and `out/measure/<cell>`. Raises `UserError` when champion.json is broken."""
    outputs = {"measures": OUT / "measure" / str(cell)}
    if cell != CHAMPION:
        return {"model": OUT / "quantize" / str(cell)}, outputs
    return {"champion": CHAMPION_FILE, "model": champion.folder()}, outputs


def run(params: Any, inputs: Paths, outputs: Paths) -> Facts:
    """Measure one checkpoint: bytes, bits per weight, load time, latency, tokens per second, peak memory."""
    folder = inputs["model"]
    if CHAMPION in inputs:
        champion.check(inputs[CHAMPION], folder)
    # Refused here within milliseconds instead of after the imports of a new process.
    stored_bytes(folder)
    spec = {"folder": str(folder), "threads": params.threads, **params.measure.model_dump(mode="json")}
    first = measure_in_fresh_process({**spec, "device": params.device})
    machine = describe(first.pop("library"))
    measures = {**sizes(folder, first.pop("parameters")), **first, "machine": machine}
    if params.device == "auto" and measures["device"] == "cuda":
        second = measure_in_fresh_process({**spec, "device": "cpu"})
        measures["on_cpu"] = {key: second[key] for key in second if key not in ("parameters", "library")}
    write_json(outputs["measures"] / "measures.json", measures)
    return Facts()


def measure_in_fresh_process(spec: dict[str, Any]) -> dict[str, Any]:
    """What `stages.measure.child` finds out about `spec`, in an interpreter of its own.

    Peak memory is a property of a process, and lazily loaded libraries make the first model of a process
    slower than the second; so no model is measured where another one was. Raises `UserError` when the child
    refuses the checkpoint or is killed (most often for want of memory), `RuntimeError` when it fails in
    another way.
    """
    with tempfile.TemporaryDirectory(prefix="gorn-measure-") as scratch:
        result = Path(scratch) / "result.json"
        command = [sys.executable, "-m", "stages.measure.child", json.dumps(spec), str(result)]
        status = subprocess.run(command, check=False, stdin=subprocess.DEVNULL).returncode
        answer = read_json(result) if result.exists() else {}
    if status == EXIT_USER and "error" in answer:
        raise UserError(str(answer["error"]))
    if status < 0:
        name = signal.Signals(-status).name
        hint = "; most likely the memory ran out" if name == "SIGKILL" else ""
        raise UserError(f"{spec['folder']}: the measuring process was killed by {name}{hint}")
    if status or not answer:
        raise RuntimeError(f"{spec['folder']}: the measuring process ended with status {status}")
    return dict(answer)


STAGE = Stage("measure", run, reads=("measure", "threads", "device"), locate=locate, cells=cells, torch=False)
