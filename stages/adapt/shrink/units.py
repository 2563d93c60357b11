"""What can be cut out of a decoder, and how many parameters each unit frees.

FFN neuron j is row j of `gate_proj` and `up_proj` and column j of `down_proj`. KV group k is the rows of key
and value head k and, for its H_q / H_kv query heads, the rows of `q_proj` and the columns of `o_proj`. A bias
that belongs to those rows goes with them. Multiplying the input of `down_proj` or `o_proj` by 0 in the
columns of a unit gives the same function as cutting it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lowbit.registration import PREFIX

from stages.common.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

FFN, GROUPS = "ffn", "groups"
PARTS = (FFN, GROUPS)
# Per family: whether q, k, v and whether gate, up have biases; a name is that of the key that says so.
_BIASES: dict[str, tuple[bool | str, bool | str]] = {
    "llama": ("attention_bias", "mlp_bias"),
    "mistral": (False, False),
    "qwen2": (True, False),
    "qwen3": ("attention_bias", False),
}


@dataclass(frozen=True)
class LayerUnits:
    """How many units of each part one layer has. A cost is the number of parameters that one unit frees."""

    ffn: int
    ffn_cost: int
    groups: int
    group_cost: int

    def count(self, part: str) -> int:
        """Units of `part`."""
        return self.ffn if part == FFN else self.groups

    def cost(self, part: str) -> int:
        """Parameters freed by one unit of `part`."""
        return self.ffn_cost if part == FFN else self.group_cost


@dataclass(frozen=True)
class Units:
    """The units of all layers. `parts` says which of them may be cut; only those count as gateable.

    `uniform_groups`: the numbers of KV groups, the same in every layer, that the stock class of the family
    accepts (Llama wants a hidden size that its query heads divide); None when it takes any.
    """

    layers: tuple[LayerUnits, ...]
    parts: frozenset[str] = frozenset(PARTS)
    uniform_groups: frozenset[int] | None = None

    @classmethod
    def of(cls, config: Any, parts: Iterable[str] = PARTS) -> Units:
        """The units of the model that the Transformers `config` describes.

        Raises `UserError` for a family that has no slicing rules.
        """
        from lowbit.layerwise import head_dim

        family = family_of(config)
        chosen = frozenset(parts)
        if not chosen or not chosen <= set(PARTS):
            raise ValueError(f"parts {sorted(chosen)}: one or more of {', '.join(PARTS)}")
        attention, feed = (
            bool(getattr(config, key)) if isinstance(key, str) else key for key in _BIASES[family]
        )
        head = head_dim(config)
        layers = [_layer(one, head, attention, feed) for one in config.per_layer_config]
        allowed = None
        if family == "llama":
            queries = {one.num_attention_heads // one.num_key_value_heads for one in config.per_layer_config}
            most = max(layer.groups for layer in layers)
            allowed = frozenset(
                groups
                for groups in range(1, most + 1)
                if all(config.hidden_size % (groups * each) == 0 for each in queries)
            )
        return cls(tuple(layers), chosen, allowed)

    @property
    def gateable(self) -> int:
        """Parameters of all units of `parts`, biases included."""
        return sum(layer.count(part) * layer.cost(part) for layer in self.layers for part in self.parts)

    def removed(self, kept: Kept) -> int:
        """Parameters of the units of `parts` that `kept` leaves out."""
        return sum(
            (layer.count(part) - len(kept.of(part)[at])) * layer.cost(part)
            for at, layer in enumerate(self.layers)
            for part in self.parts
        )


@dataclass(frozen=True)
class Scores:
    """What keeping each unit is worth, comparable over layers and parts; higher is kept.

    One tensor per layer: `ffn` (neurons,), `groups` (KV groups,).
    """

    ffn: tuple[Tensor, ...]
    groups: tuple[Tensor, ...]

    def of(self, part: str) -> tuple[Tensor, ...]:
        """The tensors of `part`."""
        return self.ffn if part == FFN else self.groups


@dataclass(frozen=True)
class Kept:
    """Sorted indices of what stays: original layers, and per original layer its neurons and KV groups.

    A layer that is cut whole has empty tuples.
    """

    layers: tuple[int, ...]
    ffn: tuple[tuple[int, ...], ...]
    groups: tuple[tuple[int, ...], ...]

    @classmethod
    def all(cls, units: Units) -> Kept:
        """Everything stays."""
        return cls(
            tuple(range(len(units.layers))),
            tuple(tuple(range(layer.ffn)) for layer in units.layers),
            tuple(tuple(range(layer.groups)) for layer in units.layers),
        )

    def of(self, part: str) -> tuple[tuple[int, ...], ...]:
        """The indices of `part`, per original layer."""
        return self.ffn if part == FFN else self.groups

    def check(self, units: Units) -> None:
        """Raise `ValueError` when this is no selection from `units` that leaves a working model."""
        count = len(units.layers)
        if not self.layers or {len(self.ffn), len(self.groups)} != {count}:
            raise ValueError(f"the kept units are not of a model of {count} layers, or none of them stays")
        _check_sorted(self.layers, count, "layers")
        for at, layer in enumerate(units.layers):
            for part in PARTS:
                indices = self.of(part)[at]
                _check_sorted(indices, layer.count(part), f"{part} of layer {at}")
                if bool(indices) != (at in self.layers):
                    raise ValueError(f"{part} of layer {at}: a layer keeps some units or is cut whole")

    def to_json(self) -> list[dict[str, Any]]:
        """Per kept layer: its original index and runs [first, last], inclusive, of its units."""
        return [{"layer": at, FFN: _runs(self.ffn[at]), GROUPS: _runs(self.groups[at])} for at in self.layers]


def family_of(config: Any) -> str:
    """The family of `config`: llama, mistral, qwen2 or qwen3. Raises `UserError` for any other."""
    name = str(config.model_type)
    family = name.removeprefix(PREFIX)
    if family not in _BIASES:
        raise UserError(
            f"model family `{name}` has no slicing rules; it can be adapted but not cut "
            f"(there are rules for {', '.join(_BIASES)})"
        )
    return family


def _layer(config: Any, head: int, attention: bool, feed: bool) -> LayerUnits:
    """`config` of one layer; `head`: width of a head; `attention`, `feed`: whether these have biases."""
    hidden = config.hidden_size
    groups = config.num_key_value_heads
    queries = config.num_attention_heads // groups
    rows = (queries + 2) * head
    return LayerUnits(
        ffn=config.intermediate_size,
        ffn_cost=3 * hidden + 2 * feed,
        groups=groups,
        group_cost=rows * (hidden + attention) + queries * head * hidden,
    )


def _check_sorted(indices: tuple[int, ...], count: int, what: str) -> None:
    if list(indices) != sorted(set(indices)) or any(not 0 <= index < count for index in indices):
        raise ValueError(f"{what}: the kept indices are not sorted numbers below {count}")


def _runs(indices: tuple[int, ...]) -> list[list[int]]:
    found: list[list[int]] = []
    for index in indices:
        if found and found[-1][1] == index - 1:
            found[-1][1] = index
        else:
            found.append([index, index])
    return found
