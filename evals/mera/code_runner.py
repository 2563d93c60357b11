"""Runs one program under limits, in the process that evals/mera/code.py started; imports nothing of ours.

Reads a job (program, tests, name of the function, limits), writes the list of results as JSON.
"""

from __future__ import annotations

import ast
import contextlib
import json
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def limit(job: dict[str, Any]) -> None:
    """Limits of the kernel, which hold for the program and for all that it starts."""
    for name, value in (
        (resource.RLIMIT_CPU, job["cpu_seconds"]),
        (resource.RLIMIT_AS, job["memory"]),
        (resource.RLIMIT_FSIZE, job["output"]),
        (resource.RLIMIT_NOFILE, 32),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(name, (value, value))


def no_sockets_no_processes(event: str, _arguments: tuple[Any, ...]) -> None:
    """An audit hook, which Python code cannot take away again: no socket, no further process."""
    if event.startswith("socket.") or event in (
        "os.fork",
        "os.forkpty",
        "os.exec",
        "os.posix_spawn",
        "os.system",
        "subprocess.Popen",
        "pty.spawn",
        "os.kill",
        "os.killpg",
        "ctypes.dlopen",
        "resource.setrlimit",
        "resource.prlimit",
    ):
        raise PermissionError(f"{event} is not allowed here")


def main(source: str, target: str) -> None:
    """Run the job at `source`, write its results to `target`."""
    job = json.loads(Path(source).read_text(encoding="utf-8"))
    tests = [ast.literal_eval(test) for test in job["tests"]]
    results: list[str | None] = [None] * len(tests)
    limit(job)
    sys.addaudithook(no_sockets_no_processes)
    names: dict[str, Any] = {"__name__": "program"}
    with contextlib.suppress(BaseException):  # whatever the program raises, SystemExit too
        exec(compile(job["program"], "program", "exec"), names)
        for place, test in enumerate(tests):
            results[place] = call(names[job["entry"]], test)
    Path(target).write_text(json.dumps(results), encoding="utf-8")


def call(function: Callable[..., Any], arguments: dict[str, Any]) -> str | None:
    """The result of one test as text; None when there is none."""
    try:
        found = function(**arguments)
        return None if found is None else str(found)
    except Exception:
        return None


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
