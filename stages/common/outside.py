"""Files outside the repository that params.yaml names: one rule for what a path or a glob stands for."""

from __future__ import annotations

from pathlib import Path

from stages.common.errors import UserError

COMPRESSED = (".gz", ".zst")
FORMATS = (".jsonl", ".txt", ".parquet")


def text_format(path: Path) -> str | None:
    """`.jsonl`, `.txt` or `.parquet`, seen through a compression suffix; None for anything else."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSED:
        suffixes.pop()
    return suffixes[-1] if suffixes and suffixes[-1] in FORMATS else None


def expand(pattern: str, key: str) -> list[Path]:
    """The text files that `pattern` stands for, sorted by name.

    A file stands for itself, a folder for every text file below it, anything else is a glob (`**` goes deep).
    Raises `UserError` that names `key` and the pattern when nothing is there or a file has no known format.
    """
    path = Path(pattern)
    if path.is_dir():
        found = [file for file in path.rglob("*") if file.is_file() and text_format(file)]
    elif path.exists():
        found = [path]
    else:
        found = [file for file in _glob(path) if file.is_file()]
    if not found:
        raise UserError(f"params.yaml: {key}: {pattern} does not exist or holds no file; correct the path")
    unknown = [file for file in sorted(found) if text_format(file) is None]
    if unknown:
        known = ", ".join(FORMATS)
        raise UserError(f"params.yaml: {key}: {unknown[0]} is none of {known} (plain, .gz or .zst)")
    return sorted(found)


def _glob(pattern: Path) -> list[Path]:
    """Matches of a glob that may start at the root or above the working directory."""
    fixed = next((n for n, part in enumerate(pattern.parts) if any(char in part for char in "*?[")), None)
    if fixed is None:
        return []
    return list(Path(*pattern.parts[:fixed]).glob(str(Path(*pattern.parts[fixed:]))))
