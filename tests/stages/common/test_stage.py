"""The runner: exit statuses, one-line errors, earlier outs untouched until the new ones are complete."""

from __future__ import annotations

import errno
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from training_fakes import make_tokenizer, tiny_model

from stages.common import manifest
from stages.common.checkpoint import save_model
from stages.common.errors import UserError
from stages.common.manifest import Facts
from stages.common.params import Params, load
from stages.common.stage import Paths, Stage, execute, main
from stages.common.training.shards import ShardWriter, token_dtype

FileLimit = Callable[[int], AbstractContextManager[None]]
Run = Callable[[Any, Paths, Paths], Facts]


def _write(params: Any, inputs: Paths, outputs: Paths) -> Facts:
    """Writes one file into each out."""
    for path in outputs.values():
        (path / "a.txt").write_text(f"seed {params.seed}")
    return Facts(notes={"n": 1})


def _stage(run: Run = _write, inputs: dict[str, str] | None = None, **options: Any) -> Stage:
    def locate(params: Params, cell: str | None) -> tuple[dict[str, Path], dict[str, Path]]:
        where = f"out/{cell}" if cell else "out/x"
        named = {name: Path(path) for name, path in (inputs or {}).items()}
        return named, {"x": Path(where), "extra": Path("out/extra")}

    return Stage("x", run, reads=("seed",), locate=locate, torch=False, **options)


