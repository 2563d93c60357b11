"""Which units stay by the scores of gates, and what gates cannot cut, said before anything is trained."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from stages.adapt.shrink.budget import KEY, Choice, Multiples, Settings, choose
from stages.adapt.shrink.units import FFN, GROUPS, PARTS, Scores, Units, family_of
from stages.common.errors import UserError

if TYPE_CHECKING:
    from stages.common.params.adaptation import AdaptBlock

# The layers whose input columns are units, and of which part.
OWNERS = {"down_proj": FFN, "o_proj": GROUPS}
# Layers where closed rows or columns close the whole unit. Queries and keys are not among them: without
# them a head looks everywhere alike, but still gives something.
CLOSING = {**OWNERS, "up_proj": FFN, "gate_proj": FFN, "v_proj": GROUPS}


@dataclass(frozen=True)
class Wanted:
    """What `choose` reads, for gates outside the stage."""

    share: float
    mode: str
    multiples: Multiples
    layers: int


def block_units(config: Any, block: AdaptBlock) -> Units:
    """The units of the model that `config` describes which the gates of `block` can remove.

    Raises `UserError` for a family without slicing rules, layers whose gates close no unit, whole layers that
    the gates do not close, and a budget that cannot be met.
    """
    settings: Any = block.shrink
    family_of(config)
    names = (block.target_modules or ()) if settings.mode == "faithful" else OWNERS
    parts = frozenset(CLOSING[name] for name in names if name in CLOSING)
    check_closing(parts, names)
    check_layers(settings.layers, set(OWNERS) - set(names))
    units = Units.of(config, parts)
    choose(units, equal(units), settings)
    return units


def check_closing(parts: Collection[str], names: Collection[str]) -> None:
    """Raise `UserError` when gates on the layers `names` remove no `parts`."""
    if not parts:
        raise UserError(
            f"FineGates: gates on {', '.join(sorted(names))} close no unit; target v_proj or o_proj for KV "
            "groups, or gate_proj, up_proj or down_proj for FFN neurons"
        )


def check_layers(layers: int, ungated: Collection[str]) -> None:
    """Raise `UserError` when `layers` should go whole by gates that are not there."""
    if layers and ungated:
        raise UserError(
            f"{KEY}.layers: a whole layer goes by the gates on {' and '.join(OWNERS)}; target "
            f"{', '.join(sorted(ungated))} too, or set layers to 0"
        )


def equal(units: Units) -> Scores:
    """Scores that prefer no unit."""
    return Scores(*(tuple(torch.zeros(layer.count(part)) for layer in units.layers) for part in PARTS))


def pick(units: Units, scores: Scores, settings: Settings) -> Choice:
    """What stays; in mode `uniform`, of the numbers of KV groups that neurons can complete to the budget the
    one nearest to what the gates keep on average, and where there is none what `choose` takes.

    Raises `UserError` as `choose` does.
    """
    if settings.mode != "uniform":
        return choose(units, scores, settings)
    wanted = Wanted(settings.share, "global", settings.multiples, settings.layers)
    free = choose(units, scores, wanted).kept
    mean = sum(len(free.groups[at]) for at in free.layers) / len(free.layers)
    allowed = units.uniform_groups or range(1, min(layer.groups for layer in units.layers) + 1)
    for number in sorted(allowed, key=lambda number: (abs(number - mean), number)):
        try:
            found = choose(replace(units, uniform_groups=frozenset({number})), scores, settings)
        except UserError:
            continue
        # Equal widths leave half a neuron of every layer at most.
        step = sum(units.layers[at].ffn_cost for at in found.kept.layers)
        if abs(found.before_rounding - settings.share) * units.gateable <= step / 2:
            return found
    return choose(units, scores, settings)
