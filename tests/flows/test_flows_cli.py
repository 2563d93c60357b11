"""The command line: quick, frozen, one line per error."""

from __future__ import annotations

import argparse
import http.server
import resource
import socket
import subprocess
import sys
import threading
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import flows_fakes as fakes
import psutil
import pytest
import yaml

from flows import cli, commands, ports, registry, ui
from flows.server import free_port
from stages.common.errors import UserError
from stages.common.hashing import sha256_path

FREE = str(free_port())
HEAVY = ("torch", "transformers", "prefect", "mlflow", "dvc", "great_expectations", "pandas", "pydantic")

SURFACE = {
    "run": {"--commit", "--dry-run", "--force", "--jobs"},
    "publish": set(),
    "promote": {"--version"},
    "rollback": set(),
    "champion": {"action"},
    "pull": {"version", "folder"},
    "ask": {"prompt", "--model", "--adapter", "--max-tokens"},
    "raters": {"action", "names", "--key"},
    "submission": {"action"},
    "serve": {"--cron", "--port"},
    "ui": {"--mlflow-port", "--prefect-port"},
    "doctor": set(),
    "use": {"profile", "--list", "--force"},
}


def test_the_surface_is_frozen() -> None:
    (commands_action,) = [
        action for action in cli.parser()._actions if isinstance(action, argparse._SubParsersAction)
    ]
    found = {
        name: {(action.option_strings or [action.dest])[-1] for action in parser._actions}
        - {"--help", "--verbose"}
        for name, parser in commands_action.choices.items()
    }
    assert found == SURFACE
    assert all(callable(getattr(commands, name)) for name in SURFACE)


def test_help_imports_nothing_heavy_and_is_quick() -> None:
    code = (
        "import sys\nfrom flows import cli\ntry:\n    cli.main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print(sorted(set(sys.modules) & set(sys.argv[1:])))"
    )
    command = [sys.executable, "-c", code, *HEAVY]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=fakes.REPO)
    assert done.stdout.splitlines()[-1] == "[]"
    assert min(processor_seconds([sys.executable, "-m", "flows.cli", "--help"]) for _ in range(3)) < 0.3


def processor_seconds(command: list[str]) -> float:
    """User and system time of `command`: wall clock says more about the machine's other work."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, capture_output=True, check=True, cwd=fakes.REPO)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = fakes.bare(tmp_path / "bare")
    monkeypatch.chdir(root)
    return root


def test_outside_a_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    assert cli.main(["run"]) == 1
    assert "no dvc.yaml and no params.yaml here; run gorn in the project's folder" in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("command", [["run"], ["run", "--dry-run"], ["publish"], ["promote"]])
def test_a_mistyped_key_ends_before_any_work(
    bare: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    text = (bare / "params.yaml").read_text(encoding="utf-8")
    (bare / "params.yaml").write_text(text.replace("heldout_share", "heldout_shares"), encoding="utf-8")
    assert cli.main(command) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"gorn {command[0]}: params.yaml: ")
    assert "unknown key `corpus.heldout_shares`; did you mean `heldout_share`?" in line
    assert not (bare / "out").exists()


def test_a_value_out_of_range_ends_before_any_work(bare: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = yaml.safe_load((bare / "params.yaml").read_text(encoding="utf-8"))
    values["gate"]["alpha"] = 5
    (bare / "params.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    assert cli.main(["run"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "gorn run: params.yaml: key `gate.alpha` is 5; input should be less than 0.5"
    assert not (bare / "out").exists()


@pytest.mark.parametrize(
    ("command", "option", "what"),
    [
        (["ui", "--prefect-port", FREE], "--mlflow-port", "MLflow"),
        (["ui", "--mlflow-port", FREE], "--prefect-port", "Prefect"),
        (["serve", "--cron", "0 3 * * *"], "--port", "Prefect"),
    ],
    ids=["mlflow", "prefect", "serve"],
)
def test_a_port_in_use_is_one_line(
    bare: Path, capsys: pytest.CaptureFixture[str], command: list[str], option: str, what: str
) -> None:
    with socket.socket() as taken:
        taken.bind((ports.HOST, 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert cli.main([*command, option, port]) == 1
    assert capsys.readouterr().err.splitlines() == [
        f"gorn {command[0]}: port {port}: in use, so {what} cannot start there; "
        f"stop what uses it or give another {option}"
    ]


@pytest.mark.parametrize("command", ["rollback", "promote", "publish"])
@pytest.mark.parametrize("store", ["/proc/nowhere/mlflow.db", "broken.db"])
def test_a_store_that_cannot_be_opened_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    store: str,
) -> None:
    root = fakes.finished(tmp_path / "project")
    monkeypatch.chdir(root)
    before = sha256_path(root / "out"), (root / "champion.json").read_bytes()
    (tmp_path / "broken.db").write_text("no database " * 9, encoding="utf-8")
    uri = f"sqlite:///{tmp_path / store}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert cli.main([command]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"gorn {command}: tracking store {uri}: cannot be opened (")
    assert line.endswith("; check MLFLOW_TRACKING_URI and its rights")
    assert (sha256_path(root / "out"), (root / "champion.json").read_bytes()) == before


class Refusing(http.server.BaseHTTPRequestHandler):
    """A tracking server that has nothing, and remembers the logins it was given."""

    logins: ClassVar[set[str | None]] = set()

    def do_GET(self) -> None:
        self.logins.add(self.headers["Authorization"])
        self.send_error(404)

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        """Nothing to the test's output."""


