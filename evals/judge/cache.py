"""Finished calls of an endpoint judge in a file, so that a killed run goes on where it stopped.

One JSON object a line, appended in one write and synced: the reply, the `messages` that were sent, the time
at which the call `started` (unix seconds) and how many `seconds` it took. The last line of a killed run may
be cut: it is taken off at the next opening. What failed is not in it and is asked again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from evals.errors import EvalError

Messages = Sequence[dict[str, str]]
_FIELDS = {"judge", "prompt", "shares", "text", "started", "seconds"}
_LATER = {"messages"}  # lines that were written before it was kept are replies all the same


def prompt_digest(messages: Messages) -> str:
    """SHA-256 of what is sent."""
    return hashlib.sha256(json.dumps(list(messages), ensure_ascii=False).encode()).hexdigest()


class Cache:
    """Finished calls by (judge, prompt), both digests; a context manager that holds the file for one process.

    Raises `EvalError` on entering when another process has the file, or a line before the last is broken.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._found: dict[tuple[str, str], dict[str, Any]] = {}
        self._file = -1

    def __enter__(self) -> Cache:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError as error:
            raise EvalError(f"{self._path}: cannot be opened ({error.strerror})") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._read()
        except BlockingIOError as error:
            self.__exit__(None, None, None)
            raise EvalError(
                f"{self._path}: another run is judging with it; wait for that or name another file"
            ) from error
        except EvalError:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._file)

    def get(self, judge: str, prompt: str) -> dict[str, Any] | None:
        """What `put` was given, None when this call was never finished."""
        return self._found.get((judge, prompt))

    def put(
        self,
        judge: str,
        prompt: str,
        shares: Sequence[float] | None,
        text: str,
        messages: Messages = (),
        started: float = 0.0,
        seconds: float = 0.0,
    ) -> None:
        """Keep a finished call: shares of its labels (None for an unparsable verdict), words, what was sent
        (as it left, personal data redacted) and time.

        Raises `EvalError` when it cannot be written whole.
        """
        line = {
            "judge": judge,
            "prompt": prompt,
            "shares": shares and list(shares),
            "text": text,
            "messages": list(messages),
            "started": round(started, 3),
            "seconds": round(seconds, 3),
        }
        self._found[judge, prompt] = line
        data = (json.dumps(line, ensure_ascii=False) + "\n").encode()
        try:
            whole = os.write(self._file, data) == len(data)
            os.fsync(self._file)
        except OSError as error:
            raise EvalError(f"{self._path}: cannot be written ({error.strerror})") from error
        if not whole:
            raise EvalError(f"{self._path}: the disk is full; free some space and run again")

    def _read(self) -> None:
        data = self._path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            os.ftruncate(self._file, len(whole))
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                value = json.loads(line)
                if set(value) - _LATER != _FIELDS:
                    raise ValueError("other fields")
            except (ValueError, TypeError) as error:
                raise EvalError(f"{self._path}, line {number}: no finished call; delete the line") from error
            self._found[value["judge"], value["prompt"]] = value
