"""`gorn ui`: MLflow's and Prefect's own web pages over this checkout's stores, until Ctrl-C."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from flows import ports, settings
from flows.processes import ending_children
from flows.registry import connect
from flows.server import last_line
from stages.common.errors import UserError
from stages.common.params import load

START_SECONDS = 180


def mlflow_command(port: int) -> list[str]:
    """MLflow's server over the tracking store.

    Job execution is off by the environment (`settings.prepare`).
    """
    return [
        *(
            sys.executable,
            "-m",
            "mlflow",
            "server",
            "--host",
            ports.HOST,
            "--port",
            str(port),
            "--workers",
            "1",
        ),
        *("--backend-store-uri", settings.tracking_uri(), "--registry-store-uri", settings.tracking_uri()),
        *("--default-artifact-root", settings.artifact_root().as_uri()),
    ]


def prefect_command(port: int) -> list[str]:
    """Prefect's server over the same home that `gorn run` uses."""
    return [sys.executable, "-m", "prefect", "server", "start", "--host", ports.HOST, "--port", str(port)]


def start(name: str, command: list[str], url: str) -> subprocess.Popen[bytes]:
    """Start a server, its output in `.gorn/logs/<name>.log`, and wait until it answers.

    Raises `UserError`.
    """
    log = settings.STATE / "logs" / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT)
    if not ports.wait_until(url, lambda: process.poll() is None, START_SECONDS):
        raise UserError(f"{name}: did not start ({last_line(log)}); the whole log is {log}")
    return process


def run(mlflow_port: int, prefect_port: int) -> None:
    """Start both servers, print their addresses and wait; both end with this command.

    Raises `UserError` when a port is in use, a store cannot be opened or a server ends by itself.
    """
    if mlflow_port == prefect_port:
        raise UserError(f"port {mlflow_port}: given for both; MLflow and Prefect need a port each")
    remote = os.environ.get("MLFLOW_TRACKING_URI", "").startswith("http")
    ports.require_free(prefect_port, "Prefect", "--prefect-port")
    with ending_children():
        servers = {}
        if remote:
            print(f"MLflow   {settings.tracking_uri()} (MLFLOW_TRACKING_URI)", flush=True)
        else:
            ports.require_free(mlflow_port, "MLflow", "--mlflow-port")
            connect(load().promotion)
            url = f"http://{ports.HOST}:{mlflow_port}"
            servers["mlflow"] = start("mlflow", mlflow_command(mlflow_port), f"{url}/health")
            print(f"MLflow   {url}", flush=True)
        url = f"http://{ports.HOST}:{prefect_port}"
        servers["prefect"] = start("prefect", prefect_command(prefect_port), f"{url}/api/health")
        print(f"Prefect  {url}\nCtrl-C stops both.", flush=True)
        while True:
            for name, process in servers.items():
                if process.poll() is not None:
                    raise UserError(f"{name}: ended by itself; see {settings.STATE / 'logs' / name}.log")
            time.sleep(0.5)
