"""The progress reporter: plain lines off a terminal, a bar on one, nothing for work that is quick."""

from __future__ import annotations

import io

import pytest

from stages.common.progress import Progress, progress


class Clock:
    """A clock that moves only when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def _counted(total: int | None, seconds: float, steps: int, note: str = "") -> str:
    stream, clock = io.StringIO(), Clock()
    with Progress((), total, "training", "steps", stream, clock) as bar:
        for _ in range(steps):
            clock.now += seconds
            bar.advance(1, note)
    return stream.getvalue()


def test_a_line_every_five_seconds_and_a_last_one() -> None:
    lines = _counted(12, 1.0, 12, "loss 2.3").splitlines()
    assert lines == [
        "training: 5 of 12 (42 %) steps, 1 steps/s, loss 2.3",
        "training: 10 of 12 (83 %) steps, 1 steps/s, loss 2.3",
        "training: 12 of 12 (100 %) steps, 1 steps/s, loss 2.3, done",
    ]


def test_quick_work_is_silent() -> None:
    assert _counted(3, 0.1, 3) == ""


def test_unknown_total_counts_without_a_share() -> None:
    assert _counted(None, 6.0, 1).splitlines()[0] == "training: 1 steps, 0.1667 steps/s"


def test_an_error_is_reported_as_stopped_and_passes_on() -> None:
    stream, clock = io.StringIO(), Clock()
    with pytest.raises(RuntimeError), Progress((), 2, "training", "steps", stream, clock) as bar:
        clock.now = 9.0
        bar.advance()
        raise RuntimeError
    assert stream.getvalue().endswith("stopped\n")


def test_iterates_over_what_it_was_given() -> None:
    assert list(progress([3, 1, 2], "cleaning", stream=io.StringIO())) == [3, 1, 2]
    assert list(progress((n for n in range(4)), "cleaning", stream=io.StringIO())) == [0, 1, 2, 3]


def test_terminal_shows_a_bar_with_label_and_unit() -> None:
    stream = Terminal()
    list(progress(range(4), "cleaning", "documents", stream=stream))
    assert "cleaning" in stream.getvalue()
    assert "4/4" in stream.getvalue()
    assert "documents" in stream.getvalue()
