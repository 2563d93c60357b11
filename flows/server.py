"""Prefect's temporary server for one `gorn run`, where no `PREFECT_API_URL` names a lasting one.

Prefect would start the same server by itself, but inside our process group: Ctrl-C then ends it first, and
the flow waits a minute and more for the answer of a dead server. It would also wait the whole time limit for
one that died.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

from flows import ports, settings
from stages.common.errors import UserError

# What Prefect itself sets for a temporary server: no web pages, no scheduler, logs and task runs only.
TEMPORARY = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}


class TemporaryServer:
    """Starts at once and is waited for later: other slow things can happen meanwhile.

    Sets `PREFECT_API_URL`, so make it before Prefect is imported. It ends with `ending_children`.
    """

    def __init__(self) -> None:
        self.port = free_port()
        self.log = settings.STATE / "logs" / "prefect.log"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("wb") as file:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "uvicorn", "--factory", "prefect.server.api.server:create_app"),
                    *(
                        "--host",
                        ports.HOST,
                        "--port",
                        str(self.port),
                        "--log-level",
                        "error",
                        "--lifespan",
                        "on",
                    ),
                ],
                env={**os.environ, **TEMPORARY},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        os.environ["PREFECT_API_URL"] = f"http://{ports.HOST}:{self.port}/api"

    def wait(self) -> None:
        """Return when the server answers. Raises `UserError` when it ended or took longer than the limit."""
        limit = float(os.environ["PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"])
        health = f"http://{ports.HOST}:{self.port}/api/health"
        if not ports.wait_until(health, lambda: self.process.poll() is None, limit):
            reason = last_line(self.log)
            raise UserError(f"Prefect's local server did not start ({reason}); the whole log is {self.log}")


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((ports.HOST, 0))
        return int(probe.getsockname()[1])


def last_line(log: Path) -> str:
    """The last line of `log` that is not empty."""
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1].strip()[:300] if lines else "no output"
