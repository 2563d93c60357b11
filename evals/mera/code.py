"""Runs programs that a model wrote against the tests of ruCodeEval and ruHumanEval.

Off unless someone asks for it by name. Each program runs in a process of its own, in an empty folder, with
limits on processor time, wall-clock time, memory, file size and open files, without network where the kernel
grants a namespace and without sockets or further processes in any case, and is killed with its whole process
group. This stops accidents and clumsy programs; it is no defence against an attacker: use a container for
models that you do not trust (arXiv 2107.03374, section 2.3).
"""

from __future__ import annotations

import ast
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from evals.errors import EvalError
from evals.items import Answer
from evals.mera import metrics
from evals.records import Record
from evals.suites import Task

SWITCHED_OFF = (
    "its score runs programs that the model wrote, which is switched off; allow it with `execute_code`"
)
RUNNER = Path(__file__).with_name("code_runner.py")


@dataclass(frozen=True)
class Limits:
    """Of one program: seconds of wall-clock and processor time, bytes of memory and of what it prints or
    writes.
    """

    seconds: float = 15.0
    cpu_seconds: int = 4
    memory: int = 1 << 30
    output: int = 1 << 20


def results(record: Record, completion: str, limits: Limits = Limits()) -> list[str | None]:
    """What the function gives on each test of the record, as text; None where it fails, for all on a limit.

    Raises `EvalError` when the record's tests cannot be read.
    """
    inputs = record.inputs if isinstance(record.inputs, dict) else {}
    tests = _tests(record, inputs)
    program = inputs["function"] + without_fence(completion)
    job = {"program": program, "tests": tests, "entry": record.meta["entry_point"], **asdict(limits)}
    nothing: list[str | None] = [None] * len(tests)
    with tempfile.TemporaryDirectory(prefix="mera-code-") as folder:
        place = Path(folder)
        (place / "job.json").write_text(json.dumps(job), encoding="utf-8")
        _run(place, limits)
        return _read(place / "results.json", limits) or nothing


def _tests(record: Record, inputs: dict[str, str]) -> list[str]:
    """The tests, each a Python literal: MERA writes a list of keyword arguments."""
    for name in ("function", "tests"):
        if name not in inputs:
            raise EvalError(f"{record.where}: field `inputs.{name}` is missing; a program needs it")
    try:
        tests = ast.literal_eval(inputs["tests"])
    except (ValueError, SyntaxError) as error:
        raise EvalError(f"{record.where}: field `inputs.tests` is no Python literal ({error})") from error
    if not isinstance(tests, list) or not all(isinstance(test, dict) for test in tests):
        raise EvalError(f"{record.where}: field `inputs.tests` must be a list of keyword arguments")
    return [repr(test) for test in tests]


def without_fence(completion: str) -> str:
    """A completion without the Markdown fence that some models put around it."""
    text = completion
    if text.startswith("```"):
        text = text.partition("\n")[2]
        text = text.rstrip()
        text = text.removesuffix("```")
    return text


def _run(folder: Path, limits: Limits) -> None:
    command = [*_namespace(), sys.executable, "-I", "-S", str(RUNNER), "job.json", "results.json"]
    with subprocess.Popen(
        command,
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder), "LANG": "C.UTF-8"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(limits.seconds)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@cache
def _namespace() -> tuple[str, ...]:
    """Namespaces without network, in which killing the first process kills all; none where not granted."""
    command = ("unshare", "--user", "--net", "--pid", "--fork", "--kill-child")
    try:
        granted = subprocess.run([*command, "true"], capture_output=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return command if granted.returncode == 0 else ()


def _read(path: Path, limits: Limits) -> list[str | None] | None:
    try:
        if path.is_symlink() or path.stat().st_size > limits.output:
            return None
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, list) else None


def outcomes(
    task: Task, answers: Sequence[Answer], limits: Limits = Limits()
) -> tuple[dict[str, dict[str, float]], dict[str, list[list[str | None]]]]:
    """(id -> pass@k, id -> what every sample gave) of a code task; run it only where that was allowed.

    An item without an answer has results but no pass@k.
    """
    records = {record.id: record for record in task.test}
    given = {
        answer.id: [results(records[answer.id], text, limits) for text in answer.written]
        for answer in answers
    }
    passed = {
        name: metrics.passes(json.loads(records[name].outputs), found)
        for name, found in given.items()
        if records[name].outputs
    }
    return passed, given
