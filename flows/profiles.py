"""`gorn use`: complete parameter files for real work, one put in place of params.yaml."""

from __future__ import annotations

import shutil
from pathlib import Path

from flows.settings import PROFILES
from flows.source import git
from stages.common.atomic import atomic_file
from stages.common.errors import UserError
from stages.common.params import PARAMS_FILE, load


def available(folder: Path = PROFILES) -> dict[str, str]:
    """Profiles by name, each with the first comment line of its file."""
    found = {}
    for file in sorted(folder.glob("*.yaml")):
        first = file.read_text(encoding="utf-8").partition("\n")[0]
        found[file.stem] = first.removeprefix("#").strip() if first.startswith("#") else ""
    return found


def use(name: str, force: bool = False) -> str:
    """Put profile `name` in place of params.yaml; one sentence about it.

    Raises `UserError` when there is no such profile, when it is not valid, or when params.yaml holds edits
    that exist nowhere else (unless `force`).
    """
    known = available()
    if name not in known:
        raise UserError(f"profile `{name}`: there is none; profiles: {', '.join(known) or 'none'}")
    file = PROFILES / f"{name}.yaml"
    load(file)
    if PARAMS_FILE.exists() and file.read_bytes() == PARAMS_FILE.read_bytes():
        return f"{PARAMS_FILE} is profile {name} already"
    if not force and unsaved(known):
        raise UserError(
            f"{PARAMS_FILE}: has edits that are not committed; commit them, or add --force to lose them"
        )
    with atomic_file(PARAMS_FILE) as temporary:
        shutil.copyfile(file, temporary)
    return f"{PARAMS_FILE} is now profile {name}; `gorn run --dry-run` shows its plan"


def unsaved(profiles: dict[str, str]) -> bool:
    """Whether params.yaml differs from git's copy and from every profile, and would be lost."""
    if not PARAMS_FILE.exists():
        return False
    now = PARAMS_FILE.read_bytes()
    if any((PROFILES / f"{name}.yaml").read_bytes() == now for name in profiles):
        return False
    # git prints nothing when the file is as committed, and None when there is no git to ask.
    return git("status", "--porcelain", "--", str(PARAMS_FILE)) != ""
