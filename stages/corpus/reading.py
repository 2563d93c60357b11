"""From `corpus.sources` to one stream of records, with an account of what could not be read."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.common.errors import UserError
from stages.common.outside import expand
from stages.corpus.files import Layout, read_file
from stages.corpus.record import Record, Unreadable

if TYPE_CHECKING:
    from stages.common.params.corpus import CorpusBlock, FilesSource, WorldSource
    from stages.corpus.world.model import World

WORLD_LICENCE = "Apache-2.0"
LISTED = 100


@dataclass
class Account:
    """What the readers met: records per file, how many were unreadable, and the first of those."""

    records: dict[str, int] = field(default_factory=dict)
    unreadable: list[Unreadable] = field(default_factory=list)
    unreadable_count: int = 0

    def note(self, broken: Unreadable) -> None:
        """Count an unreadable record and list it while the list is short."""
        self.unreadable_count += 1
        if len(self.unreadable) < LISTED:
            self.unreadable.append(broken)


def make_world(block: CorpusBlock) -> World | None:
    """The embedded world, when it is among the sources."""
    for source in block.sources:
        if source.type == "world":
            return _generate(source)
    return None


def _generate(source: WorldSource) -> World:
    from stages.corpus.world import generate

    return generate(source.seed, source.size, source.tasks_per_kind)


def read_records(block: CorpusBlock, world: Any, account: Account) -> Iterator[Record]:
    """Yield the records of all sources in the order declared.

    Raises `UserError` when a file cannot be read or has more broken records than `broken_lines_share` allows.
    """
    for number, source in enumerate(block.sources):
        if source.type == "world":
            account.records["world"] = len(world.documents)
            for document in world.documents:
                licence = WORLD_LICENCE
                yield Record(document.id, "world", document.subset, document.language, licence, document.text)
        else:
            for place, pattern in enumerate(source.paths):
                for path in expand(pattern, f"corpus.sources.{number}.paths.{place}"):
                    yield from _read_source_file(path, source, block.broken_lines_share, account)


def _read_source_file(
    path: Path, source: FilesSource, tolerated: float, account: Account
) -> Iterator[Record]:
    name = path.as_posix()
    if name in account.records:
        raise UserError(f"params.yaml: corpus.sources names {name} twice; remove one")
    total, broken = 0, []
    for number, text in read_file(path, Layout(source.text_field, source.template)):
        total += 1
        if isinstance(text, Unreadable):
            broken.append(text)
            account.note(text)
        else:
            yield Record(f"{name}:{number}", name, source.subset, source.language, source.licence, text)
    account.records[name] = total
    tolerate(name, total, broken, tolerated)


def tolerate(
    name: str, total: int, broken: list[Unreadable], tolerated: float, stage: str = "corpus"
) -> None:
    """Say which record of the file `name` is the first broken one, as `stage`.

    Raises `UserError` when their share of `total` is more than `tolerated`.
    """
    if not broken:
        return
    told = (
        f"{name}, line {broken[0].line}: {broken[0].reason}; {len(broken)} of {total} records are unreadable"
    )
    if len(broken) > tolerated * total:
        raise UserError(
            f"{told}, more than corpus.broken_lines_share = {tolerated} allows; mend or remove them"
        )
    sys.stderr.write(
        f"{stage}: {told}, which corpus.broken_lines_share = {tolerated} allows; summary.json lists them\n"
    )
