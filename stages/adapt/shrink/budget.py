"""Which units stay: exactly a share of the gateable parameters goes, then widths are rounded up.

Within a layer the units of one part cost the same and the best ones stay, so a selection is a number of units
per layer and part; the indices follow from the scores.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch

from stages.adapt.shrink.units import FFN, GROUPS, PARTS, Kept, Scores, Units
from stages.common.errors import UserError
from stages.common.params.adaptation import MOST

KEY = "params.yaml: adapt.shrink"

# Units per part, then per layer; 0 in a layer that is cut whole.
Counts = dict[str, list[int]]


class Multiples(Protocol):
    """Widths are multiples of these, or full."""

    @property
    def ffn(self) -> int: ...
    @property
    def groups(self) -> int: ...


class Settings(Protocol):
    """The block `adapt.shrink`, as far as it matters here."""

    @property
    def share(self) -> float: ...
    @property
    def mode(self) -> str: ...
    @property
    def multiples(self) -> Multiples: ...
    @property
    def layers(self) -> int: ...


@dataclass(frozen=True)
class Choice:
    """What stays, and the shares of the gateable parameters: asked, and removed before and after rounding."""

    kept: Kept
    before_rounding: float
    after_rounding: float
    asked: float


def choose(units: Units, scores: Scores, settings: Settings) -> Choice:
    """Remove `settings.share` of the gateable parameters, those of the lowest scores.

    First the `layers` whole layers of the least summed score go, never the first or the last one. Then, in
    mode `uniform`, every layer keeps the same number of neurons and of KV groups (about the same share of
    both), its best ones; in other modes the units of the whole model are removed in the order of their
    scores. A unit that would overshoot the budget by more than half the smallest unit is passed over, so the
    removed share misses the asked one by half a unit at most (`uniform`: by half a unit of every layer). No
    layer loses its last multiple of neurons or of groups. At last widths are rounded up by re-opening the
    best closed units.

    Raises `UserError` for a share out of range or one that would empty a layer, too many whole layers, and
    scores that are NaN or infinite.
    """
    _check(units, scores, settings)
    gateable = units.gateable
    budget = settings.share * gateable
    layers = _layers(units, scores, settings, budget)
    counts = {
        part: [layer.count(part) if at in layers else 0 for at, layer in enumerate(units.layers)]
        for part in PARTS
    }
    floors = _floors(units, layers, settings)
    _check_floor(units, counts, floors, settings, budget)
    if settings.mode == "uniform":
        _uniform(units, counts, floors, layers, settings, budget)
    else:
        _global(units, scores, counts, floors, budget)
    before = _removed(units, counts) / gateable
    _round_up(units, counts, layers, settings)
    return Choice(_best(scores, counts, layers), before, _removed(units, counts) / gateable, settings.share)


def _check(units: Units, scores: Scores, settings: Settings) -> None:
    if not 0 <= settings.share <= MOST:
        raise UserError(f"{KEY}.share: {settings.share:g}, must be within 0 and {MOST:g}")
    for part in PARTS:
        found = [tuple(values.shape) for values in scores.of(part)]
        if found != [(layer.count(part),) for layer in units.layers]:
            raise ValueError(f"scores of {part}: shapes {found} are not those of the units")
        for at, values in enumerate(scores.of(part)):
            if part in units.parts and not bool(torch.isfinite(values).all()):
                raise UserError(
                    f"scores of {part} of layer {at}: NaN or infinite; the training or the calibration that "
                    "gave them has failed"
                )


def _layers(units: Units, scores: Scores, settings: Settings, budget: float) -> tuple[int, ...]:
    """The layers that stay. The ends of a decoder carry what the middle does not (2403.03853, figure 2)."""
    inner = range(1, len(units.layers) - 1)
    if settings.layers > len(inner):
        raise UserError(
            f"{KEY}.layers: {settings.layers} of {len(units.layers)} layers; the first and the last one "
            f"stay, so at most {max(len(inner), 0)} can go"
        )
    worth = {at: sum(float(scores.of(part)[at].double().sum()) for part in units.parts) for at in inner}
    gone = sorted(inner, key=lambda at: (worth[at], at))[: settings.layers]
    freed = sum(
        units.layers[at].count(part) * units.layers[at].cost(part) for at in gone for part in units.parts
    )
    if gone and freed > budget + _smallest(units) / 2:
        raise UserError(
            f"{KEY}.layers: {settings.layers} whole layers are {freed / units.gateable:.3f} of the gateable "
            f"parameters, more than the share of {settings.share:g}; raise the share or remove fewer"
        )
    return tuple(at for at in range(len(units.layers)) if at not in gone)


def _smallest(units: Units) -> int:
    return min(layer.cost(part) for layer in units.layers for part in units.parts)


def _floors(units: Units, layers: tuple[int, ...], settings: Settings) -> Counts:
    """The fewest units that every layer keeps: one multiple, or all that there are."""
    least = {FFN: settings.multiples.ffn, GROUPS: settings.multiples.groups}
    if settings.mode == "uniform":
        least[GROUPS] = min(_group_numbers(units, layers, settings), default=least[GROUPS])
    return {
        part: [
            (min(least[part], layer.count(part)) if part in units.parts else layer.count(part))
            if at in layers
            else 0
            for at, layer in enumerate(units.layers)
        ]
        for part in PARTS
    }


def _group_numbers(units: Units, layers: tuple[int, ...], settings: Settings) -> list[int]:
    """Numbers of KV groups that `uniform` can give to every layer."""
    most = min(units.layers[at].groups for at in layers)
    step = settings.multiples.groups
    return [
        number
        for number in range(1, most + 1)
        if (number % step == 0 or number == most)
        and (units.uniform_groups is None or number in units.uniform_groups)
    ]


def _check_floor(units: Units, counts: Counts, floors: Counts, settings: Settings, budget: float) -> None:
    most = _removed(units, floors)
    if budget <= most + _smallest(units) / 2:
        return
    alive = [at for at, count in enumerate(counts[FFN]) if count]
    ffn, groups = (min(floors[part][at] for at in alive) for part in PARTS)
    raise UserError(
        f"{KEY}.share: {settings.share:g} would empty a layer; every layer keeps at least {ffn} FFN neurons "
        f"and {groups} KV groups, so at most {math.floor(1e4 * most / units.gateable) / 1e4:g} can go; lower "
        "the share or the multiples, or remove whole layers (adapt.shrink.layers)"
    )


def _removed(units: Units, counts: Counts) -> int:
    return sum(
        (layer.count(part) - counts[part][at]) * layer.cost(part)
        for at, layer in enumerate(units.layers)
        for part in units.parts
    )


def _global(units: Units, scores: Scores, counts: Counts, floors: Counts, budget: float) -> None:
    """Lower `counts` in the order of the scores until `budget` parameters are gone."""
    removed = _removed(units, counts)
    order = sorted(_candidates(units, scores, counts, floors))
    passed = []
    slack = _smallest(units) / 2
    for unit in order:
        cost = units.layers[unit[1]].cost(unit[2])
        if removed + cost <= budget + slack:
            removed += cost
            counts[unit[2]][unit[1]] -= 1
        else:
            passed.append(unit)
    for _, at, part in passed:
        # Only where no small unit is left to come nearer with.
        cost = units.layers[at].cost(part)
        if removed + cost / 2 < budget:
            removed += cost
            counts[part][at] -= 1


def _candidates(
    units: Units, scores: Scores, counts: Counts, floors: Counts
) -> Iterator[tuple[float, int, str]]:
    """Score, layer and part of every unit that may go: all but the best of each layer, up to the floor."""
    for part in sorted(units.parts):
        for at, values in enumerate(scores.of(part)):
            if counts[part][at]:
                spare = values.double().sort().values[: counts[part][at] - floors[part][at]]
                yield from ((score, at, part) for score in spare.tolist())


def _uniform(
    units: Units, counts: Counts, floors: Counts, layers: tuple[int, ...], settings: Settings, budget: float
) -> None:
    """Give every layer the numbers of neurons and of KV groups that come nearest to the budget; of equally
    near ones those that take the same share of both.
    """
    rest = budget - _removed(units, counts)
    numbers = _group_numbers(units, layers, settings) if GROUPS in units.parts else [0]
    if not numbers:
        raise UserError(
            f"{KEY}.mode: uniform finds no number of KV groups that `multiples.groups` and the stock class "
            "allow for every layer; use `global`"
        )
    found = []
    for groups in numbers:
        cut = {at: units.layers[at].groups - groups if groups else 0 for at in layers}
        freed = sum(number * units.layers[at].group_cost for at, number in cut.items())
        total = sum(units.layers[at].groups for at in layers)
        width, missed = _width(units, floors, layers, rest - freed)
        share = rest / sum(
            units.layers[at].count(part) * units.layers[at].cost(part)
            for at in layers
            for part in units.parts
        )
        found.append((missed, abs(sum(cut.values()) / total - share), -groups, width))
    _, _, groups, width = min(found)
    for at in layers:
        if GROUPS in units.parts:
            counts[GROUPS][at] = -groups
        if FFN in units.parts:
            counts[FFN][at] = width


def _width(units: Units, floors: Counts, layers: tuple[int, ...], rest: float) -> tuple[int, float]:
    """The number of neurons for every layer that frees `rest` parameters as nearly as can be, and by how much
    more than half a step it misses.
    """
    if FFN not in units.parts:
        return 0, abs(rest)
    step = sum(units.layers[at].ffn_cost for at in layers)
    whole = sum(units.layers[at].ffn * units.layers[at].ffn_cost for at in layers)
    most = min(units.layers[at].ffn for at in layers)
    width = min(max(round((whole - rest) / step), max(floors[FFN][at] for at in layers)), most)
    return width, max(abs(whole - width * step - rest) - step / 2, 0)


def _round_up(units: Units, counts: Counts, layers: tuple[int, ...], settings: Settings) -> None:
    """Raise `counts` to multiples; a width that the multiple does not divide may stay whole."""
    steps = {FFN: settings.multiples.ffn, GROUPS: settings.multiples.groups}
    for part in units.parts:
        for at in layers:
            full = units.layers[at].count(part)
            counts[part][at] = min(-(-counts[part][at] // steps[part]) * steps[part], full)


def _best(scores: Scores, counts: Counts, layers: tuple[int, ...]) -> Kept:
    """The indices of the best units, as many as `counts` says; of equal scores the first."""

    def indices(values: torch.Tensor, count: int) -> tuple[int, ...]:
        order = values.double().sort(descending=True, stable=True).indices
        return tuple(sorted(order[:count].tolist()))

    ffn, groups = (
        tuple(indices(values, counts[part][at]) for at, values in enumerate(scores.of(part)))
        for part in PARTS
    )
    return Kept(layers, ffn, groups)
