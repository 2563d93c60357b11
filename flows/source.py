"""Where the code and data of a run stand: git commit, whether the tree is clean, the hash of dvc.lock."""

from __future__ import annotations

import subprocess
from pathlib import Path

from flows.settings import LOCK_FILE
from stages.common.champion import CHAMPION_FILE
from stages.common.errors import UserError
from stages.common.hashing import sha256_file

# `gorn run` itself writes these two; they do not make a tree dirty.
OWN_FILES = (str(LOCK_FILE), "stages/dvc.lock", str(CHAMPION_FILE))


def git(*arguments: str) -> str | None:
    """Output of a git command, or None when it fails or there is no git."""
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def tags() -> dict[str, str]:
    """`git.commit`, `git.dirty` and `dvc.lock.sha`; what cannot be known is left out."""
    found = {}
    commit = git("rev-parse", "HEAD")
    if commit:
        found["git.commit"] = commit
        status = git("status", "--porcelain", "--", ".", *(f":(exclude){name}" for name in OWN_FILES))
        if status is not None:
            found["git.dirty"] = "true" if status else "false"
    if LOCK_FILE.exists():
        found["dvc.lock.sha"] = sha256_file(LOCK_FILE)
    return found


def commit_lock() -> str:
    """Commit dvc.lock and champion.json, and nothing else; one sentence about it.

    Raises `UserError` when git refuses.
    """
    files = [name for name in OWN_FILES if Path(name).exists()]
    if git("rev-parse", "HEAD") is None:
        raise UserError(
            "--commit: this folder is not a git repository with a commit; `git init` and commit first"
        )
    # A fresh clone of Gorn ignores dvc.lock on purpose; a team that asks for the commit wants it tracked.
    if git("add", "--force", "--", *files) is None:
        raise UserError(f"--commit: git cannot add {', '.join(files)}; is another git process running?")
    if not git("diff", "--cached", "--name-only", "--", *files):
        return "dvc.lock and champion.json are committed already"
    done = subprocess.run(
        ["git", "commit", "--quiet", "-m", "Retrain: dvc.lock and champion", "--", *files],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        reason = " ".join((done.stderr or done.stdout).split())
        raise UserError(f"--commit: git refused ({reason}); commit {', '.join(files)} yourself")
    return f"committed {', '.join(files)}"
