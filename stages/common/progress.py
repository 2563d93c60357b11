"""Progress of long work, on stderr: a bar on a terminal, a plain line every few seconds anywhere else."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from types import TracebackType
from typing import Any, Generic, TextIO, TypeVar, overload

Item = TypeVar("Item")
PLAIN_SECONDS = 5.0


class Progress(Generic[Item]):
    """What `progress` returns: iterate over it, or enter it and call `advance`.

    The bar or the lines appear at the first step and end with the loop or the `with` block, also on an error.
    """

    def __init__(
        self,
        items: Iterable[Item],
        total: int | None,
        label: str,
        unit: str,
        stream: TextIO,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._items = items
        self._view: _Bar | _Lines = (
            _Bar(label, unit, total, stream) if stream.isatty() else _Lines(label, unit, total, stream, clock)
        )

    def __iter__(self) -> Iterator[Item]:
        with self:
            for item in self._items:
                yield item
                self.advance()

    def __enter__(self) -> Progress[Item]:
        self._view.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._view.stop(failed=kind is not None and not issubclass(kind, GeneratorExit))

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Count `steps` more as done; `note` (such as `loss 2.31`) stays until the next one."""
        self._view.advance(steps, note)


@overload
def progress(
    over: int | None, label: str, unit: str = "items", stream: TextIO | None = None
) -> Progress[None]: ...
@overload
def progress(
    over: Iterable[Item], label: str, unit: str = "items", stream: TextIO | None = None
) -> Progress[Item]: ...
def progress(
    over: Iterable[Any] | int | None, label: str, unit: str = "items", stream: TextIO | None = None
) -> Progress[Any]:
    """Show how far work has come.

    `over` is an iterable (`for x in progress(xs, "cleaning", "documents")`), a total
    (`with progress(100, "training", "steps") as bar: bar.advance(1, "loss 2.3")`), or None when unknown.
    """
    target = sys.stderr if stream is None else stream
    if over is None or isinstance(over, int):
        return Progress((), over, label, unit, target)
    total = len(over) if isinstance(over, Sized) else None
    return Progress(over, total, label, unit, target)


class _Lines:
    """At most one line per `PLAIN_SECONDS`, and a last one when the work took that long."""

    def __init__(
        self, label: str, unit: str, total: int | None, stream: TextIO, clock: Callable[[], float]
    ) -> None:
        self._label, self._unit, self._total, self._stream, self._clock = label, unit, total, stream, clock
        self._done = 0
        self._note = ""
        self._begun = self._written = clock()

    def start(self) -> None:
        self._begun = self._written = self._clock()

    def advance(self, steps: int, note: str) -> None:
        self._done += steps
        self._note = note or self._note
        if self._clock() - self._written >= PLAIN_SECONDS:
            self._write("")

    def stop(self, failed: bool) -> None:
        if self._clock() - self._begun >= PLAIN_SECONDS:
            self._write("stopped" if failed else "done")

    def _write(self, state: str) -> None:
        self._written = self._clock()
        seconds = max(self._written - self._begun, 1e-9)
        of = f" of {self._total} ({100 * self._done / self._total:.0f} %)" if self._total else ""
        rate = f"{self._done / seconds:.4g} {self._unit}/s"
        parts = [f"{self._label}: {self._done}{of} {self._unit}", rate, self._note, state]
        self._stream.write(", ".join(part for part in parts if part) + "\n")
        self._stream.flush()


class _Bar:
    """A rich progress bar that disappears into its last line."""

    def __init__(self, label: str, unit: str, total: int | None, stream: TextIO) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )
        from rich.progress import Progress as RichProgress

        self._rich = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(unit),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=Console(file=stream),
            refresh_per_second=4,
        )
        self._task = self._rich.add_task(label, total=total, note="")

    def start(self) -> None:
        self._rich.start()

    def advance(self, steps: int, note: str) -> None:
        if note:
            self._rich.update(self._task, advance=steps, note=note)
        else:
            self._rich.update(self._task, advance=steps)

    def stop(self, failed: bool) -> None:
        if failed:
            self._rich.update(self._task, note="stopped")
        self._rich.stop()
