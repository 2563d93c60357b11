"""`gorn ui`: MLflow's and Prefect's own web pages over this checkout's stores, until Ctrl-C."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from flows import ports, settings
from flows.processes import ending_children
from flows.registry import Registry, connect
from flows.server import last_line
from stages.common.errors import UserError
from stages.common.params import load

START_SECONDS = 180
TRAINING = "workflowType=machine_learning"  # MLflow's menu for trained models instead of agents


def mlflow_command(port: int) -> list[str]:
    """MLflow's server; `mlflow_stores` tells it over what."""
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1"]
    return [*command, "--host", ports.HOST, "--port", str(port)]


def mlflow_stores() -> dict[str, str]:
    """The tracking store as MLflow's server reads it from its environment: a command line, and with it the
    password of a database, is there for everybody on the machine to see.

    Job execution is off by the environment (`settings.prepare`).
    """
    return {
        "MLFLOW_BACKEND_STORE_URI": settings.tracking_uri(),
        "MLFLOW_REGISTRY_STORE_URI": settings.tracking_uri(),
        "MLFLOW_DEFAULT_ARTIFACT_ROOT": settings.artifact_root().as_uri(),
    }


def prefect_command(port: int) -> list[str]:
    """Prefect's server over the same home that `gorn run` uses."""
    return [sys.executable, "-m", "prefect", "server", "start", "--host", ports.HOST, "--port", str(port)]


@dataclass(frozen=True)
class Server:
    """A server that was started: its name, process, the address it answers at, and its log."""

    name: str
    process: subprocess.Popen[bytes]
    url: str
    health: str
    log: Path

    def wait(self) -> None:
        """Return when it answers. Raises `UserError` when it ended or took too long."""
        if not ports.wait_until(self.health, lambda: self.process.poll() is None, START_SECONDS):
            reason = last_line(self.log)
            raise UserError(f"{self.name}: did not start ({reason}); the whole log is {self.log}")

    def check(self) -> None:
        """Raise `UserError` when it ended by itself."""
        if self.process.poll() is not None:
            raise UserError(f"{self.name}: ended by itself; see {self.log}")


def start(
    name: str, command: list[str], url: str, health: str, variables: Mapping[str, str] | None = None
) -> Server:
    """Start a server with its output in `.gorn/logs/<name>.log`; it is not waited for."""
    log = settings.STATE / "logs" / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as file:
        process = subprocess.Popen(
            command,
            env={**os.environ, **(variables or {})},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    return Server(name, process, url, url + health, log)


def start_prefect(port: int) -> Server:
    """Start Prefect's server on `port`."""
    return start("prefect", prefect_command(port), f"http://{ports.HOST}:{port}", "/api/health")


def pages(registry: Registry) -> Iterator[tuple[str, str]]:
    """MLflow's pages that a release manager wants, below the server's address: the versions, and the newest
    run's candidates side by side.
    """
    yield "Versions", f"/#/models/{quote(registry.model)}?{TRAINING}"
    experiment, client = registry.experiment(), registry.client
    done = "tags.`gorn.complete` = 'true'"
    newest = client.search_runs([experiment], done, order_by=["attributes.start_time DESC"], max_results=1)
    if newest:
        cells = client.search_runs(
            [experiment],
            f"tags.`mlflow.parentRunId` = '{newest[0].info.run_id}' and tags.`gorn.kind` != 'stage'",
        )
        runs = json.dumps([cell.info.run_id for cell in cells])
        chosen = f"runs={quote(runs)}&experiments={quote(json.dumps([experiment]))}"
        yield "Compare", f"/#/compare-runs?{chosen}&{TRAINING}"


def run(mlflow_port: int, prefect_port: int) -> None:
    """Start both servers, print their addresses and wait; both end with this command.

    Raises `UserError` when a port is in use, a store cannot be opened or a server ends by itself.
    """
    if mlflow_port == prefect_port:
        raise UserError(f"port {mlflow_port}: given for both; MLflow and Prefect need a port each")
    remote = os.environ.get("MLFLOW_TRACKING_URI", "").startswith("http")
    ports.require_free(prefect_port, "Prefect", "--prefect-port")
    if not remote:
        ports.require_free(mlflow_port, "MLflow", "--mlflow-port")
    with ending_children():
        servers = [start_prefect(prefect_port)]
        registry = connect(load().promotion)
        url = settings.shown(settings.tracking_uri()) if remote else f"http://{ports.HOST}:{mlflow_port}"
        if remote:
            print(f"MLflow   {url} (MLFLOW_TRACKING_URI)", flush=True)
        else:
            mlflow = start("mlflow", mlflow_command(mlflow_port), url, "/health", mlflow_stores())
            servers.insert(0, mlflow)
        for server in servers:
            server.wait()
            print(f"{server.name.capitalize():<9}{server.url}", flush=True)
        for title, page in pages(registry):
            print(f"{title:<9}{url}{page}", flush=True)
        print("Ctrl-C stops.", flush=True)
        while True:
            for server in servers:
                server.check()
            time.sleep(0.5)
