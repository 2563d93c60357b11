"""The champion as a stage meets it: champion.json names it, and its bytes must be the named ones."""

from __future__ import annotations

from pathlib import Path

from stages.common import checkpoint
from stages.common.atomic import read_json
from stages.common.errors import UserError

CHAMPION = "champion"
CHAMPION_FILE = Path("champion.json")


def folder(file: Path = CHAMPION_FILE) -> Path:
    """Where the champion's checkpoint lies. Raises `UserError` when champion.json is broken."""
    named = read_json(file)
    if not isinstance(named, dict) or not isinstance(named.get("path"), str):
        raise UserError(f"{file}: has no `path`; restore it from git, or `gorn champion fetch`")
    return Path(named["path"])


def check(file: Path, found_in: Path, found: str | None = None) -> None:
    """Raise `UserError` unless the bytes of `found_in` are those that champion.json names.

    `found` is their digest where the caller knows it: hashing takes its time. The base model is not named.
    """
    named = read_json(file).get("digest")
    if named is None:
        return
    found = found or checkpoint.digest(found_in)
    if found != named:
        raise UserError(
            f"{found_in}: its digest is {found[:12]}, but {file.name} names {named[:12]}; "
            "run `gorn champion fetch` to get the champion's own files"
        )
