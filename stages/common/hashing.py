"""Content hashes of files, folders and plain values."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def sha256_bytes(data: bytes) -> str:
    """Hex SHA-256 of `data`."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of the bytes of the file `path`, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_json(value: Any) -> str:
    """Hex SHA-256 of `value` as canonical JSON (sorted keys, no spaces)."""
    return sha256_bytes(json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode())


def sha256_paths(root: Path, files: Iterable[Path]) -> str:
    """One hash over names (relative to `root`) and contents of `files`; order does not matter."""
    return sha256_json({str(file.relative_to(root)): sha256_file(file) for file in files})


def sha256_path(path: Path) -> str:
    """Hash of a file's bytes, or of all files below a folder."""
    if path.is_dir():
        return sha256_paths(path, [file for file in path.rglob("*") if file.is_file()])
    return sha256_file(path)
