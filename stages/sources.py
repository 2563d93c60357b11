"""Stage `sources`: fingerprints of every file outside the repository that params.yaml names.

It runs on every `dvc repro`, so that a changed file outside the repository re-runs what was made from it;
hashes of files that have not changed since the last run come from a cache outside the outs.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stages.common.atomic import write_json
from stages.common.errors import UserError
from stages.common.hashing import sha256_file
from stages.common.manifest import Facts
from stages.common.outside import expand
from stages.common.params import Params
from stages.common.snapshots import dataset_folder
from stages.common.stage import Paths, Stage, main
from stages.common.suites import HUB, WORLD

CACHE = Path(".gorn/fingerprints.json")
SUPERVISED = "adapt.data."


def named_paths(params: Any) -> Iterator[tuple[str, Path]]:
    """Yield (key of params.yaml, file) for every outside file, in the order of the keys.

    Raises `UserError` that names key and path when something is missing.
    """
    for number, source in enumerate(params.corpus.sources):
        if source.type == "files":
            for place, pattern in enumerate(source.paths):
                key = f"corpus.sources.{number}.paths.{place}"
                yield from ((key, file) for file in expand(pattern, key))
    for number, pattern in enumerate(params.corpus.protect):
        key = f"corpus.protect.{number}"
        yield from ((key, file) for file in expand(pattern, key))
    for number, source in enumerate(params.adapt.data or ()):
        for place, pattern in enumerate(source.paths):
            key = f"adapt.data.{number}.paths.{place}"
            yield from ((key, file) for file in expand(pattern, key))
    if params.base.source == "local":
        yield from _below("base.path", params.base.path)
    if params.distill.folder is not None:
        yield from _below("distill.student", params.distill.folder)
    for number, suite in enumerate(params.evaluate.suites):
        if suite != WORLD and not suite.startswith(HUB):
            yield from _below(f"evaluate.suites.{number}", suite)
    if params.evaluate.detox_scorers is not None:
        yield from _below("evaluate.detox_scorers", params.evaluate.detox_scorers)
    for key, path in params.judge.outside.items():
        yield from _below(key, path)


def hub_files(params: Any) -> Iterator[tuple[str, str, Path]]:
    """Yield (key, `hub:NAME@COMMIT/FILE`, file) for every file of a data set of the hub.

    Raises `UserError` when it is not on this machine and cannot be fetched.
    """
    for number, suite in enumerate(params.evaluate.suites):
        if suite.startswith(HUB):
            name, key = suite.removeprefix(HUB), f"evaluate.suites.{number}"
            folder = dataset_folder(name, fetch=True)
            shown = f"{HUB}{name.partition('@')[0]}@{folder.name}"
            for _, file in _below(key, str(folder)):
                yield key, f"{shown}/{file.relative_to(folder).as_posix()}", file


def _below(key: str, path: str) -> Iterator[tuple[str, Path]]:
    """Every visible file of the folder or the one file `path`."""
    root = Path(path)
    if not root.exists():
        raise UserError(f"params.yaml: {key}: {path} does not exist; correct the path")
    if root.is_file():
        yield key, root
        return
    files = sorted(file for file in root.rglob("*") if file.is_file() and not _hidden(file.relative_to(root)))
    if not files:
        raise UserError(f"params.yaml: {key}: the folder {path} is empty")
    yield from ((key, file) for file in files)


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


class HashCache:
    """SHA-256 by (path, size, time of change, inode), kept in a JSON file between runs.

    The file is a convenience: a broken one is read as empty, and it holds only what the last run named.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        try:
            known = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            known = {}
        self._known: dict[str, Any] = known if isinstance(known, dict) else {}
        self._used: dict[str, Any] = {}

    def sha256(self, path: Path) -> str:
        """Hash of the content of `path`, computed only when its stamp is new."""
        name, stamp = str(path.resolve()), _stamp(path)
        known = self._known.get(name)
        fresh = (
            isinstance(known, dict) and known.get("stamp") == stamp and isinstance(known.get("sha256"), str)
        )
        self._used[name] = known if fresh else {"stamp": stamp, "sha256": sha256_file(path)}
        return str(self._used[name]["sha256"])

    def save(self) -> None:
        """Write the stamps and hashes of the files asked for since the start."""
        if self._used != self._known:
            write_json(self._file, self._used)


def _stamp(path: Path) -> list[int]:
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def run(params: Any, inputs: Paths, outputs: Paths) -> Facts:  # noqa: ARG001
    """Write `fingerprints.json`: key, path as given, size in bytes and SHA-256 of every outside file."""
    cache = HashCache(CACHE)
    named = [(key, path.as_posix(), path) for key, path in named_paths(params)]
    rows = [
        {"key": key, "path": shown, "size": path.stat().st_size, "sha256": cache.sha256(path)}
        for key, shown, path in [*named, *hub_files(params)]
    ]
    # Apart from the rest: another example must not train the base anew, which reads `out/sources`.
    for out, wanted in (("sources", False), ("supervised", True)):
        own = [row for row in rows if str(row["key"]).startswith(SUPERVISED) == wanted]
        write_json(outputs[out] / "fingerprints.json", {"files": own})
    cache.save()
    return Facts()


def locate(params: Params, cell: str | None) -> tuple[dict[str, Path], dict[str, Path]]:  # noqa: ARG001
    """No input; the outs are `out/sources` and, for the files of `adapt.data`, `out/sources_supervised`."""
    return {}, {"sources": Path("out/sources"), "supervised": Path("out/sources_supervised")}


STAGE = Stage(
    "sources",
    run,
    reads=("corpus", "adapt.data", "base", "distill", "evaluate", "judge"),
    locate=locate,
    torch=False,
)

if __name__ == "__main__":
    sys.exit(main(STAGE))
