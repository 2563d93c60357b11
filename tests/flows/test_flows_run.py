"""`gorn run` and `gorn ui` as a person types them, over real DVC, Prefect and MLflow."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import flows_fakes as fakes
import psutil
import pytest
from test_flows_dvc_runner import lock_held

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

STAGES = {
    "sources",
    "base",
    "quantize@adapt-bf16",
    "quantize@adapt-ternary",
    "evaluate@adapt-bf16",
    "evaluate@adapt-ternary",
    "evaluate_champion",
    "gate",
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(condition: Callable[[], object], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Path:
    """A project under DVC that nothing was run in yet."""
    root = fakes.under_dvc(fakes.bare(tmp_path_factory.mktemp("run") / "project"))
    fakes.copy_store(empty_store, root)
    return root


@pytest.fixture(scope="module")
def pages(story: Path) -> Iterator[dict[str, str]]:
    """`gorn ui` over `story`; ends with Ctrl-C, which must leave nothing behind."""
    ports = {"mlflow": free_port(), "prefect": free_port()}
    log = (story.parent / "ui.log").open("w+")
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "flows.cli", "ui"),
            *("--mlflow-port", str(ports["mlflow"]), "--prefect-port", str(ports["prefect"])),
        ],
        cwd=story,
        env={**fakes.environment(), "PYTHONPATH": str(fakes.REPO)},
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    told = Path(log.name)
    wait_for(lambda: "Ctrl-C stops" in told.read_text() or process.poll() is not None)
    assert process.poll() is None, told.read_text()
    servers = psutil.Process(process.pid).children(recursive=True)
    yield {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
    os.killpg(process.pid, signal.SIGINT)
    process.wait(timeout=60)
    log.close()
    assert "Traceback" not in told.read_text()
    assert len(servers) >= 2
    assert not [server.pid for server in servers if fakes.runs(server.pid)]


@pytest.fixture
def run(story: Path, pages: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`gorn run` in `story` against the Prefect server of `pages`."""
    return lambda *arguments: fakes.gorn(story, "run", *arguments, PREFECT_API_URL=f"{pages['prefect']}/api")