@pytest.fixture
def tracking_server() -> Iterator[str]:
    """Host and port of a server that refuses everything."""
    with http.server.HTTPServer((ports.HOST, 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"{ports.HOST}:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("scheme", ["http", "postgresql", "nonsense"])
def test_a_password_in_the_stores_address_is_never_told(
    bare: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tracking_server: str,
    scheme: str,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{scheme}://ann:sec%40ret@{tracking_server}/x")
    assert cli.main(["rollback"]) == 1
    assert cli.main(["doctor", "-v"]) == 1
    assert cli.main(["rollback", "-v"]) == 1
    told = "".join(capsys.readouterr())
    assert "cannot be opened" in told
    assert "Traceback" in told
    assert "sec%40ret" not in told
    assert "sec@ret" not in told
    if scheme == "http":
        assert Refusing.logins == {"Basic " + b64encode(b"ann:sec@ret").decode()}


def test_the_pages_show_the_store_without_its_password(
    bare: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Running:
        name, url = "prefect", "http://here"

        def wait(self) -> None:
            """It answers."""

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ann:secret@mlflow:5000")
    monkeypatch.setattr(ui, "start_prefect", lambda _: Running())
    monkeypatch.setattr(Running, "check", lambda _: interrupt(0), raising=False)
    for module in (ui, registry):
        monkeypatch.setattr(module, "connect", lambda _: None)
    monkeypatch.setattr(ui, "pages", lambda _: [("Versions", "/#/models")])
    assert cli.main(["ui", "--prefect-port", FREE]) == 130
    cli.main(["doctor"])
    told = capsys.readouterr().out
    assert "Versions http://ann:***@mlflow:5000/#/models" in told
    assert "mlflow      http://ann:***@mlflow:5000" in told
    assert "secret" not in told


@pytest.mark.e2e
def test_a_run_without_a_store_leaves_no_server_behind(tmp_path: Path) -> None:
    root = fakes.finished(tmp_path / "project")
    done = fakes.gorn(root, "run", MLFLOW_TRACKING_URI="sqlite:////proc/nowhere/mlflow.db")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("gorn run: tracking store sqlite:////proc/nowhere/mlflow.db: cannot be opened (")
    assert not [one for one in psutil.process_iter(["cwd"]) if one.info["cwd"] == str(root)]


def test_a_broken_graph_is_one_line(bare: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (bare / "dvc.yaml").write_text("stages: [", encoding="utf-8")
    subprocess.run(["git", "init", "-q"], cwd=bare, check=True)
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q"], cwd=bare, check=True)
    assert cli.main(["run", "--dry-run"]) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("gorn run: dvc.yaml: ")


@pytest.mark.parametrize(
    "wrong",
    [
        ["fly"],
        ["promote", "--version", "0"],
        ["ui", "--mlflow-port", "70000"],
        ["use"],
        ["use", "classics", "--list"],
        ["serve"],
    ],
)
def test_wrong_usage_is_status_2(bare: Path, wrong: list[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(wrong)
    assert stop.value.code == 2


def test_our_own_errors_are_70_and_v_shows_the_traceback(
    bare: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(_: object) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(commands, "doctor", broken)
    assert cli.main(["doctor"]) == 70
    told = capsys.readouterr().err
    assert told == "gorn doctor: internal error, ZeroDivisionError: by zero (-v shows the traceback)\n"
    assert cli.main(["doctor", "-v"]) == 70
    assert "Traceback" in capsys.readouterr().err


def test_an_error_of_another_room_keeps_its_status(
    bare: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(_: object) -> None:
        raise UserError("folder:\n  is odd")

    monkeypatch.setattr(commands, "pull", refuse)
    assert cli.main(["pull", "champion", "x"]) == 1
    assert capsys.readouterr().err == "gorn pull: folder: is odd\n"
