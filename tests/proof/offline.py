"""Nothing reaches out at run time: the run and the tests in a network namespace that has only loopback."""

from __future__ import annotations

import time
from typing import Any

from tests.proof.common import ROOT, emptied, piece, run, tiny, workspace, write_result

CLAIM = "offline"
CUT = "ip link set lo up && exec"


def measure() -> None:
    """`gorn run` on the test-sized world and the whole test suite under `unshare -n` (needs root)."""
    write_result(CLAIM, {"gorn run": piece(CLAIM, "run", _run), "tests": piece(CLAIM, "tests", _tests)})


def _without_network(command: str, folder: Any) -> dict[str, Any]:
    started = time.monotonic()
    done = run(["unshare", "-n", "sh", "-c", f"{CUT} {command}"], folder, check=False)
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    return {
        "command": f"unshare -n sh -c '{CUT} {command}'",
        "exit": done.returncode,
        "seconds": round(time.monotonic() - started, 1),
        "last_line": lines[-1] if lines else "",
    }


def _run() -> dict[str, Any]:
    return _without_network("gorn run", emptied(workspace(CLAIM, "world", tiny, own_cache=True)))


def _tests() -> dict[str, Any]:
    return _without_network("python -m pytest", ROOT)
