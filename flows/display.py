"""The terminal while a run goes on.

A bar over the stages with the latest line, or one plain line per stage.
"""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

from flows.dvc_runner import Outcome
from flows.graph import label

# Without a terminal a long stage shows a sign of life this often.
HEARTBEAT_SECONDS = 30.0


class Display:
    """Shows stages as they start, speak and end, on stderr. `verbose` shows every line that a stage says."""

    def __init__(self, total: int, verbose: bool = False) -> None:
        self.total = total
        self.verbose = verbose
        self.done = 0
        self._running: list[str] = []
        self._spoke = time.monotonic()
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Display:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
            from rich.progress import TimeElapsedColumn as Elapsed

            columns = (
                SpinnerColumn(),
                BarColumn(20),
                MofNCompleteColumn(),
                Elapsed(),
                TextColumn("{task.description}"),
            )
            self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task("starting", total=self.total)
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def start(self, addressing: str) -> None:
        """A stage begins, perhaps once more after a lock."""
        if label(addressing) not in self._running:
            self._running.append(label(addressing))
        self._spoke = time.monotonic()
        self._describe("")

    def line(self, addressing: str, text: str) -> None:
        """A running stage says `text`."""
        if self.verbose:
            self.note(f"{label(addressing)} | {text}")
        elif self._bar is not None:
            self._describe(text)
        elif time.monotonic() - self._spoke > HEARTBEAT_SECONDS:
            self._spoke = time.monotonic()
            self.note(f"         {label(addressing)}: {text[:160]}")

    def end(self, outcome: Outcome) -> None:
        """A stage ended well."""
        self.done += 1
        self._running.remove(label(outcome.addressing))
        if self._bar is not None:
            self._bar.advance(self._task)
        took = f" in {outcome.seconds:.1f} s" if outcome.state != "unchanged" else ""
        self.note(f"[{self.done:>3}/{self.total}] {label(outcome.addressing)}: {outcome.state}{took}")

    def note(self, text: str) -> None:
        """One lasting line."""
        if self._bar is not None:
            from rich.markup import escape

            self._bar.console.print(escape(text), highlight=False)
        else:
            sys.stderr.write(text + "\n")
            sys.stderr.flush()

    def _describe(self, text: str) -> None:
        if self._bar is not None:
            from rich.markup import escape

            self._bar.update(self._task, description=escape(f"{', '.join(self._running)}  {text[:90]}"))
