"""Outs appear whole or not at all, whatever goes wrong while they are written."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from stages.common import atomic
from stages.common.atomic import atomic_file, atomic_folder, disk_errors, read_json, write_json, write_text
from stages.common.errors import UserError

FileLimit = Callable[[int], AbstractContextManager[None]]


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_file_is_written_whole(tmp_path: Path) -> None:
    write_text(tmp_path / "deep" / "a.txt", "горн\n")
    assert (tmp_path / "deep" / "a.txt").read_text(encoding="utf-8") == "горн\n"
    assert _names(tmp_path / "deep") == ["a.txt"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_interrupted_file_leaves_the_earlier_one(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(error), atomic_file(path) as temporary:
        temporary.write_text("half of the n")
        raise error
    assert path.read_text() == "old"
    assert _names(tmp_path) == ["a.txt"]


def test_interrupted_folder_leaves_the_earlier_one(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with atomic_folder(out) as folder:
        (folder / "a").write_text("old")
    with pytest.raises(RuntimeError), atomic_folder(out) as folder:
        (folder / "a").write_text("new")
        (folder / "b").write_text("new")
        raise RuntimeError
    assert _names(out) == ["a"]
    assert (out / "a").read_text() == "old"
    assert _names(tmp_path) == ["out"]


def test_folder_replaces_all_of_the_earlier_one(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for name in ("a", "b"):
        with atomic_folder(out) as folder:
            (folder / name).write_text(name)
    assert _names(out) == ["b"]


def test_remains_of_a_killed_run_do_not_leak_into_the_next(tmp_path: Path) -> None:
    remains = tmp_path / ".out.partial"
    remains.mkdir()
    (remains / "stale").write_text("from a killed run")
    with atomic_folder(tmp_path / "out") as folder:
        (folder / "a").write_text("a")
    assert _names(tmp_path / "out") == ["a"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk_is_the_users_to_mend(tmp_path: Path, number: int) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(UserError, match=r"a\.txt: the disk is full; free some space"), atomic_file(path):
        raise OSError(number, os.strerror(number))
    assert path.read_text() == "old"


def test_full_disk_while_syncing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    path = tmp_path / "a.json"
    write_json(path, {"old": True})
    monkeypatch.setattr(atomic, "_sync", full)
    with pytest.raises(UserError, match="the disk is full"):
        write_json(path, {"old": False})
    assert read_json(path) == {"old": True}
    assert _names(tmp_path) == ["a.json"]


def test_a_file_beyond_the_limit_leaves_the_earlier_one(tmp_path: Path, file_limit: FileLimit) -> None:
    path = tmp_path / "a.json"
    write_json(path, [1])
    with file_limit(4096), pytest.raises(UserError, match=r"a\.json: larger than a file may be here"):
        write_json(path, list(range(10000)))
    assert read_json(path) == [1]
    assert _names(tmp_path) == ["a.json"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("I/O error: No space left on device (os error 28)", "the disk is full"),
        ("Permission denied (os error 13)", "no access .* check its permissions"),
    ],
)
def test_errors_that_rust_libraries_tell_in_words(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message), disk_errors(tmp_path):
        raise ValueError(text)


def test_a_forbidden_file_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(UserError, match=r"^in/a\.json: no access \(Permission denied\)"),
        disk_errors(tmp_path),
    ):
        raise PermissionError(errno.EACCES, "Permission denied", "in/a.json")


def test_other_system_errors_pass_through(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="odd"), disk_errors(tmp_path):
        raise OSError(errno.EIO, "odd")


def test_json_has_sorted_keys_and_refuses_nan(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"я": 1, "b": [1.5, None]})
    assert path.read_text(encoding="utf-8") == '{\n "b": [\n  1.5,\n  null\n ],\n "я": 1\n}\n'
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, float("nan"))
    assert json.loads(path.read_text(encoding="utf-8"))["я"] == 1


@pytest.mark.parametrize(
    ("content", "message"), [(b"{", "not readable as JSON"), (b"\xff", "not readable as JSON")]
)
def test_broken_json_names_the_file(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        read_json(path)
    assert str(path) in str(error.value)
    with pytest.raises(UserError, match="no such file"):
        read_json(tmp_path / "absent.json")
