"""What the gates of one adapter obey: the exact budget of modes `global` and `uniform`, the penalty of
`faithful`.

Shapes: U gates of all layers together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from stages.adapt.finegates import faithful
from stages.adapt.finegates.config import FineGatesConfig
from stages.adapt.finegates.gates import draw, noise, ranked
from stages.adapt.finegates.layer import GateLayer
from stages.adapt.finegates.picking import (
    CLOSING,
    OWNERS,
    Wanted,
    check_closing,
    check_layers,
    pick,
)
from stages.adapt.shrink.budget import Choice, Multiples
from stages.adapt.shrink.units import FFN, GROUPS, PARTS, Kept, Scores, Units
from stages.common.errors import UserError

# Free gates of mode `faithful` that act on a unit: the part, and whether they sit on columns or on rows.
TIED = {
    "up_proj": (FFN, "row"),
    "gate_proj": (FFN, "row"),
    "down_proj": (FFN, "column"),
    "q_proj": (GROUPS, "row"),
    "k_proj": (GROUPS, "row"),
    "v_proj": (GROUPS, "row"),
    "o_proj": (GROUPS, "column"),
}


@dataclass(frozen=True)
class _Budget:
    """Gates `first` to `last` (exclusive) under one threshold; `removed` of their parameters go."""

    first: int
    last: int
    removed: float


class Objective:
    """The gates of `adapter`, in the model's order of layers."""

    def __init__(
        self, layers: Sequence[GateLayer], adapter: str, config: FineGatesConfig, units: Units | None
    ) -> None:
        self.layers, self.adapter, self.config, self.units = list(layers), adapter, config, units
        self.picked = False
        self.settled: Choice | None = None
        if config.mode == "faithful":
            self.sizes = [size for layer in layers for size in (layer.in_features, layer.out_features)]
            return
        self.sizes = [layer.units for layer in layers]
        self.cost_U = torch.tensor(
            [cost for layer in layers for cost in [self._cost(layer)] * layer.units], dtype=torch.float64
        )
        self.budgets = self._budgets()

    @property
    def trained(self) -> bool:
        """Whether the gates take a gradient."""
        return any(value.requires_grad for layer in self.layers for value in layer.gates(self.adapter))

    @property
    def gateable(self) -> int:
        """Parameters that the gates could remove together."""
        return int(self.cost_U.sum())

    @torch.no_grad()
    def begin(self, scores: Scores) -> None:
        """Let the gates begin in the order of `scores`: mu from 1 for the least to 1 + spread, still open."""
        found = [scores.of(part)[at] for at, part in (layer.located for layer in self.layers)]
        score_U = torch.cat([values.double().cpu() for values in found])
        mu_U = torch.ones_like(score_U)
        for budget in self.budgets:
            own = slice(budget.first, budget.last)
            mu_U[own] += self.config.spread * ranked(score_U[own], self.cost_U[own].cpu())
        for layer, values in zip(self.layers, mu_U.float().split(self.sizes), strict=True):
            layer.gates(self.adapter)[0].copy_(values)

    def settles(self, step: int, steps: int) -> bool:
        """Whether the units are picked by `step` of `steps`."""
        beside = self.config.r and self.config.mode != "faithful"
        return step >= (round(self.config.settle * steps) if beside else steps)

    def draw(self, step: int, steps: int) -> None:
        """Give every layer its training gates of `step` (from 0) of `steps`; none once units are picked."""
        if self.picked:
            return
        eps_U = noise(sum(self.sizes), self.config.seed, step)
        device = self.layers[0].weight.device
        # Even under autocast the gates are in fp32.
        with torch.autocast(device.type, enabled=False):
            if self.config.mode == "faithful":
                self._draw_faithful(eps_U.to(device).split(self.sizes))
            else:
                grown = min(1.0, step / steps / self.config.ramp)
                self._draw_units(eps_U.to(device), grown)

    def _draw_faithful(self, eps: Sequence[Tensor]) -> None:
        for at, layer in enumerate(self.layers):
            column, row = layer.gates(self.adapter)
            layer.hold(
                self.adapter, faithful.drawn(column, eps[2 * at]), faithful.drawn(row, eps[2 * at + 1])
            )

    def _draw_units(self, eps_U: Tensor, grown: float) -> None:
        mu_U = torch.cat([layer.gates(self.adapter)[0].float() for layer in self.layers])
        self.cost_U = self.cost_U.to(mu_U.device)
        drawn = [
            draw(
                mu_U[budget.first : budget.last],
                self.cost_U[budget.first : budget.last],
                self.config.sigma,
                grown * budget.removed,
                eps_U[budget.first : budget.last],
            )
            for budget in self.budgets
        ]
        for layer, z_U in zip(self.layers, torch.cat(drawn).split(self.sizes), strict=True):
            layer.hold(self.adapter, layer.expand(z_U))

    def penalty(self) -> Tensor | None:
        """The penalty of mode `faithful`, a scalar; None in the others."""
        if self.config.mode != "faithful":
            return None
        device = self.layers[0].weight.device
        with torch.autocast(device.type, enabled=False):
            pairs = [layer.gates(self.adapter) for layer in self.layers]
            return faithful.penalty([(row, column) for column, row in pairs], self.config.share)

    def _cost(self, layer: GateLayer) -> int:
        at, part = layer.located
        return self._known.layers[at].cost(part)

    @property
    def _known(self) -> Units:
        if self.units is None:
            raise UserError("FineGates: the model's family has no slicing rules, so no units can be picked")
        return self.units

    def removable(self) -> Units:
        """The model's units, of the parts that the gates can close. Raises `UserError` for none."""
        parts = frozenset(part for _, part in self._closable())
        check_closing(parts, {layer.name for layer in self.layers})
        return replace(self._known, parts=parts)

    def choose(self, multiples: Multiples, layers: int = 0, share: float | None = None) -> Choice:
        """Pick what stays by the gates' scores; `share` in the place of the configuration's.

        Raises `UserError` for a budget that cannot be met and whole `layers` that the gates do not close.
        """
        gated = {(layer.at, layer.name) for layer in self.layers}
        every = range(len(self._known.layers))
        check_layers(layers, {name for name in OWNERS if any((at, name) not in gated for at in every)})
        wanted = Wanted(self.config.share if share is None else share, self.config.mode, multiples, layers)
        return pick(self.removable(), self.scores(), wanted)

    def _closable(self) -> set[tuple[int, str]]:
        """Decoder layers and parts whose units the gates can close."""
        if self.config.mode != "faithful":
            return {layer.located for layer in self.layers}
        return {
            (layer.at, CLOSING[layer.name])
            for layer in self.layers
            if layer.at is not None and layer.name in CLOSING
        }

    def _budgets(self) -> list[_Budget]:
        if self.config.mode == "global":
            return [_Budget(0, len(self.cost_U), self.config.share * self.gateable)]
        # One per decoder layer, over both parts: how a layer's budget is split is the gates' to find.
        sizes: dict[int, int] = {}
        for layer in self.layers:
            sizes[layer.located[0]] = sizes.get(layer.located[0], 0) + layer.units
        ends = list(accumulate(sizes.values(), initial=0))
        return [
            _Budget(first, last, self.config.share * float(self.cost_U[first:last].sum()))
            for first, last in pairwise(ends)
        ]

    def scores(self) -> Scores:
        """mu of every unit, float64 on the CPU; of units without a gate the greatest of all, so that they
        stay.

        In mode `faithful` the score of a unit is the mean of tanh(logit) over the gates that are tied in it.
        """
        found = self._tied() if self.config.mode == "faithful" else self._own()
        best = max((float(value.max()) for value in found.values()), default=0.0) + 1
        return Scores(
            *(
                tuple(
                    found.get((at, part), torch.full((layer.count(part),), best, dtype=torch.float64))
                    for at, layer in enumerate(self._known.layers)
                )
                for part in PARTS
            )
        )

    def _own(self) -> dict[tuple[int, str], Tensor]:
        return {layer.located: layer.gates(self.adapter)[0].detach().double().cpu() for layer in self.layers}

    def _tied(self) -> dict[tuple[int, str], Tensor]:
        found: dict[tuple[int, str], list[Tensor]] = {}
        for layer, place, kind in self._ties():
            count = self._known.layers[place[0]].count(place[1])
            logits = dict(zip(("column", "row"), layer.gates(self.adapter), strict=True))[kind]
            mu_UW = torch.tanh(logits.detach().double().cpu()).reshape(count, -1)
            found.setdefault(place, []).append(mu_UW.mean(dim=1))
        return {place: torch.stack(values).mean(dim=0) for place, values in found.items()}

    def _ties(self) -> Iterator[tuple[GateLayer, tuple[int, str], str]]:
        """Layer, place and kind of every gate vector of mode `faithful` that is tied in units."""
        closable = self._closable()
        for layer in self.layers:
            if layer.at is not None and layer.name in TIED:
                part, kind = TIED[layer.name]
                if (layer.at, part) in closable:
                    yield layer, (layer.at, part), kind

    def show(self, kept: Kept) -> None:
        """From now on the units in `kept` are open and the others closed, whatever the parameters are, which
        stay as they are.
        """
        self.picked = True
        for layer, gates in self._closed(kept):
            layer.fix(self.adapter, gates)

    def settle(self, kept: Kept) -> None:
        """Open the gates of the units in `kept` for good and close the others; all free gates open.

        They learn no more.
        """
        self.picked = True
        for layer, gates in self._closed(kept):
            layer.fix(self.adapter, None)
            for parameter, open_U in zip(layer.gates(self.adapter), gates, strict=True):
                signs_U = 2 * open_U - 1
                faithful_U = faithful.SATURATED * signs_U
                parameter.data.copy_(faithful_U if self.config.mode == "faithful" else open_U)
                parameter.requires_grad_(False).grad = None

    def _closed(self, kept: Kept) -> Iterator[tuple[GateLayer, tuple[Tensor, ...]]]:
        """Every layer with a 1 or a 0 for each number of its gate parameters."""
        if self.config.mode != "faithful":
            for layer in self.layers:
                at, part = layer.located
                yield layer, (_indicator(kept.of(part)[at], layer.units),)
            return
        tied = {layer: (place, kind) for layer, place, kind in self._ties()}
        for layer in self.layers:
            gates = {"column": torch.ones(layer.in_features), "row": torch.ones(layer.out_features)}
            if layer in tied:
                (at, part), kind = tied[layer]
                open_U = _indicator(kept.of(part)[at], self._known.layers[at].count(part))
                gates[kind] = open_U.repeat_interleave(len(gates[kind]) // len(open_U))
                if layer.name in OWNERS and at not in kept.layers:
                    gates["row"].zero_()
            yield layer, (gates["column"], gates["row"])


def _indicator(kept: Sequence[int], count: int) -> Tensor:
    open_U = torch.zeros(count)
    open_U[list(kept)] = 1
    return open_U
