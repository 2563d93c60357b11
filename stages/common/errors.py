"""Errors that are the user's to mend, and the exit status each kind of failure ends with."""

from __future__ import annotations

EXIT_USER = 1
EXIT_USAGE = 2
EXIT_OURS = 70


class UserError(Exception):
    """Something outside our code is wrong. The message is one line: what, where, what to do."""

    exit_status = EXIT_USER


def one_line(error: BaseException) -> str:
    """The message of `error` on one line, or its type when it has none."""
    return " ".join(str(error).split()) or type(error).__name__
