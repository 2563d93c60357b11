"""Runs one stage with DVC in a process group of its own, streams what it says, and tells why it failed.

Measured on DVC 3.67: SIGTERM to `dvc` alone leaves the stage's command running as an orphan, SIGINT to it
alone is ignored, and a lock held by somebody else ends with the same exit status (255) as a failed stage.
Hence the group, and hence the reading of stderr.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from flows.graph import label
from flows.settings import tool
from stages.common import environment
from stages.common.errors import EXIT_OURS, EXIT_USER, UserError

Emit = Callable[[str], None]

LOCK_ERROR = re.compile(r"^ERROR: .*(Unable to acquire lock|is busy, it is being blocked by)")
FAILED = re.compile(
    r"^ERROR: failed to reproduce '[^']+': failed to run: (?P<command>.*), exited with (?P<status>-?\d+)"
)
STARTED = re.compile(r"^Running stage '")
RESTORED = re.compile(r"^Stage '[^']+' is cached - skipping run")
GRACE_SECONDS = 10.0
MAX_LINE = 2000
# Threads that spin while they wait take the core that the neighbour needs.
SHARING = {"OMP_WAIT_POLICY": "passive"}


class StageFailedError(UserError):
    """The stage's own command failed: running it again would fail again. The words are the stage's own.

    Its exit status is that of a mistake of ours where the stage says that it met one.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.exit_status = EXIT_OURS if status == EXIT_OURS else EXIT_USER


class LockHeldError(UserError):
    """Another DVC process holds the repository or one of the stage's paths."""


class Group:
    """Stages that end together: when one fails or a signal arrives, nothing of the others may go on."""

    def __init__(self) -> None:
        self.ended = False
        self._processes: set[int] = set()

    def add(self, process: int) -> None:
        """The process group `process` belongs to it. Raises `StageFailedError` after `end`."""
        self._processes.add(process)
        if self.ended:
            raise StageFailedError("stopped together with the other stages")

    def discard(self, process: int) -> None:
        """`process` has ended."""
        self._processes.discard(process)

    def end(self) -> None:
        """End every stage that runs, with all its processes, and every one that starts from now on."""
        self.ended = True
        for process in tuple(self._processes):
            end_group(process)


@dataclass(frozen=True)
class Outcome:
    """How a stage ended: `ran`, `restored` (from DVC's run cache) or `unchanged`; wall-clock seconds."""

    addressing: str
    state: str
    seconds: float


def reproduce(
    addressing: str,
    emit: Emit,
    folder: Path = Path(),
    force: bool = False,
    verbose: bool = False,
    shares: bool = False,
    group: Group | None = None,
) -> Outcome:
    """Run `dvc --wait-for-lock repro --single-item addressing` once; `emit` gets every line of its output.

    `verbose` lets the stage show the traceback of an error; `shares` says that another one may run beside it,
    and `group` which ones end with it.

    Whatever ends this call early (an exception, a signal turned into one), the whole process group is ended
    first. Raises `LockHeldError` when another DVC process is in the way, `StageFailedError` with the stage's
    own last line when its command failed.
    """
    command = [
        tool("dvc"),
        "--wait-for-lock",
        "repro",
        "--single-item",
        *(["--force"] if force else []),
        addressing,
    ]
    started = time.monotonic()
    said: list[str] = []
    wrong: list[str] = []
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, **({environment.VERBOSE: "1"} if verbose else {}), **(SHARING if shares else {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    group = group or Group()
    try:
        group.add(process.pid)
        readers = [_reader(process.stdout, said, emit), _reader(process.stderr, wrong, emit)]
        status = process.wait()
        # A daemon left behind by a stage would keep the pipes open; the group has to be empty now.
        end_group(process.pid)
        for reader in readers:
            reader.join(timeout=GRACE_SECONDS)
    except BaseException:
        end_group(process.pid)
        process.wait()
        raise
    finally:
        group.discard(process.pid)
    if status != 0:
        raise failure(addressing, status, said, wrong)
    return Outcome(addressing, _state(said), time.monotonic() - started)


def _state(said: Sequence[str]) -> str:
    if any(RESTORED.match(line) for line in said):
        return "restored"
    return "ran" if any(STARTED.match(line) for line in said) else "unchanged"


def _reader(pipe: IO[str] | None, lines: list[str], emit: Emit) -> threading.Thread:
    """Collect and emit the lines of `pipe`.

    A progress bar's carriage returns end a line too (universal newlines).
    """

    def read() -> None:
        assert pipe is not None
        with pipe:
            for line in pipe:
                text = line.rstrip()[:MAX_LINE]
                if text:
                    lines.append(text)
                    emit(text)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    return thread


def failure(
    addressing: str, status: int, said: Sequence[str], wrong: Sequence[str]
) -> StageFailedError | LockHeldError:
    """The error that a failed `dvc repro` stands for, read from its output.

    A lock error counts only while the stage's command has not started: what a stage prints is not DVC
    speaking.
    """
    name = label(addressing)
    command_ran = any(STARTED.match(line) for line in said)
    if not command_ran and any(LOCK_ERROR.match(line) for line in wrong):
        blocked = next(line for line in wrong if LOCK_ERROR.match(line))
        return LockHeldError(f"{name}: {blocked.removeprefix('ERROR: ')}")
    failed = next(filter(None, map(FAILED.match, wrong)), None)
    status_of_stage = int(failed["status"]) if failed else None
    own_words = [
        line for line in wrong if not line.startswith("ERROR: failed to reproduce") and not _is_hint(line)
    ]
    if own_words:
        return StageFailedError(
            f"stage {name} failed: {own_words[-1].removeprefix('ERROR: ')}", status_of_stage
        )
    if failed:
        return StageFailedError(
            f"stage {name} failed without a word: `{failed['command']}` exited with {failed['status']}",
            status_of_stage,
        )
    detail = wrong[-1].removeprefix("ERROR: ") if wrong else f"dvc exited with {status}"
    return StageFailedError(f"stage {name} failed: {detail}")


def _is_hint(line: str) -> bool:
    return line.startswith(("Having any troubles?", "If there are no processes with such PIDs"))


def end_group(group: int, grace: float = GRACE_SECONDS) -> None:
    """End every process of `group`.

    SIGTERM, then SIGKILL after `grace` seconds. Returns when none is left.
    """
    for number, patience in ((signal.SIGTERM, grace), (signal.SIGKILL, grace)):
        try:
            os.killpg(group, number)
        except (ProcessLookupError, PermissionError):
            return
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            if not _alive(group):
                return
            time.sleep(0.05)


def _alive(group: int) -> bool:
    """Whether a process of `group` still runs.

    The leader's zombie, which only its parent can reap, does not count.
    """
    import psutil

    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                return True
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return False
