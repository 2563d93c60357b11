"""The error that every module of `lowbit` raises for bad input."""

from __future__ import annotations


class LowbitError(Exception):
    """Bad input to `lowbit`. The message is one line: what, where, what to do."""

    exit_status = 1
