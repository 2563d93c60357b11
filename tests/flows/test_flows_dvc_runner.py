"""One stage through the real DVC: what it says, how it fails, and that nothing survives it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import flows_fakes as fakes
import psutil
import pytest

from flows import cli, graph, settings
from flows.dvc_runner import LockHeldError, StageFailedError, end_group, failure, reproduce

pytestmark = pytest.mark.e2e

DVC_YAML = """\
stages:
  first:
    cmd: echo to the log >&2; mkdir -p out; cp in out/first
    deps: [in]
    outs: [out/first]
  second:
    cmd: cp out/first out/second
    deps: [out/first]
    outs: [out/second]
  broken:
    cmd: python -c 'import sys; print("mix is empty", file=sys.stderr); sys.exit(3)'
    deps: [in]
    outs: [out/broken]
  silent:
    cmd: exit 4
    deps: [in]
    outs: [out/silent]
  ours:
    cmd: python fails.py
    deps: [in]
    outs: [out/ours]
  slow:
    cmd: sleep 600 & echo $! > child; sleep 601
    deps: [in]
    outs: [out/slow]
  cells:
    foreach: [b, a]
    do:
      cmd: cp out/second out/cell-${item}
      deps: [out/second]
      outs: ["out/cell-${item}"]
"""


# A stage of ours that divides by zero.
FAILS = f"""
import sys
sys.path.insert(0, {str(fakes.REPO)!r})
from pathlib import Path
from stages.common.stage import Stage, main
def run(params, inputs, outputs):
    return 1 / 0
locate = lambda params, cell: ({{}}, {{"x": Path("out/ours")}})
sys.exit(main(Stage("ours", run, ("seed",), locate, torch=False), []))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("dvc")
    (root / "dvc.yaml").write_text(DVC_YAML, encoding="utf-8")
    (root / "in").write_text("1", encoding="utf-8")
    (root / "fails.py").write_text(FAILS, encoding="utf-8")
    (root / "params.yaml").write_bytes((fakes.REPO / "params.yaml").read_bytes())
    settings.own_tools_first()
    return fakes.under_dvc(root)


