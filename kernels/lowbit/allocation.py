"""Dynamic bit allocation: which recipe each layer gets, for the least predicted loss within a budget.

By the linearity theorem (Malinovskii et al., arXiv 2411.17525, theorem 1) the loss of a quantised model
rises by about sum_l alpha_l t_l^2, where t_l^2 = |W_q - W|^2 / |W|^2 is the relative error of layer l and
alpha_l does not depend on the quantiser. With HIGGS t^2 is a constant of the grid, so the best choice is an
integer program (section 5 of the paper) and is solved exactly. `hybrid` chooses by the same alphas which
layers of a ternary model stay in int8.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from lowbit import grids, recipes
from lowbit.errors import LowbitError
from lowbit.uniform import LARGEST_CODE
from lowbit.weight import Shape

LOW, HIGH = "ternary", "int8"  # of a hybrid model
OPTIONS = ("bf16", "int8", *(f"higgs-{name}" for name in grids.NAMES))
# Above this relative error, 4^-2.5, the loss is no longer linear in it; the authors discard such grids.
LINEAR_LIMIT = 4**-2.5
SECONDS = 60.0  # after which the best plan found so far would be used; real models take under one


@dataclass(frozen=True)
class Choice:
    """What one layer gets: `bytes` stored (codes and scales), the relative error `t2` and the loss `alpha *
    t2` that are predicted for it.
    """

    recipe: str
    group_size: int | None
    bytes: int
    t2: float
    predicted: float

    @property
    def linear(self) -> bool:
        """Whether the prediction can be trusted."""
        return self.t2 <= LINEAR_LIMIT


@dataclass(frozen=True)
class Plan:
    """A recipe per layer. `bits_per_weight` counts the layers of the plan, `bytes` also `rest_bytes`;
    `predicted` is the sum of the layers' predicted losses.
    """

    layers: dict[str, Choice]
    bytes: int
    bits_per_weight: float
    predicted: float
    warnings: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, dict[str, Any]]:
        """`{layer: {"recipe", "group_size", "predicted"}}`, which `quantize_folder` takes."""
        return {
            name: {"recipe": choice.recipe, "group_size": choice.group_size, "predicted": choice.predicted}
            for name, choice in self.layers.items()
        }

    def having(self, recipe: str) -> list[str]:
        """The layers that get `recipe`."""
        return [name for name, choice in self.layers.items() if choice.recipe == recipe]

    def save(self, path: str | Path) -> None:
        """Write `to_json` to the file `path`."""
        Path(path).write_text(json.dumps(self.to_json(), indent=1) + "\n", encoding="utf-8")


def allocate(
    layers: Mapping[str, Shape],
    alphas: Mapping[str, float],
    budget: Mapping[str, float],
    *,
    options: Sequence[str] = OPTIONS,
    rest_bytes: int = 0,
) -> Plan:
    """The plan of least predicted loss within `budget`.

    `layers` maps names to (out, in), `alphas` to losses per unit of relative error (`lowbit.sensitivity`);
    a negative alpha, which noise can give, counts as 0. `budget` is `{"bits": x}`, stored bits per weight of
    these layers with scales and padding counted, or `{"bytes": n}` of the whole checkpoint, of which
    `rest_bytes` are taken by everything else (embeddings, norms). `options` are recipes as in a plan. Raises
    `LowbitError` for a layer without alpha, an unknown option, or a budget below the smallest plan.
    """
    choices = {name: _choices(name, tuple(shape), alphas, options) for name, shape in layers.items()}
    weights = sum(shape[0] * shape[1] for shape in layers.values())
    room = _room(budget, weights, rest_bytes)
    least = sum(min(choice.bytes for choice in found) for found in choices.values())
    if least > room:
        raise LowbitError(
            f"budget: {room} bytes for {len(layers)} layers, the smallest plan takes {least} "
            f"({8 * least / weights:.3f} bits a weight); raise the budget or add smaller options"
        )
    chosen = dict(zip(choices, _solve(list(choices.values()), room), strict=True))
    return _plan(chosen, weights, rest_bytes)


def hybrid(
    layers: Mapping[str, Shape],
    alphas: Mapping[str, float],
    *,
    share: float | None = None,
    budget: Mapping[str, float] | None = None,
    rest_bytes: int = 0,
) -> Plan:
    """Which layers of a ternary model stay in int8: those that lower the sum of alpha t^2 most.

    Give either `share`, the part of all weights of `layers` that may stay, from 0 to 1, or `budget` with
    `rest_bytes` as in `allocate`. `plan.having("int8")` is what `bitlinear.convert` keeps; the plan itself
    makes the hybrid without training. Its prediction ranks layers and is no forecast: ternary lies outside
    the linear regime, and training wins most of it back. Raises `LowbitError` as `allocate` does.
    """
    if (share is None) == (budget is None):
        raise LowbitError("hybrid: give either a share of the weights or a budget")
    if budget is not None:
        return allocate(layers, alphas, budget, options=(LOW, HIGH), rest_bytes=rest_bytes)
    if share is None or not 0 <= share <= 1:
        raise LowbitError(f"hybrid: share {share}; give the part of the weights to keep, from 0 to 1")
    choices = {name: _choices(name, tuple(shape), alphas, (LOW, HIGH)) for name, shape in layers.items()}
    sizes = {name: math.prod(shape) for name, shape in layers.items()}
    weights = sum(sizes.values())
    if weights == 0:
        raise LowbitError("hybrid: there is no layer to choose from")
    # The same program, in which what is kept costs its weights and what is ternary nothing.
    priced = [
        [replace(choice, bytes=sizes[name] if choice.recipe == HIGH else 0) for choice in found]
        for name, found in choices.items()
    ]
    room = math.floor(share * weights + 1e-6)
    picked = [choice.recipe for choice in _solve(priced, room)]
    chosen = {
        name: next(choice for choice in found if choice.recipe == recipe)
        for (name, found), recipe in zip(choices.items(), picked, strict=True)
    }
    return _plan(chosen, weights, rest_bytes)


def _plan(chosen: dict[str, Choice], weights: int, rest_bytes: int) -> Plan:
    stored = sum(choice.bytes for choice in chosen.values())
    bits = 8 * stored / weights
    predicted = sum(choice.predicted for choice in chosen.values())
    return Plan(chosen, stored + rest_bytes, bits, predicted, _warnings(chosen))


def _room(budget: Mapping[str, float], weights: int, rest_bytes: int) -> int:
    """Bytes that the layers may take."""
    if set(budget) not in ({"bits"}, {"bytes"}):
        raise LowbitError(f'budget: give {{"bits": x}} or {{"bytes": n}}, not {dict(budget)}')
    [(unit, amount)] = budget.items()
    if not (math.isfinite(amount) and amount > 0):
        raise LowbitError(f"budget: {unit} is {amount}; it must be positive")
    if weights == 0:
        raise LowbitError("budget: there is no layer to divide it among")
    # A rounding error of the product must not cost a byte.
    room = math.floor(amount * weights / 8 + 1e-6) if unit == "bits" else math.floor(amount) - rest_bytes
    return max(0, room)


def _choices(
    name: str, shape: tuple[int, ...], alphas: Mapping[str, float], options: Sequence[str]
) -> list[Choice]:
    """Every option of one layer but those that another one beats in both size and error."""
    alpha = alphas.get(name)
    if alpha is None or not math.isfinite(alpha):
        raise LowbitError(f"{name}: its alpha is {'missing' if alpha is None else alpha}; estimate it again")
    found = []
    for recipe in options:
        spec = recipes.spec_of(recipe, (shape[0], shape[1]), None, name)
        t2 = relative_error(recipe, shape[1])
        group = None if spec is None else spec.get("group_size")
        found.append(Choice(recipe, group, _bytes(spec, shape), t2, max(0.0, alpha) * t2))
    found.sort(key=lambda choice: (choice.bytes, choice.t2))
    kept: list[Choice] = []
    for choice in found:
        if not kept or choice.t2 < kept[-1].t2:
            kept.append(choice)
    return kept


def _bytes(spec: recipes.Spec | None, shape: tuple[int, ...]) -> int:
    if spec is None:
        return 2 * shape[0] * shape[1]
    layout = recipes.kind_of(spec, "layer").layout(spec)
    return sum(math.prod(size) * dtype.itemsize for size, dtype in layout.values())


@cache
def relative_error(recipe: str, width: int) -> float:
    """t^2 that `recipe` has on Gaussian weights with `width` inputs; 0 for bf16, which the parent is too.

    HIGGS: the constant of the grid. int8: step^2 / 12 with the step max|w| / 127 of a row, the mean square of
    the maximum by numerical integration. ternary: exact for the refitted level (`lsq`).
    """
    grid = recipes.grid_of(recipe)
    if grid is not None:
        return grids.load(grid).t2
    if recipe == "int8":
        return _mean_square_of_maximum(width) / (12 * LARGEST_CODE**2)
    if recipe == "ternary":
        return _ternary_error()
    return 0.0


def _mean_square_of_maximum(n: int) -> float:
    """E[max_i z_i^2] of n standard normal numbers."""
    from scipy.integrate import quad
    from scipy.special import erf

    return float(quad(lambda m: 2 * m * (1 - erf(m / math.sqrt(2)) ** n), 0, 12, limit=200)[0])


def _ternary_error() -> float:
    """Of codes clip(round(w / mean|w|)) with the level refitted: 1 - E[|z|; |z| > h]^2 / P(|z| > h), where
    h is half of mean|z| = sqrt(2 / pi).
    """
    threshold = 0.5 * math.sqrt(2 / math.pi)
    mean = 2 * math.exp(-(threshold**2) / 2) / math.sqrt(2 * math.pi)
    return 1 - mean**2 / math.erfc(threshold / math.sqrt(2))


def _solve(choices: Sequence[Sequence[Choice]], room: int) -> list[Choice]:
    """One choice per layer: least sum of `predicted` with `bytes` within `room` (HiGHS, to optimality)."""
    import numpy as np
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_array

    flat = [choice for options in choices for choice in options]
    owner = np.repeat(np.arange(len(choices)), [len(options) for options in choices])
    loss = np.array([choice.predicted for choice in flat])
    size = np.array([choice.bytes for choice in flat], dtype=np.float64)
    one_each = csr_array((np.ones(len(flat)), (owner, np.arange(len(flat)))))
    # Both are scaled to about 1, because HiGHS judges feasibility and optimality by absolute tolerances.
    unit = max(1.0, float(room))
    tiny = 1e-9 * size / size.max()  # among equal losses the smaller plan
    found = milp(
        loss / max(float(loss.max()), 1e-300) + tiny,
        constraints=[
            LinearConstraint(one_each, 1, 1),
            LinearConstraint(csr_array(size[None] / unit), -np.inf, room / unit),
        ],
        integrality=np.ones(len(flat), dtype=np.int64),
        bounds=Bounds(0, 1),
        options={"time_limit": SECONDS, "mip_rel_gap": 1e-6},
    )
    if found.x is None:
        raise LowbitError(f"budget: no plan found ({found.message})")
    picked = np.flatnonzero(found.x > 0.5)
    chosen = [flat[index] for index in picked]
    assert [int(owner[index]) for index in picked] == list(range(len(choices)))
    return _within(chosen, choices, room)


def _within(chosen: list[Choice], choices: Sequence[Sequence[Choice]], room: int) -> list[Choice]:
    """`chosen`, made to fit to the byte: the solver may exceed the budget by its tolerance."""
    chosen = list(chosen)
    while sum(choice.bytes for choice in chosen) > room:
        steps = []
        for at, options in enumerate(choices):
            smaller = [option for option in options if option.bytes < chosen[at].bytes]
            if smaller:
                best = max(smaller, key=lambda option: option.bytes)
                steps.append((best.predicted - chosen[at].predicted, at, best))
        _, at, best = min(steps, key=lambda step: step[:2])
        chosen[at] = best
    return chosen


def _warnings(chosen: Mapping[str, Choice]) -> list[str]:
    beyond = [name for name, choice in chosen.items() if not choice.linear]
    if not beyond:
        return []
    some = ", ".join(beyond[:3]) + (", ..." if len(beyond) > 3 else "")
    return [
        f"{len(beyond)} of {len(chosen)} layers ({some}) have a relative error above {LINEAR_LIMIT:.3f}: "
        "below about 3 bits the predicted loss is too small, often by far; measure before you trust it"
    ]
