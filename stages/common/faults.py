"""Places where a test may let the process die, to prove that the next run mends what is left behind."""

from __future__ import annotations

import os
import signal

VARIABLE = "GORN_FAULT"


def point(name: str) -> None:
    """Die here as by `kill -9` when the environment variable `GORN_FAULT` holds `name`."""
    if os.environ.get(VARIABLE) == name:
        os.kill(os.getpid(), signal.SIGKILL)
