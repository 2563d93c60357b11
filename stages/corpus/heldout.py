"""The held-out split: whole works, chosen by hash, so that no part of a held-out novel is trained on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    """What the split needs to know of a kept document."""

    id: str
    work: str
    subset: str
    chars: int


def choose(sizes: Iterable[Size], share: float) -> set[str]:
    """Ids of the documents held out, about `share` of the characters of each subset.

    Works are taken in the order of a hash of their id while they fit into what is still wanted, so that the
    choice is deterministic and independent of the order of the files. When none fits, the shortest is taken,
    and a subset that is one single work gives its own last parts; a subset of one document gives nothing,
    because nothing would be left to train on.
    """
    subsets: dict[str, dict[str, list[Size]]] = {}
    for size in sizes:
        subsets.setdefault(size.subset, {}).setdefault(size.work, []).append(size)
    held: set[str] = set()
    for works in subsets.values():
        held |= _choose_works(works, share)
    return held


def _choose_works(works: dict[str, list[Size]], share: float) -> set[str]:
    lengths = {work: sum(part.chars for part in parts) for work, parts in works.items()}
    wanted = share * sum(lengths.values())
    if len(works) == 1:
        return _last_parts(next(iter(works.values())), wanted)
    taken, left = [], wanted
    for work in sorted(works, key=_order):
        if lengths[work] <= left:
            taken.append(work)
            left -= lengths[work]
    taken = taken or [min(works, key=lambda work: (lengths[work], _order(work)))]
    return {part.id for work in taken for part in works[work]}


def _last_parts(parts: list[Size], wanted: float) -> set[str]:
    held: set[str] = set()
    for part in reversed(parts[1:]):
        if held and wanted < part.chars:
            break
        held.add(part.id)
        wanted -= part.chars
    return held


def _order(work: str) -> bytes:
    return hashlib.sha256(work.encode()).digest()
