"""Who descends from whom: a judge may not decide between its own kin and a stranger."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

Families = Mapping[str, Iterable[str]]


@dataclass(frozen=True)
class Origin:
    """What a model is and descends from, as comparable marks; `known` is false when nobody has said.

    A mark is `digest:...`, `hub:owner/name`, `family:...` or `bootstrap`. A model trained from scratch has
    none but itself.
    """

    name: str
    marks: frozenset[str]
    known: bool = True

    def kin(self, other: Origin) -> bool:
        """Whether the two are one model, or descend from one."""
        return bool(self.marks & other.marks)


def origin(
    name: str, lineage: Mapping[str, Any], digest: str | None = None, families: Families | None = None
) -> Origin:
    """The origin of a model with this `lineage` of its manifest and this digest of its weights.

    `lineage["base"]`: {source: bootstrap | scratch | hub | local, id, digest}; `lineage["student"]`, a folder
    or hub id, is a second base. `families`: name -> patterns of hub ids (`qwen: [Qwen/*, t-tech/T-lite*]`)
    that descend from one base although their names differ.
    """
    base = lineage.get("base")
    marks = {f"digest:{digest}"} if digest else set()
    if not isinstance(base, Mapping) or not base.get("source"):
        return Origin(name, frozenset(marks), known=False)
    if base["source"] == "bootstrap":
        marks.add("bootstrap")
    if base.get("digest"):
        marks.add(f"digest:{base['digest']}")
    for hub in (base.get("id"), lineage.get("student")):
        if isinstance(hub, str) and hub.count("/") == 1:
            marks |= hub_marks(hub, families or {})
    return Origin(name, frozenset(marks))


def declared(name: str, bases: Iterable[str], families: Families | None = None) -> Origin:
    """The origin of a judge without a manifest (an endpoint), from the hub ids that params.yaml names."""
    marks = {mark for base in bases for mark in hub_marks(base, families or {})}
    return Origin(name, frozenset(marks), known=bool(marks))


def hub_marks(hub: str, families: Families) -> set[str]:
    """The marks of a hub id, in lower case, and of the families whose patterns it meets."""
    name = hub.lower()
    found = {
        f"family:{family}"
        for family, patterns in families.items()
        if any(fnmatchcase(name, pattern.lower()) for pattern in patterns)
    }
    return {f"hub:{name}"} | found


def refusal(judge: Origin, ours: Origin, theirs: Origin) -> str | None:
    """Why `judge` may not compare the two, in words; None when it may.

    It is refused when exactly one side is its kin, and when an origin that decides this is not known.
    """
    sides = (ours, theirs)
    kin = [judge.kin(side) for side in sides]
    if all(kin):
        return None
    if unknown := [told.name for told in (judge, *sides) if not told.known]:
        return f"nobody says what {unknown[0]} descends from, so judge {judge.name} may not vote; declare it"
    if not any(kin):
        return None
    own, other = (ours, theirs) if kin[0] else (theirs, ours)
    shared = ", ".join(sorted(judge.marks & own.marks))
    return f"judge {judge.name} and {own.name} descend from one base ({shared}), {other.name} does not"
