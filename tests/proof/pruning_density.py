"""Parts of the claim `pruning`: FineGates and recovery over the density, and widths together with HIGGS."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

from tests.proof import cutting
from tests.proof.common import interval
from tests.proof.cutting import Cut, World
from tests.proof.pruning_tables import BITS, BOTH, METRICS, WIDTH

SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
SEEDS = (1, 2, 3)
KEPT = (0.99, 0.97, 0.95)  # of a task score
BLOCK = 16  # HIGGS pads inputs to it, so these widths are multiples of it
DENSE = "bf16"
RECIPES = (DENSE, "int8", *(f"higgs-{grid}" for grid in ("p2n1024", "p2n256", "p2n88", "p2n64", "p2n16")))


@dataclass(frozen=True)
class Recovered:
    """The models of this part: what cuts, at which rate, and the distillation after it."""

    pool: Executor
    world: World
    method: str
    uncut: str
    rates: dict[str, float]
    tokens: int
    rate: float

    def cut(self, share: float, seed: int) -> Cut:
        """At share 0 the uncut model that is trained alike."""
        if not share:
            return Cut(self.uncut, seed, self.rates[self.uncut])
        return Cut(self.method, seed, self.rates[self.method], share, BLOCK)

    def make(self, jobs: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]]) -> dict[str, Any]:
        """Pieces by name."""
        return cutting.make_all(self.pool, self.world, jobs)


def density(made: Recovered, parent: dict[str, Any], uncut: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """Every share, and the narrowest models that keep so much of the task score of the parent and of the
    uncut model trained alike: by the mean over the seeds, and with the whole interval.
    """
    points = [(share, seed) for share in SHARES for seed in SEEDS]
    cuts = {point: made.cut(*point) for point in points}
    runs = made.make({f"cut-{cut.name}": (cutting.adapted, (cut,)) for cut in cuts.values()})
    back = made.make(
        {
            f"density-{share:g}-{seed}": (cutting.recovered, (cut.name, seed, made.tokens, made.rate))
            for (share, seed), cut in cuts.items()
        }
    )
    curve = []
    for share in SHARES:
        rows = [back[f"density-{share:g}-{seed}"] for seed in SEEDS]
        removed = [runs[f"cut-{cuts[share, seed].name}"]["removed"]["after_rounding"] for seed in SEEDS]
        curve.append(
            {
                "share": share,
                "after_rounding": math.fsum(removed) / len(removed),
                **{key: interval([row[key] for row in rows]) for key in METRICS},
                "of_parent": interval([row["tasks_ru"] / parent["tasks_ru"] for row in rows]),
                "of_uncut": interval(
                    [row["tasks_ru"] / uncut[seed]["tasks_ru"] for seed, row in zip(SEEDS, rows, strict=True)]
                ),
            }
        )
    return {
        "seeds": list(SEEDS),
        "curve": curve,
        "uncut": {key: interval([uncut[seed][key] for seed in SEEDS]) for key in METRICS},
        "keeps": {
            whole: {
                f"{kept:g}": {end: _keeps(curve, whole, end, kept) for end in ("mean", "low")}
                for kept in KEPT
            }
            for whole in ("of_parent", "of_uncut")
        },
    }


def _keeps(curve: list[dict[str, Any]], whole: str, end: str, kept: float) -> float | None:
    """The largest share removed up to which every model keeps so much; None when none does."""
    largest = None
    for point in curve:
        if point[whole][end] < kept:
            break
        largest = point["after_rounding"]
    return largest


def packed(made: Recovered) -> dict[str, Any]:
    """Every width under every recipe, and the best of each kind within the same bytes."""
    points = [(share, recipe) for share in (0.0, *SHARES) for recipe in RECIPES]
    rows = made.make(
        {
            f"packed-{share:g}-{recipe}-{seed}": (
                cutting.packed,
                (cutting.recovered_name(made.cut(share, seed).name, seed, made.rate), recipe),
            )
            for share, recipe in points
            for seed in SEEDS
        }
    )
    found = []
    for share, recipe in points:
        same = [rows[f"packed-{share:g}-{recipe}-{seed}"] for seed in SEEDS]
        found.append(
            {
                "share": share,
                "recipe": recipe,
                "bytes": max(row["bytes"] for row in same),
                **{key: interval([row[key] for row in same]) for key in METRICS},
            }
        )
    return {"points": found, "best_within": best_within(found)}


def _kind(point: dict[str, Any]) -> str | None:
    if not point["share"]:
        return None if point["recipe"] == DENSE else BITS
    return WIDTH if point["recipe"] == DENSE else BOTH


def best_within(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For the bytes of every model that is cut or packed: the fewest Russian bits of each kind, and how far
    the best one is ahead of the next, seed by seed. No lead where nothing else is as small.
    """
    found = []
    for size in sorted({point["bytes"] for point in points if _kind(point)}):
        best: dict[str, Any] = {}
        for point in points:
            kind = _kind(point)
            if kind and point["bytes"] <= size and _bits(point) < _bits(best.get(kind)):
                best[kind] = point
        first, *rest = sorted(best, key=lambda kind: _bits(best[kind]))
        lead = (
            interval(
                [
                    one - other
                    for one, other in zip(
                        best[rest[0]]["bpc_ru"]["values"], best[first]["bpc_ru"]["values"], strict=True
                    )
                ]
            )
            if rest
            else None
        )
        told = {
            kind: {**{key: point[key] for key in ("share", "recipe", "bytes")}, "bpc_ru": _bits(point)}
            for kind, point in best.items()
        }
        found.append({"bytes": size, "best": told, "first": first, "lead": lead})
    return found


def _bits(point: dict[str, Any] | None) -> float:
    return math.inf if point is None else float(point["bpc_ru"]["mean"])
