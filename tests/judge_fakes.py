"""Pairs for the tests of judges, and a judge whose opinion is planted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from evals.judge.protocol import Identity
from evals.judge.verdicts import Grade, Missing, Pair, Single, Verdict

# The verdict on a pair, or the grade of an answer; None where the judge gives none.
Opinion = Callable[[Pair], tuple[float, float] | None]


def make_pairs(count: int) -> list[Pair]:
    """Pairs that are all different, two a cluster; the first answer is right."""
    return [
        Pair(f"p{i}", f"c{i // 2}", f"Сколько будет {i} + 1?", f"Будет {i + 1}.", f"Думаю, {i}")
        for i in range(count)
    ]


@dataclass(frozen=True)
class Planted:
    """A judge that holds an opinion: (p_first, p_second) of a pair; grades are the length of the answer."""

    name: str
    opinion: Opinion = lambda _: (1.0, 1.0)
    scale: tuple[int, ...] = (1, 2, 3, 4, 5)

    @property
    def identity(self) -> Identity:
        return Identity(self.name, "local", self.name, (), "rubric")

    def pairs(self, items: Sequence[Pair]) -> list[Verdict | Missing]:
        found = []
        for item in items:
            p = self.opinion(item)
            missing = Missing(item.id, item.cluster, "unparsable", "planted")
            found.append(missing if p is None else Verdict(item.id, item.cluster, *p))
        return found

    def grades(self, items: Sequence[Single]) -> list[Grade | Missing]:
        values = [min(max(self.scale), len(item.answer)) for item in items]
        return [
            Grade(
                item.id,
                item.cluster,
                float(value),
                tuple((grade, float(grade == value)) for grade in self.scale),
            )
            for item, value in zip(items, values, strict=True)
        ]
