"""Signals become exceptions, and no child process outlives its command."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

GRACE_SECONDS = 8.0


class TerminatedError(BaseException):
    """SIGINT or SIGTERM arrived.

    Not an `Exception`, so that nothing between here and the command catches it.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.exit_status = 128 + number


@contextmanager
def ending_children() -> Iterator[None]:
    """Turn SIGINT and SIGTERM into `TerminatedError`, and on every way out end all processes below this one.

    A second signal while things are being ended is ignored. Prefect puts its own SIGTERM handler on top while
    a flow runs and calls this one afterwards.
    """
    previous = {number: signal.signal(number, _raise) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number in previous:
            signal.signal(number, signal.SIG_IGN)
        end_descendants()
        for number, handler in previous.items():
            signal.signal(number, handler)


def _raise(number: int, _frame: FrameType | None) -> None:
    for other in (signal.SIGINT, signal.SIGTERM):
        signal.signal(other, signal.SIG_IGN)
    raise TerminatedError(number)


def end_descendants(grace: float = GRACE_SECONDS) -> None:
    """SIGTERM to every process below this one, SIGKILL to those left after `grace` seconds.

    Returns when all ended.
    """
    import psutil

    children = psutil.Process().children(recursive=True)
    for child in children:
        _send(child, signal.SIGTERM)
    _, alive = psutil.wait_procs(children, timeout=grace)
    for child in alive:
        _send(child, signal.SIGKILL)
    psutil.wait_procs(alive, timeout=grace)


def _send(process: object, number: int) -> None:
    import psutil

    assert isinstance(process, psutil.Process)
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return
