"""Profiles, plan, table, ports, doctor, schedule, signals: what needs no server."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import flows_fakes as fakes
import psutil
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from flows import champion, doctor, plan, ports, profiles, results, serve, settings, source, table
from stages.common.errors import UserError
from stages.common.params import load


def test_use_puts_a_profile_in_place(root: Path) -> None:
    assert profiles.available()["good"] == "Another seed"
    assert profiles.use("good").startswith("params.yaml is now profile good")
    assert load().seed == 2
    assert profiles.use("good") == "params.yaml is profile good already"


def test_use_refuses_what_is_not_valid_or_not_there(root: Path) -> None:
    before = (root / "params.yaml").read_bytes()
    with pytest.raises(UserError, match=r"profiles/bad\.yaml: key `seed` is -2"):
        profiles.use("bad", force=True)
    with pytest.raises(UserError, match="profile `none`: there is none; profiles: bad, good"):
        profiles.use("none")
    assert (root / "params.yaml").read_bytes() == before


def test_use_keeps_edits_that_exist_nowhere_else(root: Path) -> None:
    edited = (root / "params.yaml").read_text(encoding="utf-8") + "\n# mine\n"
    (root / "params.yaml").write_text(edited, encoding="utf-8")
    with pytest.raises(UserError, match="has edits that are not committed"):
        profiles.use("good")
    assert (root / "params.yaml").read_text(encoding="utf-8") == edited
    profiles.use("good", force=True)
    assert load().seed == 2


def test_git_tags_ignore_what_a_run_writes_itself(root: Path) -> None:
    (root / "dvc.lock").write_text("schema: '2.0'\n", encoding="utf-8")
    fakes.write(root / "champion.json", {"version": 1, "digest": "d", "path": "p"})
    assert source.tags()["git.dirty"] == "false"
    assert len(source.tags()["dvc.lock.sha"]) == 64
    (root / "new.py").write_text("", encoding="utf-8")
    assert source.tags()["git.dirty"] == "true"


def test_commit_takes_the_two_files_and_nothing_else(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "t")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "t@example.org")
    (root / "dvc.lock").write_text("schema: '2.0'\n", encoding="utf-8")
    (root / "make.py").write_text("changed", encoding="utf-8")
    subprocess.run(["git", "add", "make.py"], check=True)
    assert source.commit_lock() == "committed dvc.lock, champion.json"
    assert source.git("show", "--name-only", "--format=") == "dvc.lock"
    assert source.git("diff", "--cached", "--name-only") == "make.py"
    assert source.commit_lock() == "dvc.lock and champion.json are committed already"


def test_the_table_shows_intervals_verdicts_and_what_is_missing(root: Path) -> None:
    (root / "out/judge/adapt-ternary/summary.json").unlink()
    fakes.report(root)
    found = table.read(results.read())
    assert table.header(found)[5] == "p50 ms (1)"
    rows = {row[0]: row for row in table.rows(found)}
    assert rows["adapt-bf16"][1:] == [
        "0.800 [0.780, 0.820]",
        "0.500",
        "-",
        "1.00 kB",
        "12.5",
        "0.60",
        "pass, winner",
    ]
    assert rows["adapt-ternary"][6:] == ["-", "fail"]
    assert rows["champion"][-1] == "base model"


@pytest.mark.parametrize(
    ("prompts", "latency"),
    [({"1": fakes.times(9.0), "512": None}, "9.0"), ({"1": None, "512": None}, "-"), (None, "-")],
)
def test_prompts_that_a_model_has_no_room_for_are_dashes(
    root: Path, capsys: pytest.CaptureFixture[str], prompts: object, latency: str
) -> None:
    fakes.write(root / "out/measure/champion/measures.json", {**fakes.measures(2000), "prompts": prompts})
    fakes.report(root)
    found = table.read(results.read())
    assert table.header(found)[5] == "p50 ms (1)"
    assert [row[5] for row in table.rows(found)] == ["12.5", "12.5", latency]
    assert results.cell_metrics(results.read().cells["champion"])["model/bytes"] == 2000
    table.render(results.read())
    assert "champion" in capsys.readouterr().out


def test_a_cut_has_a_column_of_what_it_removed(root: Path) -> None:
    file = root / "out/report/table.json"
    told = json.loads(file.read_text(encoding="utf-8"))
    assert "removed" not in table.header(told)
    told["rows"][1]["removed_share"] = 0.25
    shown = [dict(zip(table.header(told), row, strict=True)) for row in table.rows(told)]
    assert [row["removed"] for row in shown] == ["-", "25.0 %", "-"]
    old = [{key: row[key] for key in row if key != "removed_share"} for row in told["rows"]]
    assert "removed" not in table.header({**told, "rows": old})


def test_the_rendered_table_names_winner_and_reasons(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table.render(results.read(), "promoted")
    told = capsys.readouterr().out
    assert "adapt-ternary: total: 0.2 below its parent" in told
    assert "Winner: adapt-bf16. the smallest that passed" in told
    assert told.rstrip().endswith("promoted")


def test_a_table_of_another_decision_is_refused(root: Path) -> None:
    before = (root / "out/report/table.json").read_bytes()
    fakes.decide(root, winner=None)
    table.read(results.read())
    (root / "out/report/table.json").write_bytes(before)
    with pytest.raises(
        UserError, match=r"out/report/table\.json: not about the gate's decision; run `dvc repro"
    ):
        table.read(results.read())
    (root / "out/report/table.json").unlink()
    with pytest.raises(UserError, match=r"out/report/table\.json: no such file"):
        table.read(results.read())


def test_the_table_is_that_of_the_report(root: Path) -> None:
    """What a person reads in the terminal is what table.json holds, not another computation."""
    file = root / "out/report/table.json"
    told = json.loads(file.read_text(encoding="utf-8"))
    told["rows"][1]["bytes"] = 2_110_000
    fakes.write(file, told)
    shown = {row[0]: row[4] for row in table.rows(table.read(results.read()))}
    assert shown == {"adapt-bf16": "2.11 MB", "adapt-ternary": "1.00 kB", "champion": "2.00 kB"}


def test_the_key_depends_on_every_published_number(root: Path) -> None:
    before = results.read().key()
    assert results.read().key() == before
    fakes.write(root / "out/evaluate/champion/scores.json", fakes.scores(0.31, root / "out/base"))
    assert results.read().key() != before


@given(
    st.recursive(st.floats() | st.booleans() | st.none(), lambda inner: st.dictionaries(st.text("ab"), inner))
)
def test_numbers_are_finite_floats_under_paths(value: object) -> None:
    for name, number in results.numbers({"x": value}):
        assert name.startswith("x")
        assert isinstance(number, float)
        assert abs(number) < float("inf")


def test_parameters_are_flattened() -> None:
    found = dict(results.flatten({"a": {"b": 1, "c": [1, 2]}, "s": [{"type": "world"}]}))
    assert found == {"a.b": "1", "a.c": "[1, 2]", "s.0.type": "world"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("http://ann:s3@cr/t@host:5000/x: gone", "http://ann:***@host:5000/x: gone"),
        ("a (postgresql+psycopg://ann:s3cret@host/db)", "a (postgresql+psycopg://ann:***@host/db)"),
        (
            "postgresql://host/db?user=ann&password=s3cret&a=1",
            "postgresql://host/db?user=ann&password=***&a=1",
        ),
        ("http://token:@host", "http://token:@host"),
        ("sqlite:////a:b/mlflow.db", "sqlite:////a:b/mlflow.db"),
        ("http://host:5000, mail ann@host", "http://host:5000, mail ann@host"),
    ],
)
def test_passwords_are_masked_and_nothing_else(text: str, told: str) -> None:
    assert settings.shown(text) == told


def test_champion_file_of_another_form(root: Path) -> None:
    fakes.write(root / "champion.json", {"model": 1})
    with pytest.raises(UserError, match="expected the keys version, digest and path; delete it"):
        champion.read()


def test_a_copy_is_whole_verified_and_writable(root: Path, tmp_path: Path) -> None:
    original = root / "out/quantize/adapt-bf16"
    digest = fakes.checkpoint(original, "weights")
    (original / "model.safetensors").chmod(0o444)
    champion.copy(original, tmp_path / "copy", digest)
    copied = tmp_path / "copy" / "model.safetensors"
    assert copied.stat().st_mode & 0o200
    assert copied.stat().st_ino != (original / "model.safetensors").stat().st_ino
    with pytest.raises(UserError, match="its bytes are not those of checkpoint"):
        champion.copy(original, tmp_path / "wrong", "0" * 64)
    assert not (tmp_path / "wrong").exists()


def shown_plan(root: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, dict[str, object]]) -> None:
    """`gorn run --dry-run` with `changes` to the blocks of params.yaml, on a machine of 1 TFLOP/s."""
    values = yaml.safe_load((fakes.REPO / "params.yaml").read_text(encoding="utf-8"))
    for block, changed in changes.items():
        values[block] |= changed
    (root / "params.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    monkeypatch.setattr(plan.graph, "stages", list)
    monkeypatch.setattr(plan.graph, "changed", set)
    monkeypatch.setattr(plan, "matrix_speed", lambda *_: 1e12)
    monkeypatch.setattr(plan, "memory_available", lambda _: (400_000_000, "memory"))
    plan.show(force=False)


def test_the_plan_takes_a_vocabulary_that_is_too_large_for_the_judge(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bootstrap = load(fakes.REPO / "params.yaml").base.bootstrap
    assert bootstrap is not None
    larger = {**bootstrap.model_dump(), "parameters": 20_000_000}
    changes = {"tokens": {"vocab_size": 32_000}, "base": {"bootstrap": larger}}
    shown_plan(root, monkeypatch, changes)
    told = capsys.readouterr().out.partition("Gate:")[0]
    lines = {line.split()[1]: line for line in told.splitlines() if line.startswith("│")}
    assert list(lines) == ["base", "pretrain", "adapt", "distill", "judge_model"]
    assert ["(too much)" in line for line in lines.values()] == [True, True, False, True, False]
    assert all("about" in line for line in lines.values())
    assert "Weights of the candidates: adapt-bf16 " in told


def test_the_plan_says_how_many_items_the_margins_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Published figures before anything is known; afterwards what the last decision saw, at most."""
    params = load(fakes.REPO / "params.yaml")
    monkeypatch.chdir(tmp_path)

    def shown() -> list[tuple[str, str, str]]:
        table = plan._gate(params)
        rule, _, needed, there = (list(column.cells) for column in table.columns)
        return list(zip(map(str, rule), map(str, needed), map(str, there), strict=True))

    rows = shown()
    assert rows[0] == ("non-inferiority of total, champion", "1,546 if 10% differ", "-")
    assert rows[1][1:] == ("-", "-")
    total = {"metric": "total", "against": "champion", "n": 2420}
    entries = {
        name: {"parent": None, "checks": [{**total, "power": {"items": items}}, {**total, "power": None}]}
        for name, items in (("a", 900), ("b", 3000), ("c", None))
    }
    fakes.write(tmp_path / "out/gate/decision.json", {"candidates": entries})
    assert shown()[0][1:] == ("3,000", "2,420")


