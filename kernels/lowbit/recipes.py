"""Recipes by name, and plans: which recipe each layer of a model gets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

from lowbit import blockwise, grids, higgs, ternary, uniform
from lowbit.errors import LowbitError
from lowbit.hadamard import block_size
from lowbit.weight import PackedWeight, Shape

KINDS: dict[str, type[PackedWeight]] = {
    weight.kind: weight
    for weight in (
        higgs.HiggsWeight,
        ternary.TernaryWeight,
        ternary.BitWeight,
        uniform.UniformWeight,
        blockwise.BlockWeight,
    )
}
KEEP = "bf16"
HIGGS = {"higgs-4bit": "p2n256", "higgs-3bit": "p2n64", "higgs-2bit": "p2n16"}
RECIPES = (KEEP, "int8", *HIGGS, "ternary", *blockwise.FORMATS)
PLAN_KEYS = {"recipe", "group_size", "predicted"}


class AnyPlan(Protocol):
    """A `lowbit.allocation.Plan`, or anything else that tells its layers as JSON."""

    def to_json(self) -> Mapping[str, Mapping[str, Any]]: ...


Plan = str | Path | AnyPlan | Mapping[str, Mapping[str, Any]]
Spec = dict[str, Any]


def grid_of(recipe: str) -> str | None:
    """The grid of a HIGGS recipe: `higgs-4bit`, `higgs-3bit`, `higgs-2bit`, or `higgs-<grid>`; None for
    another recipe.
    """
    if recipe in HIGGS:
        return HIGGS[recipe]
    name = recipe.removeprefix("higgs-")
    return name if name != recipe and name in grids.NAMES else None


def spec_of(recipe: str, shape: Shape, group_size: int | None, layer: str) -> Spec | None:
    """What the configuration will say of `layer`; None when it stays bf16. Raises `LowbitError` on a bad
    recipe.
    """
    grid = grid_of(recipe)
    if grid is None and recipe not in RECIPES:
        allowed = f"{', '.join(RECIPES)}, or higgs-<grid> with a grid of {', '.join(grids.NAMES)}"
        raise LowbitError(f"{layer}: recipe `{recipe}` is not built; built: {allowed}")
    if grid is not None:
        group = block_size(shape[1]) if group_size is None else group_size
        return {"kind": "higgs", "shape": list(shape), "grid": grid, "group_size": group}
    if group_size is not None:
        raise LowbitError(f"{layer}: recipe `{recipe}` has no group_size; leave it out")
    if recipe == "int8":
        return {"kind": "uniform", "shape": list(shape), "bits": 8}
    if recipe == "ternary":
        per = "row" if shape[0] > 1 else "tensor"
        return {"kind": "ternary", "shape": list(shape), "level": "lsq", "per": per}
    if recipe in blockwise.FORMATS:
        return {"kind": "block4", "shape": list(shape), "format": recipe}
    return None


def pack(weight: torch.Tensor, spec: Spec, seed: int, name: str) -> PackedWeight:
    """Quantise `weight` as `spec` says. Raises `LowbitError` naming the tensor."""
    match spec["kind"]:
        case "higgs":
            return higgs.quantize(weight, spec["grid"], spec["group_size"], seed, name)
        case "ternary":
            return ternary.quantize(weight, spec["level"], spec["per"], name)
        case "block4":
            return blockwise.quantize(weight, spec["format"], name)
        case _:
            return uniform.quantize(weight, spec["bits"], name)


def kind_of(spec: Spec, layer: str) -> type[PackedWeight]:
    """The class that a checkpoint's `spec` names. Raises `LowbitError` when this version does not know it."""
    kind = spec.get("kind")
    if kind not in KINDS:
        raise LowbitError(f"{layer}: kind `{kind}` is not known; known: {', '.join(KINDS)}")
    return KINDS[kind]


def specs(plan: Plan, layers: Mapping[str, Shape], tied: frozenset[str] = frozenset()) -> dict[str, Spec]:
    """The specification of every layer that is quantised.

    `plan` is a recipe for all `layers` but the `tied` ones (output embeddings), or names layers one by one
    as `{name: {"recipe": ..., "group_size": ...}}` (or through `to_json`, as what `allocate` returns), or is
    the path of a JSON file that does; layers it leaves out stay bf16. Raises `LowbitError` on an unknown
    recipe, key or layer.
    """
    if isinstance(plan, str) and not plan.endswith(".json"):
        entries: Mapping[str, Mapping[str, Any]] = {
            name: {"recipe": plan} for name in layers if name not in tied
        }
        if not entries:
            spec_of(plan, (1, 16), None, "plan")
    else:
        entries = _entries(plan)
    found = {}
    for name, entry in entries.items():
        if name not in layers:
            raise LowbitError(f"plan: the model has no linear layer `{name}`; it has {_some(layers)}")
        unknown = set(entry) - PLAN_KEYS
        if unknown or "recipe" not in entry:
            what = f"unknown key `{min(unknown)}`" if unknown else "no recipe"
            raise LowbitError(f"plan: {what} for layer `{name}`; give recipe and, for HIGGS, group_size")
        spec = spec_of(entry["recipe"], layers[name], entry.get("group_size"), name)
        if spec is None:
            continue
        if name in tied:
            raise LowbitError(
                f"plan: `{name}` shares its weight with the embeddings, which stay bf16; leave it out"
            )
        KINDS[spec["kind"]].layout(spec)
        found[name] = spec
    return found


def _entries(plan: Plan) -> Mapping[str, Mapping[str, Any]]:
    if isinstance(plan, str | Path):
        return _read(Path(plan))
    return plan if isinstance(plan, Mapping) else plan.to_json()


def _read(path: Path) -> Mapping[str, Mapping[str, Any]]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LowbitError(f"{path}: no readable plan ({error})") from error
    if not isinstance(value, dict) or not all(isinstance(entry, dict) for entry in value.values()):
        raise LowbitError(f"{path}: a plan is an object of layers, each with its recipe")
    return value


def _some(names: Mapping[str, Shape]) -> str:
    return ", ".join(list(names)[:3]) + (", ..." if len(names) > 3 else "")
