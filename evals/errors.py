"""The error that every module of `evals` raises for bad input."""

from __future__ import annotations


class EvalError(Exception):
    """Bad input to an evaluation. The message is one line: what, where, what to do."""

    exit_status = 1
