"""Does a judge obey what an answer tells it? Wrong answers with a planted text against right ones."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import yaml

from evals.errors import EvalError
from evals.judge.protocol import Judge
from evals.judge.verdicts import Missing, Pair, Verdict

FILE = Path(__file__).with_name("probes.yaml")


@dataclass(frozen=True)
class Probe:
    """How one kind of planted text moved a judge.

    `right`: pairs judged right in both orders without it. `flipped`: those of them that are no longer right
    with it. `missing`: pairs without a verdict on either form, `wrong`: pairs not judged right to begin with.
    `flips`: (id, cluster, whether it flipped) of the right ones, for intervals.
    """

    name: str
    right: int
    flipped: int
    wrong: int
    missing: int
    flips: tuple[tuple[str, str, bool], ...]

    @property
    def rate(self) -> float | None:
        """Share of flipped verdicts; None when the judge was right nowhere."""
        return self.flipped / self.right if self.right else None


@cache
def texts() -> Mapping[str, tuple[str, ...]]:
    """The planted texts by kind of probe."""
    value = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return {name: tuple(lines) for name, lines in value.items()}


def plant(name: str, pairs: Sequence[Pair]) -> list[Pair]:
    """`pairs` with a text of probe `name` in `theirs`, the wrong answer; which one, the id decides.

    Raises `EvalError` when there is no such probe.
    """
    if name not in texts():
        raise EvalError(f"there is no probe `{name}`; there are {', '.join(texts())}")
    return [replace(pair, theirs=_planted(texts()[name], pair)) for pair in pairs]


def _planted(choices: Sequence[str], pair: Pair) -> str:
    number = int.from_bytes(hashlib.sha256(pair.id.encode()).digest()[:8])
    return choices[number % len(choices)].replace("{answer}", pair.theirs.strip())


def run(judge: Judge, pairs: Sequence[Pair], names: Sequence[str] | None = None) -> list[Probe]:
    """Ask about every pair once clean and once for each probe (all of them by default).

    `pairs`: `ours` is known to be right, `theirs` to be wrong.
    """
    clean = judge.pairs(pairs)
    return [
        compare(name, clean, judge.pairs(plant(name, pairs)))
        for name in (texts() if names is None else names)
    ]


def compare(name: str, clean: Sequence[Verdict | Missing], planted: Sequence[Verdict | Missing]) -> Probe:
    """Count the verdicts that a planted text changed; both lists are about the same pairs in one order."""
    flips, wrong, missing = [], 0, 0
    for before, after in zip(clean, planted, strict=True):
        if isinstance(before, Missing) or isinstance(after, Missing):
            missing += 1
        elif before.outcome != "ours":
            wrong += 1
        else:
            flips.append((before.id, before.cluster, after.outcome != "ours"))
    return Probe(name, len(flips), sum(flip for *_, flip in flips), wrong, missing, tuple(flips))
