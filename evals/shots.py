"""Which solved records stand before an item.

Without a `train` split the first answered records are the shots and are not scored. Two ways to draw: `first`
shows the same first records before every item, so that no other item moves a result; `mera` repeats MERA's
own draw, one seeded stream over the items in their order (its fork of the harness, seed 1234).
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from evals.errors import EvalError
from evals.records import Record

Draw = Literal["first", "mera"]
SEED = 1234


@dataclass(frozen=True)
class Rule:
    """How a task takes its shots: `count` before each item; all with the item's value of the meta field
    `alike`; from its own test split where `own_test`; drawn as `draw`.
    """

    count: int
    alike: str | None = None
    own_test: bool = False
    draw: Draw = "first"


@dataclass(frozen=True)
class Shown:
    """`scored`: the items. `fixed`: what stands before all of them, or `by_item`: before each, by its id."""

    scored: tuple[Record, ...]
    fixed: tuple[Record, ...] = ()
    by_item: Mapping[str, tuple[Record, ...]] | None = None

    @property
    def shots(self) -> list[Record]:
        """Every record that is shown, once for each item it stands before."""
        return [*self.fixed, *(shot for found in (self.by_item or {}).values() for shot in found)]


def choose(records: Sequence[Record], train: Sequence[Record] | None, rule: Rule, where: str) -> Shown:
    """Items and shots out of the records of a test split and, where there is one, of a train split. A shot
    has an answer; an item need not.

    Raises `EvalError`, naming `where`, when there are fewer shots than the rule asks for.
    """
    if not rule.count:
        return Shown(tuple(records))
    if rule.own_test:
        return Shown(tuple(records), by_item=_from_own_test(records, rule, where))
    if train is None:
        records, pool = _set_aside(records, rule)
    else:
        pool = [record for record in train if record.outputs]
    if rule.alike is None and rule.draw == "first":
        _enough(pool, rule, where, "")
        return Shown(tuple(records), fixed=tuple(pool[: rule.count]))
    return Shown(tuple(records), by_item=_from_train(records, pool, rule, where))


def _set_aside(records: Sequence[Record], rule: Rule) -> tuple[list[Record], list[Record]]:
    """(items, shots): the first `count` answered records of each kind are shots."""
    taken: dict[str, int] = {}
    items: list[Record] = []
    shots: list[Record] = []
    for record in records:
        kind = _kind(record, rule)
        if record.outputs:
            taken[kind] = taken.get(kind, 0) + 1
        (shots if record.outputs and taken[kind] <= rule.count else items).append(record)
    return items, shots


def _from_train(
    items: Sequence[Record], train: Sequence[Record], rule: Rule, where: str
) -> dict[str, tuple[Record, ...]]:
    pools: dict[str, list[Record]] = {}
    for record in train:
        pools.setdefault(_kind(record, rule), []).append(record)
    stream, shown = random.Random(SEED), {}
    for item in items:
        kind = _kind(item, rule)
        pool = pools.get(kind, [])
        _enough(pool, rule, where, f" with meta.{rule.alike} `{kind}`" if rule.alike else "")
        drawn = pool[: rule.count] if rule.draw == "first" else stream.sample(pool, rule.count)
        shown[item.id] = tuple(drawn)
    return shown


def _from_own_test(items: Sequence[Record], rule: Rule, where: str) -> dict[str, tuple[Record, ...]]:
    """MERA does not draw again for an item that drew itself: it has no shot then, and no instruction."""
    answered = [record for record in items if record.outputs]
    _enough(answered, rule, where, "", spare=1)
    stream, shown = random.Random(SEED), {}
    for item in items:
        if rule.draw == "mera":
            drawn = stream.sample(answered, rule.count)
            shown[item.id] = tuple(record for record in drawn if record.id != item.id)
        else:
            others = (record for record in answered if record.id != item.id)
            shown[item.id] = tuple(record for record, _ in zip(others, range(rule.count), strict=False))
    return shown


def _kind(record: Record, rule: Rule) -> str:
    return "" if rule.alike is None else str(record.meta.get(rule.alike))


def _enough(pool: Sequence[Record], rule: Rule, where: str, kind: str, spare: int = 0) -> None:
    if len(pool) < rule.count + spare:
        raise EvalError(
            f"{where}: {len(pool)} answered records{kind}, but `evaluate.shots` asks for {rule.count}"
        )
