"""What a model answered before, in a file of its own scope, so that nothing is asked twice.

The scope is all that an answer depends on beside the request: weights, precision, device, batch size,
versions, code. One file a scope, one JSON line an answer, appended in one write: processes side by side may
use a file at once. The last line of a killed run may be cut; a line that cannot be read is no answer. What is
in the folder may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from evals.errors import EvalError

LIMIT = 4 << 30  # bytes of all scopes; those unused for longest go first


class Answers:
    """The answers of one scope in `folder`.

    `asked` counts the answers that were put since the start. Raises `EvalError` when the folder cannot be
    written.
    """

    def __init__(self, folder: Path, scope: Mapping[str, Any], limit: int = LIMIT) -> None:
        self._path = folder / f"{_digest(dict(scope))}.jsonl"
        self._found: dict[str, Any] = {}
        self._file = -1
        self.asked = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if self._path.exists():
                self._read(self._path.read_bytes())
                os.utime(self._path)
            _prune(folder, self._path, limit)
        except OSError as error:
            raise self._failed(error) from error

    def get(self, *request: Any) -> Any:
        """What `put` was given for the request, JSON values in any nesting; None when it is not known."""
        return self._found.get(_digest(request))

    def put(self, value: Any, *request: Any) -> None:
        """Keep the answer to a request; None and what is not finite are no answers. Raises `EvalError`."""
        key = _digest(request)
        try:
            line = json.dumps({"key": key, "value": value}, allow_nan=False) + "\n"
        except ValueError:
            return
        self._found[key] = json.loads(line)["value"]
        self.asked += 1
        try:
            if self._file < 0:
                self._open()
            if os.write(self._file, line.encode()) != len(line):
                raise EvalError(f"{self._path}: the disk is full; free some space and run again")
        except OSError as error:
            raise self._failed(error) from error

    def once(self, compute: Callable[[], Any], *request: Any) -> Any:
        """What is known of the request; else what `compute` gives, which is kept."""
        if (known := self.get(*request)) is not None:
            return known
        self.put(found := compute(), *request)
        return found

    def close(self) -> None:
        """Close the file; it opens again with the next answer."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _open(self) -> None:
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        # An answer must not be glued to the cut last line of a killed run.
        os.write(self._file, b"\n")

    def _read(self, data: bytes) -> None:
        for line in data.splitlines():
            try:
                value = json.loads(line)
                self._found[value["key"]] = value["value"]
            except (ValueError, KeyError, TypeError):
                continue

    def _failed(self, error: OSError) -> EvalError:
        return EvalError(f"{self._path}: the cache of answers cannot be used ({error.strerror})")


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def _prune(folder: Path, keep: Path, limit: int) -> None:
    """Delete the scopes that were unused for longest until all take at most `limit` bytes."""
    found = []
    for path in folder.glob("*.jsonl"):
        try:
            found.append((path.stat().st_mtime, path.stat().st_size, path))
        except FileNotFoundError:  # another process prunes too
            continue
    total = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if total > limit and path != keep:
            path.unlink(missing_ok=True)
            total -= size
