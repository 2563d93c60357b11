"""Checkpoints made tensor by tensor, in shards, that appear whole and go on where they were interrupted.

While a checkpoint is made, a work folder holds `checkpoint` (the shards, at their full size from the
start) and `journal`: a line that says what is being made, then one line for every finished tensor with
digests of its bytes in the source and in the shard. A later run that makes the same reads both again and
does only what is missing or does not agree, so neither a kill nor a power cut nor a source that changed in
between can leave wrong bytes behind.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from lowbit.errors import LowbitError
from lowbit.tensorfile import INDEX, WEIGHTS, Source, Writer, digest
from lowbit.weight import Layout

SHARD_BYTES = 4_000_000_000
CHECKPOINT, JOURNAL = "checkpoint", "journal"

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Step:
    """What becomes of one tensor of the source: tensors of this `layout`, and what is noted of it (JSON)."""

    layout: Layout
    make: Callable[[torch.Tensor], tuple[dict[str, torch.Tensor], Any]]

    @property
    def bytes(self) -> int:
        """That its tensors take."""
        return sum(torch.Size(shape).numel() * dtype.itemsize for shape, dtype in self.layout.values())


@dataclass(frozen=True)
class Written:
    """What `stream` wrote: bytes of the files and of the tensors alone, and the notes by tensor."""

    bytes: int
    tensor_bytes: int
    notes: dict[str, Any]


def stream(
    source: Source,
    steps: Mapping[str, Step],
    work: Path,
    making: Mapping[str, Any],
    shard_bytes: int = SHARD_BYTES,
    progress: Progress | None = None,
) -> Written:
    """Do all `steps` (by name of the tensor in `source`) into `work / "checkpoint"`.

    `making` is a JSON value that tells apart what is made from anything else that could be made in the same
    work folder; what an earlier run for the same has finished is kept. Shards hold up to `shard_bytes` of
    tensors, or one tensor. `progress(done, total, tensor)` is called after every tensor.
    """
    folder = work / CHECKPOINT
    shards = _shards(steps, shard_bytes)
    key = _key(making, steps, shards)
    notes: dict[str, Any] = {}
    size = 0
    with Journal(work, key) as journal:
        for file in set(folder.iterdir()) - {folder / name for name in shards}:
            file.unlink()
        for file_name, names in shards.items():
            layout = {part: place for name in names for part, place in steps[name].layout.items()}
            with Writer(folder / file_name, layout, resume=True) as writer:
                for name in names:
                    notes[name] = _step(source, name, steps[name], writer, journal)
                    if progress:
                        progress(len(notes), len(steps), name)
            size += writer.bytes
    total = sum(step.bytes for step in steps.values())
    if len(shards) > 1:
        places = {
            part: file for file, names in shards.items() for name in names for part in steps[name].layout
        }
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(places.items()))}
        (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    return Written(size, total, notes)


def _shards(steps: Mapping[str, Step], shard_bytes: int) -> dict[str, list[str]]:
    """The tensors of the source by file of the target, in order; what comes of one stays together."""
    groups: list[list[str]] = []
    filled = 0
    for name, step in steps.items():
        if not groups or filled + step.bytes > shard_bytes:
            groups.append([])
            filled = 0
        groups[-1].append(name)
        filled += step.bytes
    if len(groups) < 2:
        return {WEIGHTS: [name for group in groups for name in group]}
    stem, end = WEIGHTS.split(".")
    return {
        f"{stem}-{number:05d}-of-{len(groups):05d}.{end}": group for number, group in enumerate(groups, 1)
    }


def _key(making: Mapping[str, Any], steps: Mapping[str, Step], shards: Mapping[str, list[str]]) -> str:
    layouts = {
        name: {part: str(place) for part, place in step.layout.items()} for name, step in steps.items()
    }
    value = [making, layouts, dict(shards), _library(), torch.__version__]
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


@cache
def _library() -> str:
    """Digest of this library's code and grids: another version may round differently."""
    root = Path(__file__).parent
    found = hashlib.sha256()
    for pattern in ("*.py", "grids/*.py", "grids/data/*"):
        for file in sorted(root.glob(pattern)):
            found.update(file.name.encode() + b"\0" + file.read_bytes())
    return found.hexdigest()


def _step(source: Source, name: str, step: Step, writer: Writer, journal: Journal) -> Any:
    tensor = source.read(name)
    seen = digest(tensor)
    done = journal.done.get(name)
    if (
        done is not None
        and done["source"] == seen
        and set(done["parts"]) == set(step.layout)
        and all(writer.holds(part, expected) for part, expected in done["parts"].items())
    ):
        return done["note"]
    tensors, note = step.make(tensor)
    for part, value in tensors.items():
        writer.write(part, value)
    journal.add(
        name, {"source": seen, "parts": {part: digest(t) for part, t in tensors.items()}, "note": note}
    )
    return note


class Journal:
    """The finished tensors of a work folder, which is made, or emptied of what another run was making."""

    def __init__(self, work: Path, key: str) -> None:
        self._path = work / JOURNAL
        lines = self._lines()
        self.done: dict[str, Any] = {}
        if not lines or lines[0] != {"key": key}:
            shutil.rmtree(work / CHECKPOINT, ignore_errors=True)
            lines = [{"key": key}]
        for line in lines[1:]:
            self.done |= line
        (work / CHECKPOINT).mkdir(parents=True, exist_ok=True)
        # Written again, because a kill may have torn the last line.
        fresh = self._path.with_suffix(".new")
        fresh.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
        fresh.replace(self._path)
        self._stream = self._path.open("a", encoding="utf-8")

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def _lines(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        try:
            for line in self._path.read_bytes().splitlines():
                value = json.loads(line)
                if not isinstance(value, dict):
                    break
                found.append(value)
        except (OSError, ValueError):
            pass  # what can be read counts
        return found

    def add(self, name: str, entry: dict[str, Any]) -> None:
        """Note that the tensor `name` is finished."""
        self._stream.write(f"{json.dumps({name: entry})}\n")
        self._stream.flush()


@contextmanager
def appearing(target: Path, resume: Path | None = None) -> Iterator[Path]:
    """Yield a work folder; when the block ends well, its `checkpoint` becomes `target`.

    The work folder is `resume`, which keeps what it holds whatever else ends the block, or a hidden one
    beside `target`, which only a kill leaves behind. Raises `LowbitError` when `target` holds something,
    and for a full disk.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise LowbitError(f"{target}: exists and is not an empty folder; remove it or choose another name")
    work = target.with_name(f".{target.name}.partial") if resume is None else resume
    done = False
    try:
        work.mkdir(parents=True, exist_ok=True)
        yield work
        for file in (work / CHECKPOINT).iterdir():
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
        target.parent.mkdir(parents=True, exist_ok=True)
        (work / CHECKPOINT).replace(target)
        done = True
    except OSError as error:
        why = {
            errno.ENOSPC: "the disk is full; free some space and run again",
            errno.EDQUOT: "the disk is full; free some space and run again",
            errno.EFBIG: "larger than a file may be here; raise the limit (`ulimit -f`) and run again",
            errno.EXDEV: f"the folder to resume from, {work}, is on another disk; give one on the same",
        }.get(error.errno or 0)
        if why is None:
            raise
        raise LowbitError(f"{target}: {why}") from error
    finally:
        if resume is None:
            shutil.rmtree(work, ignore_errors=True)
        elif done:
            (work / JOURNAL).unlink(missing_ok=True)
            if not any(work.iterdir()):
                work.rmdir()