def task_runs(pages: dict[str, str], flow_run: str) -> list[dict]:
    body = json.dumps({"flow_runs": {"name": {"any_": [flow_run]}}, "limit": 200}).encode()
    request = urllib.request.Request(
        f"{pages['prefect']}/api/task_runs/filter", body, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as reply:
        return list(json.load(reply))


def newest_flow_run(pages: dict[str, str]) -> dict:
    body = json.dumps({"sort": "START_TIME_DESC", "limit": 1}).encode()
    request = urllib.request.Request(
        f"{pages['prefect']}/api/flow_runs/filter", body, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as reply:
        return dict(json.load(reply)[0])


def test_the_whole_way_and_a_second_run_that_waits_for_a_lock(
    story: Path, pages: dict[str, str], run: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    done = run("--commit")
    assert done.returncode == 0, done.stderr
    assert "adapt-bf16 is the new champion: version 1, after the base model" in done.stdout
    assert "0.800 [0.780, 0.820]" in done.stdout
    assert "adapt-ternary: total: 0.2 below its parent" in done.stdout
    assert json.loads((story / "champion.json").read_text())["version"] == 1
    committed = subprocess.run(
        ["git", "show", "--stat"], cwd=story, capture_output=True, text=True, check=True
    )
    assert "dvc.lock" in committed.stdout
    assert "champion.json" in committed.stdout
    flow = newest_flow_run(pages)
    assert flow["state_type"] == "COMPLETED"
    names = [task["name"] for task in task_runs(pages, flow["name"])]
    assert {name.rsplit("-", 1)[0] if name not in STAGES else name for name in names} >= STAGES
    assert {task["run_count"] for task in task_runs(pages, flow["name"])} == {1}

    # The champion is new, so its evaluation and the gate run again; the models do not.
    status, out, err = run_behind_a_lock(story, pages, "evaluate_champion", "out/evaluate/champion")
    assert status == 0, err
    assert "base: unchanged" in err
    assert "evaluate_champion: ran" in err
    assert "adapt-bf16 is the champion already (version 1)" in out
    flow = newest_flow_run(pages)
    assert flow["state_type"] == "COMPLETED"
    counts = {task["name"]: task["run_count"] for task in task_runs(pages, flow["name"])}
    assert counts["evaluate_champion"] >= 2


def run_behind_a_lock(story: Path, pages: dict[str, str], stage: str, path: str) -> tuple[int, str, str]:
    """`gorn run` while another process holds DVC's lock of `path`, until `stage` says that it waits; its exit
    status, what it printed, and what it said while it ran.
    """
    with lock_held(story, path):
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.cli", "run"],
            cwd=story,
            env={
                **fakes.environment(),
                "PYTHONPATH": str(fakes.REPO),
                "PREFECT_API_URL": f"{pages['prefect']}/api",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        seen = line = ""
        while f"{stage}: " not in line or "; waiting" not in line:
            line = process.stderr.readline()
            assert line, seen
            seen += line
    out, err = process.communicate(timeout=300)
    return process.returncode, out, seen + err


def test_a_failing_stage_is_one_line_and_not_tried_again(
    story: Path, pages: dict[str, str], run: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    tries = story / "tries"
    # Another command makes the stage run again, and no cache has its result.
    graph = story / "dvc.yaml"
    graph.write_text(graph.read_text().replace("make.py gate", "make.py gate again"), encoding="utf-8")
    line = f"if sys.argv[1] == 'gate': open({str(tries)!r}, 'a').write('x'); sys.exit('gate: it broke')"
    with sabotaged(story, line):
        done = run()
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "gorn run: stage gate failed: gate: it broke"
    assert "Traceback" not in done.stderr + done.stdout
    assert tries.read_text() == "x"
    assert newest_flow_run(pages)["state_type"] == "FAILED"
    assert not (story / "out/gate").exists()


class sabotaged:  # noqa: N801 -- reads as a phrase
    """make.py with one more line at its start."""

    def __init__(self, root: Path, line: str) -> None:
        self.file = root / "make.py"
        self.line = line

    def __enter__(self) -> None:
        self.healthy = self.file.read_text(encoding="utf-8")
        self.file.write_text(f"import sys\n{self.line}\n{self.healthy}", encoding="utf-8")

    def __exit__(self, *_: object) -> None:
        self.file.write_text(self.healthy, encoding="utf-8")


def test_of_light_stages_side_by_side_a_mistake_of_ours_ends_the_neighbour_and_the_run_with_70(
    story: Path, run: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    met = story / "met"
    met.mkdir()
    # Each waits until both are there, which never happens when they run one after the other.
    broken = f"""
import os, pathlib, time
if sys.argv[1] == 'quantize':
    pathlib.Path({str(met)!r}, sys.argv[2]).write_text(str(os.getpid()))
    while len(os.listdir({str(met)!r})) < 2: time.sleep(0.05)
    if sys.argv[2] == 'adapt-bf16': time.sleep(600)
    print('quantize: internal error, verbose', os.environ['GORN_VERBOSE'], file=sys.stderr)
    sys.exit(70)
"""
    with sabotaged(story, broken):
        started = time.monotonic()
        done = run("--force", "-v")
    assert done.returncode == 70
    assert time.monotonic() - started < 120
    told = "gorn run: stage quantize@adapt-ternary failed: quantize: internal error, verbose 1"
    assert done.stderr.splitlines()[-1] == told
    assert not fakes.runs(int((met / "adapt-bf16").read_text()))


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Path:
    """A project under DVC whose runs are interrupted: the second one finds Prefect's migrations done."""
    root = fakes.under_dvc(fakes.bare(tmp_path_factory.mktemp("interrupted") / "project"))
    fakes.copy_store(empty_store, root)
    return root


@pytest.mark.parametrize("group", [False, True], ids=["SIGTERM to gorn", "Ctrl-C to the group"])
def test_a_signal_leaves_no_process_behind(interrupted: Path, tmp_path: Path, group: bool) -> None:
    root, children = interrupted, tmp_path / "children"
    children.mkdir()
    with sabotaged(
        root,
        "import os, time\nif sys.argv[1] == 'quantize': "
        f"open({str(children)!r} + '/' + str(os.getpid()), 'w').close(); time.sleep(600)",
    ):
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.cli", "run"],
            cwd=root,
            env={**fakes.environment(), "PYTHONPATH": str(fakes.REPO)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        wait_for(lambda: len(list(children.iterdir())) == 2 or process.poll() is not None)
        assert process.poll() is None, process.stdout and process.stdout.read()
        below = psutil.Process(process.pid).children(recursive=True)
        assert any("uvicorn" in " ".join(one.cmdline()) for one in below), "the server is one of them"
        if group:
            os.killpg(process.pid, signal.SIGINT)
        else:
            process.send_signal(signal.SIGTERM)
        started = time.monotonic()
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + (signal.SIGINT if group else signal.SIGTERM), out
    assert time.monotonic() - started < 45
    assert "Traceback" not in out
    assert not [child.name for child in children.iterdir() if fakes.runs(int(child.name))]
    assert not [one.pid for one in below if fakes.runs(one.pid)]


def test_the_pages_answer(pages: dict[str, str]) -> None:
    for url in (f"{pages['mlflow']}/health", f"{pages['prefect']}/api/health"):
        with urllib.request.urlopen(url, timeout=30) as reply:
            assert reply.status == 200
