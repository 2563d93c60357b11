"""The champion's bytes and the file that names it.

Champion.json is an input of the graph, the registry its source.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from flows.registry import Registry, Version, file_lock
from flows.settings import STATE, champion_folder, model_store, shown, tracking_uri
from stages.common.atomic import atomic_folder, read_json, write_json
from stages.common.champion import CHAMPION_FILE
from stages.common.errors import UserError

BASE = "out/base"
CANDIDATES = Path("out/quantize")


@dataclass(frozen=True)
class Champion:
    """champion.json.

    Before the first promotion version and digest are None and the path is the base model's.
    """

    version: int | None = None
    digest: str | None = None
    path: str = BASE


def read(file: Path = CHAMPION_FILE) -> Champion:
    """Parse champion.json. Raises `UserError` when it is missing or has other keys."""
    value = read_json(file)
    try:
        return Champion(**value)
    except TypeError as error:
        raise UserError(
            f"{file}: expected the keys version, digest and path; delete it, `gorn champion fetch` writes it"
        ) from error


def write(champion: Champion, file: Path = CHAMPION_FILE) -> bool:
    """Write champion.json unless it says so already; whether it changed."""
    if file.exists() and read_json(file) == asdict(champion):
        return False
    write_json(file, asdict(champion))
    return True


def of(version: Version | None) -> Champion:
    """What champion.json says when `version` is the champion."""
    if version is None:
        return Champion()
    return Champion(version.number, version.digest, str(champion_folder(version.digest)))


def refresh(registry: Registry) -> Champion:
    """Bring champion.json and `.gorn/champion/<digest>` in line with the registry.

    Raises `UserError` when the bytes are nowhere to be found, or when champion.json names a version that this
    registry never had; champion.json then stays as it was.
    """
    _refuse_another_registry(registry)
    version = registry.alias("champion")
    champion = of(version)
    if version is not None:
        forget_others(fetch(version.digest))
    write(champion)
    return champion


def _refuse_another_registry(registry: Registry) -> None:
    """Raise `UserError` when champion.json names a version that `registry` never had: it is another one's.

    To follow it would put the base, or another line of models, in the champion's place without a word. A
    version that it has, but that reigns no more, is the ordinary case.
    """
    named = read() if CHAMPION_FILE.exists() else Champion()
    if named.version is None:
        return
    known = registry.find(named.version)
    if known is None or known.digest != named.digest:
        raise UserError(
            f"{CHAMPION_FILE}: names version {named.version} ({(named.digest or 'no digest')[:12]}), which "
            f"{shown(tracking_uri())} does not have; point MLFLOW_TRACKING_URI at the registry that has it, "
            f"or, to start over with this one, delete {CHAMPION_FILE} and run `gorn champion fetch`"
        )


def fetch(digest: str) -> Path:
    """Put the checkpoint `digest` under `.gorn/champion/`, whole and verified. Raises `UserError`."""
    folder = champion_folder(digest)
    with file_lock(STATE / "models.lock"):
        if not _is(folder, digest):
            copy(find(digest), folder, digest)
    return folder


def forget_others(folder: Path) -> None:
    """Remove earlier champions' copies that the model store still has."""
    for other in folder.parent.iterdir():
        if (
            other != folder
            and other.is_dir()
            and not other.name.startswith(".")
            and (model_store() / other.name).is_dir()
        ):
            shutil.rmtree(other)


def keep(digest: str) -> Path:
    """Copy the checkpoint `digest` into the model store, where no `dvc gc` reaches. Raises `UserError`."""
    folder = model_store() / digest
    with file_lock(STATE / "models.lock"):
        if not _is(folder, digest):
            copy(find(digest), folder, digest)
    return folder


def find(digest: str) -> Path:
    """A folder on this machine that holds exactly the checkpoint `digest`.

    Raises `UserError` that says where was looked.
    """
    for folder in _places(digest):
        if _is(folder, digest):
            return folder
    raise UserError(
        f"checkpoint {digest[:12]}: not found in {model_store()}, {STATE / 'champion'} or {CANDIDATES}; "
        "copy the folder from the machine that promoted it, or point GORN_MODELS at a shared store"
    )


def _places(digest: str) -> Iterator[Path]:
    yield model_store() / digest
    yield champion_folder(digest)
    if CANDIDATES.is_dir():
        yield from sorted(folder for folder in CANDIDATES.iterdir() if folder.is_dir())


def _is(folder: Path, digest: str) -> bool:
    from stages.common import checkpoint

    try:
        return folder.is_dir() and checkpoint.digest(folder) == digest
    except UserError:  # an unfinished or foreign folder is simply not the one looked for
        return False


def copy(source: Path, target: Path, digest: str) -> None:
    """Copy a checkpoint so that `target` appears whole or not at all, with ordinary file rights, and verify
    it.

    Real copies, no links: DVC's cache may be cleaned or, through a hard link, overwritten.
    Raises `UserError` when what arrived is not `digest`.
    """
    with atomic_folder(target) as temporary:
        shutil.copytree(source, temporary, dirs_exist_ok=True, copy_function=shutil.copyfile)
        if not _is(temporary, digest):
            raise UserError(
                f"{source}: its bytes are not those of checkpoint {digest[:12]}; `dvc repro` makes it anew"
            )


def resolve(registry: Registry, name: str) -> Version:
    """The version behind an alias or a number. Raises `UserError`."""
    if name.isdigit():
        return registry.version(int(name))
    version = registry.alias(name)
    if version is None:
        known = [alias for alias, number in registry.aliases().items() if number is not None]
        raise UserError(f"`{name}`: no such alias in the registry; set now: {', '.join(known) or 'none'}")
    return version


def pull(registry: Registry, name: str, folder: Path) -> Version:
    """Put the checkpoint of an alias or version into `folder` as a plain Hugging Face folder, verified.

    Raises `UserError` when `folder` holds something already or the bytes are not to be found.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: exists and is not empty; name a new folder")
    version = resolve(registry, name)
    folder.parent.mkdir(parents=True, exist_ok=True)
    copy(find(version.digest), folder, version.digest)
    return version