def test_the_plan_of_a_base_that_is_not_here_has_gaps(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown_plan(root, monkeypatch, {"base": {"source": "hub", "path": "nobody/nothing", "bootstrap": None}})
    told = capsys.readouterr().out
    (line,) = [line for line in told.splitlines() if " pretrain " in line]
    assert line.split()[3] == "-" and "about" not in line
    assert "The base `nobody/nothing` is not on this machine yet" in " ".join(told.split())


@pytest.mark.parametrize(
    ("seconds", "told"), [(20, "20 s"), (120, "2.0 min"), (7200, "2.0 h"), (200000, "2.3 days")]
)
def test_durations(seconds: float, told: str) -> None:
    assert plan.duration(seconds) == told


def test_a_schedule_that_is_none_is_refused() -> None:
    serve.check_cron("0 3 * * *")
    with pytest.raises(UserError, match='"every night": not a cron schedule'):
        serve.check_cron("every night")


def test_a_port_is_in_use_or_not() -> None:
    with socket.socket() as taken:
        taken.bind((ports.HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert ports.in_use(port)
        with pytest.raises(UserError, match=f"port {port}: in use, so MLflow cannot start there"):
            ports.require_free(port, "MLflow", "--mlflow-port")
    assert not ports.in_use(port)


def test_doctor_compares_with_the_lock() -> None:
    from importlib.metadata import version

    lock = f"rich=={version('rich')}\nnumpy==0.0.1\nnobody-has-this==1.0\nwheel==9 ; platform_system == 'X'\n"
    assert list(doctor.differences(lock)) == [
        f"numpy {version('numpy')} (0.0.1)",
        "nobody-has-this missing (1.0)",
    ]


def test_doctor_finds_bad_parameters(root: Path) -> None:
    profiles_bad = (root / "profiles" / "bad.yaml").read_bytes()
    (root / "params.yaml").write_bytes(profiles_bad)
    assert [finding.level for finding in doctor.parameters()] == ["bad"]


def test_doctor_wants_bitsandbytes_where_it_is_asked_for(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed: dict[str, str] = {}

    def version(name: str) -> str:
        if name not in installed:
            raise doctor.PackageNotFoundError(name)
        return installed[name]

    def found(nf4: bool) -> list[tuple[str, str]]:
        values = yaml.safe_load((fakes.REPO / "params.yaml").read_text(encoding="utf-8"))
        values["adapt"]["nf4"] = nf4
        (root / "params.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
        return [(finding.level, finding.text) for finding in doctor.four_bits()]

    monkeypatch.setattr(doctor, "version", version)
    assert found(nf4=False) == []
    ((level, text),) = found(nf4=True)
    assert level == "bad"
    assert "bitsandbytes is not installed; `make baselines`" in text
    installed["bitsandbytes"] = "0.50.2"
    assert found(nf4=True) == [("ok", "bitsandbytes 0.50.2, asked for")]
    assert found(nf4=False) == [("ok", "bitsandbytes 0.50.2, not asked for")]


TREE = """
import subprocess, sys, time
from flows.processes import TerminatedError, ending_children
try:
    with ending_children():
        grandparent = "import subprocess; subprocess.run(['sleep', '600'])"
        child = subprocess.Popen([sys.executable, "-c", grandparent])
        print(child.pid, flush=True)
        time.sleep(600)
except TerminatedError as stop:
    sys.exit(stop.exit_status)
"""


def test_sigterm_ends_the_whole_tree() -> None:
    command = [sys.executable, "-c", TREE]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=fakes.REPO)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    below: list[psutil.Process] = []
    deadline = time.monotonic() + 60
    while len(below) < 2 and time.monotonic() < deadline:
        below = psutil.Process(process.pid).children(recursive=True)
    process.terminate()
    assert process.wait(timeout=30) == 143
    assert child in [one.pid for one in below]
    assert len(below) == 2
    assert not [one.pid for one in below if fakes.runs(one.pid)]


def test_the_switches_of_infra_are_those_of_the_code() -> None:
    from stages.common import environment

    lines = (fakes.REPO / "infra" / "environment.env").read_text(encoding="utf-8").splitlines()
    told = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert told.items() >= {**environment.QUIET, **environment.OFFLINE, **environment.ALLOCATOR}.items()
    assert told["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"


def test_infra_files_say_what_they_must() -> None:
    infra = fakes.REPO / "infra"
    compose = yaml.safe_load((infra / "compose.yaml").read_text(encoding="utf-8"))
    mlflow = compose["services"]["mlflow"]
    assert "--allowed-hosts localhost:*,127.0.0.1:*,mlflow:5000" in mlflow["command"]
    assert mlflow["env_file"] == "environment.env"
    published = [port for service in compose["services"].values() for port in service.get("ports", [])]
    assert all(port.startswith("127.0.0.1:") for port in published)
    (deployment,) = yaml.safe_load((infra / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]
    assert deployment["concurrency_limit"] == {"limit": 1, "collision_strategy": "CANCEL_NEW"}
    file, _, function = deployment["entrypoint"].partition(":")
    assert f"def {function}(" in (fakes.REPO / file).read_text(encoding="utf-8")
    subprocess.run(["bash", "-n", str(infra / "slurm.sbatch")], check=True)
    assert yaml.safe_load((infra / "kubernetes.yaml").read_text(encoding="utf-8"))["kind"] == "CronJob"