def test_the_graph_is_dvcs_own_in_topological_order(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    nodes = graph.stages()
    order = [node.addressing for node in nodes]
    assert order.index("first") < order.index("second") < order.index("cells@a") < order.index("cells@b")
    assert set(order) == {"first", "second", "broken", "silent", "ours", "slow", "cells@a", "cells@b"}
    assert nodes[order.index("cells@a")].upstream == ("second",)


def test_a_stage_runs_is_unchanged_comes_from_the_run_cache(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    lines: list[str] = []
    assert "first" in graph.changed()
    assert reproduce("first", lines.append, folder).state == "ran"
    assert "to the log" in lines
    assert "first" not in graph.changed()
    assert reproduce("first", lines.append, folder).state == "unchanged"
    (folder / "in").write_text("2", encoding="utf-8")
    assert reproduce("first", lines.append, folder).state == "ran"
    (folder / "in").write_text("1", encoding="utf-8")
    assert reproduce("first", lines.append, folder).state == "restored"
    assert reproduce("first", lines.append, folder, force=True).state == "ran"


def test_a_failed_stage_is_told_by_its_own_last_line(folder: Path) -> None:
    with pytest.raises(StageFailedError, match=r"^stage broken failed: mix is empty$"):
        reproduce("broken", lambda _: None, folder)


@pytest.mark.parametrize("verbose", [False, True])
def test_a_mistake_of_ours_in_a_stage_stays_ours_and_shows_its_traceback_on_demand(
    folder: Path, capsys: pytest.CaptureFixture[str], verbose: bool
) -> None:
    lines: list[str] = []
    with pytest.raises(StageFailedError) as caught:
        reproduce("ours", lines.append, folder, verbose=verbose)
    assert ("Traceback (most recent call last):" in lines) is verbose
    assert cli.fail("run", caught.value, verbose=False) == 70
    hint = "" if verbose else " (-v shows the traceback)"
    expected = "gorn run: stage ours failed: ours: internal error, ZeroDivisionError: division by zero"
    assert capsys.readouterr().err == f"{expected}{hint}\n"


def test_a_failure_of_the_users_keeps_status_1(folder: Path) -> None:
    with pytest.raises(StageFailedError) as caught:
        reproduce("broken", lambda _: None, folder)
    assert cli.fail("run", caught.value, verbose=False) == 1


def test_a_stage_that_fails_without_a_word(folder: Path) -> None:
    with pytest.raises(
        StageFailedError, match=r"^stage silent failed without a word: `exit 4` exited with 4$"
    ):
        reproduce("silent", lambda _: None, folder)


def test_a_path_held_by_another_process_is_a_lock_error(folder: Path) -> None:
    with (
        lock_held(folder, "out/first"),
        pytest.raises(LockHeldError, match="is busy, it is being blocked by"),
    ):
        reproduce("first", lambda _: None, folder, force=True)


class lock_held:  # noqa: N801 -- reads as a phrase
    """DVC's own read-write lock of `path`, held by a process that lives."""

    def __init__(self, folder: Path, path: str) -> None:
        self.file = folder / ".dvc" / "tmp" / "rwlock"
        self.path = str((folder / path).resolve())

    def __enter__(self) -> None:
        self.holder = subprocess.Popen(["sleep", "600"])
        self.file.parent.mkdir(exist_ok=True)
        holder = {"pid": self.holder.pid, "cmd": "dvc repro elsewhere"}
        self.file.write_text(json.dumps({"write": {self.path: holder}, "read": {}}), encoding="utf-8")

    def __exit__(self, *_: object) -> None:
        self.holder.kill()
        self.holder.wait()
        self.file.unlink(missing_ok=True)


def test_a_stage_that_prints_a_lock_error_is_still_a_failed_stage() -> None:
    said = ["Running stage 'first':"]
    wrong = [
        "ERROR: 'x' is busy, it is being blocked by:",
        "ERROR: failed to reproduce 'first': failed to run: c, exited with 1",
    ]
    assert isinstance(failure("first", 255, said, wrong), StageFailedError)
    assert isinstance(failure("first", 255, [], wrong), LockHeldError)


def test_whatever_interrupts_us_ends_the_whole_group(folder: Path) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    (folder / "child").unlink(missing_ok=True)
    before = set(psutil.pids())
    previous = signal.signal(signal.SIGALRM, interrupt)
    # It strikes once the stage's own child runs, as the worst moment.
    watcher = subprocess.Popen([sys.executable, "-c", WATCHER, str(folder / "child"), str(os.getpid())])
    try:
        with pytest.raises(KeyboardInterrupt):
            reproduce("slow", lambda _: None, folder)
    finally:
        watcher.wait(timeout=30)
        signal.signal(signal.SIGALRM, previous)
    child = int((folder / "child").read_text(encoding="utf-8"))
    assert not fakes.runs(child)
    left = [pid for pid in set(psutil.pids()) - before if "sleep 60" in " ".join(command_line(pid))]
    assert left == []


WATCHER = """
import os, pathlib, signal, sys, time
file = pathlib.Path(sys.argv[1])
while not (file.exists() and file.read_text()):
    time.sleep(0.05)
os.kill(int(sys.argv[2]), signal.SIGALRM)
"""


def command_line(pid: int) -> list[str]:
    try:
        return psutil.Process(pid).cmdline()
    except psutil.NoSuchProcess:
        return []


STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("up", flush=True)
time.sleep(99)
"""


def test_a_group_that_ignores_sigterm_is_killed() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", STUBBORN], start_new_session=True, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.readline()
    started = time.monotonic()
    end_group(process.pid, grace=0.5)
    assert process.wait(timeout=5) == -signal.SIGKILL
    assert time.monotonic() - started < 5


def test_forecast() -> None:
    nodes = [
        graph.StageNode("sources", always=True),
        graph.StageNode("a", ("sources",)),
        graph.StageNode("b", ("a",)),
        graph.StageNode("c", ("sources",)),
    ]
    assert graph.forecast(nodes, {"sources", "a"}) == {
        "sources": "checks",
        "a": "runs",
        "b": "may run",
        "c": "unchanged",
    }
