"""Files and folders that appear whole or not at all: written under a temporary name, then renamed."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stages.common.errors import UserError, one_line

RUST_ERROR = re.compile(r"\(os error (\d+)\)")


def partial_name(path: Path) -> Path:
    """The temporary name of `path`: hidden, in the same folder, so that the rename stays on one disk."""
    return path.with_name(f".{path.name}.partial")


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a full or read-only disk under `path`, or a limit on the size of files, into a `UserError`."""
    try:
        yield
    except Exception as error:
        match _error_number(error):
            case errno.ENOSPC | errno.EDQUOT:
                raise UserError(f"{path}: the disk is full; free some space and run again") from error
            case errno.EFBIG:
                raise UserError(
                    f"{path}: larger than a file may be here; raise the limit (`ulimit -f`) and run again"
                ) from error
            case errno.EROFS | errno.EACCES:
                # It may be an input that must not be read, and then it has a name.
                where, why = getattr(error, "filename", None) or path, getattr(error, "strerror", None)
                raise UserError(
                    f"{where}: no access ({why or one_line(error)}); check its permissions"
                ) from error
        raise


def _error_number(error: Exception) -> int | None:
    if isinstance(error, OSError):
        return error.errno
    # Safetensors and tokenizers, written in Rust, tell the system's error only in the text of their own.
    found = RUST_ERROR.search(str(error))
    return int(found[1]) if found else None


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path; when the block ends well, its file is synced to disk and becomes `path`.

    Raises `UserError` when the disk is full or takes no file so large. On any error `path` is left as it was.
    """
    temporary = partial_name(path)
    try:
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            _sync(temporary)
            temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder; when the block ends well, it takes the place of `path`."""
    temporary = partial_name(path)
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        with disk_errors(path):
            temporary.mkdir(parents=True)
            yield temporary
            replace_folder(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def replace_folder(temporary: Path, path: Path) -> None:
    """Sync every file of `temporary` and rename it to `path`, removing what stood there."""
    for file in temporary.rglob("*"):
        if file.is_file():
            _sync(file)
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)
    temporary.replace(path)


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, atomically."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as readable JSON with sorted keys and a final newline, atomically. NaN is refused."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Parse a JSON file. Raises `UserError` naming the file when it is missing or broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; run the stage that writes it (dvc repro)") from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"{path}: not readable as JSON ({error})") from error