@pytest.fixture
def project(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project with the default parameters, as the working directory."""
    (tmp_path / "params.yaml").write_bytes((root / "params.yaml").read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_outs_and_manifest_appear_together(project: Path) -> None:
    assert main(_stage(), []) == 0
    assert set(_files(project / "out")) == {"x/a.txt", "extra/a.txt", "x.manifest.json"}
    read = manifest.read(Path("out/x"))
    assert read["params"] == {"seed": 1}
    assert read["notes"] == {"n": 1}


def test_a_second_run_gives_the_same_bytes(project: Path) -> None:
    main(_stage(), [])
    first = _files(project / "out")
    main(_stage(), [])
    assert _files(project / "out") == first


def test_a_checkpoint_carries_its_manifest_inside(project: Path) -> None:
    assert main(_stage(checkpoint=True), []) == 0
    assert set(_files(project / "out")) == {"x/a.txt", "x/gorn.json", "extra/a.txt"}


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (UserError("bad\n  thing"), 1, "x: bad thing\n"),
        (UserError("x: bad thing"), 1, "x: bad thing\n"),
        (ValueError("odd"), 70, "x: internal error, ValueError: odd (-v shows the traceback)\n"),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            1,
            "the disk is full; free some space and run again\n",
        ),
    ],
)
def test_a_failure_is_one_line_and_leaves_the_earlier_outs(
    project: Path, capsys: pytest.CaptureFixture[str], error: Exception, status: int, line: str
) -> None:
    def fail(params: Any, inputs: Paths, outputs: Paths) -> Facts:
        """Fails after writing a half."""
        (outputs["x"] / "half.txt").write_text("half")
        raise error

    main(_stage(), [])
    before = _files(project / "out")
    assert main(_stage(fail), []) == status
    assert _files(project / "out") == before
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert printed.endswith(line)


def _text(out: Path) -> None:
    (out / "a.txt").write_text("a" * 10_000)


def _arrow(out: Path) -> None:
    pq.write_table(pa.table({"a": list(range(10_000))}), out / "a.parquet")


def _weights(out: Path) -> None:
    save_model(tiny_model(), None, out)


def _tokenizer(out: Path) -> None:
    make_tokenizer(out)


def _shards(out: Path) -> None:
    writer = ShardWriter(out, "s", "train", token_dtype(300), 0)
    writer.add(range(10_000), 1)
    writer.close()


@pytest.mark.parametrize("write", [_text, _arrow, _weights, _tokenizer, _shards])
def test_no_room_for_a_file_is_the_users_to_mend_whoever_writes_it(
    project: Path, capsys: pytest.CaptureFixture[str], file_limit: FileLimit, write: Callable[[Path], None]
) -> None:
    def run(params: Any, inputs: Paths, outputs: Paths) -> Facts:
        """Writes more than there is room for."""
        with file_limit(4096):
            write(outputs["x"])
        return Facts()

    main(_stage(), [])
    before = _files(project / "out")
    assert main(_stage(run), []) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("x: out/x: larger than a file may be here; raise the limit")
    assert _files(project / "out") == before


def test_errors_of_other_layers_bring_their_status(project: Path) -> None:
    class ForeignError(Exception):
        exit_status = 1

    def fail(params: Any, inputs: Paths, outputs: Paths) -> Facts:
        """Fails as evals and lowbit do."""
        raise ForeignError("mend it")

    assert main(_stage(fail), []) == 1


@pytest.mark.parametrize("variable", [False, True], ids=["-v", "GORN_VERBOSE"])
def test_verbose_shows_the_traceback(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, variable: bool
) -> None:
    def fail(params: Any, inputs: Paths, outputs: Paths) -> Facts:
        """Fails."""
        raise ValueError("odd")

    if variable:
        monkeypatch.setenv("GORN_VERBOSE", "1")
    assert main(_stage(fail), [] if variable else ["-v"]) == 70
    assert "Traceback" in capsys.readouterr().err


def test_a_missing_input_is_named(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(_stage(inputs={"corpus": "out/corpus"}), []) == 1
    line = capsys.readouterr().err
    assert "its input corpus (out/corpus) does not exist; run `dvc repro`" in line
    assert not Path("out").exists()


def test_reading_an_undeclared_block_is_our_mistake(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def peek(params: Any, inputs: Paths, outputs: Paths) -> Facts:
        """Reads what it does not declare."""
        return Facts(notes={"n": params.threads})

    assert main(_stage(peek), []) == 70
    assert "key `threads`" in capsys.readouterr().err


def test_remains_of_a_killed_run_do_not_get_into_the_out(project: Path) -> None:
    remains = Path("out/.x.partial")
    remains.mkdir(parents=True)
    (remains / "stale").write_text("from a killed run")
    execute(_stage(), load())
    assert set(_files(project / "out")) == {"x/a.txt", "extra/a.txt", "x.manifest.json"}


def test_a_disk_that_is_full_from_the_start(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, *arguments: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "mkdir", full)
    assert main(_stage(), []) == 1
    assert "the disk is full" in capsys.readouterr().err


def test_cells(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stage = _stage(cells=lambda _: ["a", "b"])
    assert main(stage, ["a"]) == 0
    assert Path("out/a/a.txt").exists()
    assert main(stage, ["c"]) == 1
    assert "no cell `c`; params.yaml declares a, b" in capsys.readouterr().err


def _command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", *arguments], capture_output=True, text=True, timeout=60)


def test_exit_statuses_of_the_real_command(project: Path) -> None:
    good = _command("stages.sources")
    assert (good.returncode, good.stdout, good.stderr) == (0, "", "")
    before = _files(project / "out")

    wrong_usage = _command("stages.sources", "--no-such-option")
    assert wrong_usage.returncode == 2
    assert "usage: python -m stages.sources" in wrong_usage.stderr

    text = Path("params.yaml").read_text(encoding="utf-8")
    Path("params.yaml").write_text(text.replace("seed: 1 ", "sed: 1 ", 1), encoding="utf-8")
    mistyped = _command("stages.sources")
    assert mistyped.returncode == 1
    assert mistyped.stderr.startswith("sources: params.yaml: ")
    assert "unknown key `sed`; did you mean `seed`?" in mistyped.stderr
    assert mistyped.stderr.count("\n") == 1

    Path("params.yaml").write_text(
        text.replace("heldout_share: 0.04", "heldout_share: 4", 1), encoding="utf-8"
    )
    out_of_range = _command("stages.sources")
    assert out_of_range.returncode == 1
    assert "key `corpus.heldout_share` is 4" in out_of_range.stderr

    Path("params.yaml").unlink()
    assert _command("stages.sources").returncode == 1
    assert _files(project / "out") == before


def test_our_own_mistake_ends_with_70(project: Path) -> None:
    code = (
        "import sys\nfrom stages.common.stage import main\nfrom stages.sources import STAGE\n"
        "import stages.sources\nstages.sources.named_paths = lambda _: 1 / 0\nsys.exit(main(STAGE, []))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 70
    assert (
        done.stderr
        == "sources: internal error, ZeroDivisionError: division by zero (-v shows the traceback)\n"
    )
