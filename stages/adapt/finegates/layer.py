"""A linear layer with gates on its input columns (and in mode `faithful` on its output rows).

Shapes: N tokens, I input and O output features, U units of I / U columns each, R rank of the matrices beside.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from peft.tuners.tuners_utils import BaseTunerLayer, check_adapters_to_merge
from torch import Tensor, nn

from stages.adapt.finegates import faithful
from stages.adapt.finegates.config import FineGatesConfig

KINDS = ("mu", "column", "row", "A", "B")


class GateLayer(nn.Module, BaseTunerLayer):
    """y = ((x * z) (W + s B A)^T + b) * r: gates z on the columns of W, and r on its rows where there are
    any.

    Per adapter, all in fp32: `finegates_mu` (U,), or `finegates_column` (I,) and `finegates_row` (O,), the
    logits of mode `faithful`; `finegates_A` (R, I) and `finegates_B` (O, R) where the configuration gives a
    rank. `at` is the number of the decoder layer it belongs to, `name` its own name there. `part` is what
    its columns are units of, and `units` is U; None and 0 where no unit has its gate here.
    """

    adapter_layer_names = tuple(f"finegates_{kind}" for kind in KINDS)
    other_param_names = ("finegates_scaling",)
    finegates_mu: nn.ParameterDict
    finegates_column: nn.ParameterDict
    finegates_row: nn.ParameterDict
    finegates_A: nn.ParameterDict
    finegates_B: nn.ParameterDict

    def __init__(
        self, base_layer: nn.Linear, at: int | None, name: str, part: str | None, units: int
    ) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.at, self.name, self.part, self.units = at, name, part, units
        self.in_features, self.out_features = base_layer.in_features, base_layer.out_features
        for name in self.adapter_layer_names:
            setattr(self, name, nn.ParameterDict())
        self.finegates_scaling: dict[str, float] = {}
        self.merged_adapters: list[str] = []
        self._dense: tuple[Tensor, Tensor | None] | None = None
        self._drawn: dict[str, tuple[Tensor | None, Tensor | None]] = {}
        self._fixed: dict[str, tuple[Tensor, ...]] = {}

    def update_layer(self, adapter: str, config: FineGatesConfig, seed: int) -> None:
        """Add the parameters of `adapter`: open gates, and matrices whose product is 0."""
        generator = torch.Generator().manual_seed(seed)
        made: dict[str, Tensor] = {}
        if config.mode == "faithful":
            made["column"] = faithful.initial(self.in_features, generator)
            made["row"] = faithful.initial(self.out_features, generator)
        elif self.units:
            made["mu"] = torch.ones(self.units, dtype=torch.float32)
        if rank := config.rank_of(self.name):
            bound = 1 / math.sqrt(self.in_features)
            uniform_RI = torch.rand(rank, self.in_features, generator=generator, device="cpu")
            made["A"] = (2 * uniform_RI - 1) * bound
            made["B"] = torch.zeros(self.out_features, rank, dtype=torch.float32)
            self.finegates_scaling[adapter] = config.lora_alpha / rank
        base: Any = self.get_base_layer()
        for kind, value in made.items():
            held = value if value.is_meta else value.to(base.weight.device)
            self._of(kind)[adapter] = nn.Parameter(held)
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    def _of(self, kind: str) -> nn.ParameterDict:
        found: nn.ParameterDict = getattr(self, f"finegates_{kind}")
        return found

    def gated(self, adapter: str) -> bool:
        """Whether `adapter` has gates here."""
        return adapter in self.finegates_mu or adapter in self.finegates_column

    def gates(self, adapter: str) -> tuple[nn.Parameter, ...]:
        """The gate parameters of `adapter`: (mu,), or in mode `faithful` (column logits, row logits)."""
        held = [self._of(kind) for kind in ("mu", "column", "row")]
        return tuple(found[adapter] for found in held if adapter in found)

    @property
    def located(self) -> tuple[int, str]:
        """Decoder layer and part of the units whose gates sit here. Raises `ValueError` where there are
        none.
        """
        if self.at is None or self.part is None:
            raise ValueError(f"{self.name}: its columns are no units")
        return self.at, self.part

    def parameter(self, kind: str, adapter: str) -> Tensor | None:
        """The parameter of `adapter` without its gradient, None where it has none of this kind."""
        found = dict(self._of(kind)).get(adapter)
        return None if found is None else found.detach()

    def evaluated(self, adapter: str) -> tuple[Tensor | None, Tensor | None]:
        """Gates of evaluation in fp32, on the columns (I,) and on the rows (O,); None: all open.

        They take no gradient: gates learn through what is drawn for them. Where every unit is closed, as in a
        layer that goes whole, so are the rows, because a bias would stay.
        """
        mu_U = self.parameter("mu", adapter)
        if fixed := self._fixed.get(adapter):
            if fixed[0].device != self.weight.device:
                fixed = self._fixed[adapter] = tuple(gate.to(self.weight.device) for gate in fixed)
            first, *second = fixed
            return (first, second[0]) if second else self._of_units(first)
        if mu_U is not None:
            return self._of_units(mu_U.float().clamp(0, 1))
        column_I, row_O = (self.parameter(kind, adapter) for kind in ("column", "row"))
        return (
            None if column_I is None else faithful.evaluated(column_I),
            None if row_O is None else faithful.evaluated(row_O),
        )

    def _of_units(self, z_U: Tensor) -> tuple[Tensor, Tensor | None]:
        base: Any = self.get_base_layer()
        if base.bias is None:
            return self.expand(z_U), None
        return self.expand(z_U), (z_U != 0).any().float().expand(self.out_features)

    def expand(self, z_U: Tensor) -> Tensor:
        """Gates of the units as gates of the columns, (I,)."""
        width = self.in_features // self.units
        return z_U if width == 1 else z_U.repeat_interleave(width)

    def hold(self, adapter: str, column_I: Tensor | None, row_O: Tensor | None = None) -> None:
        """Set the gates of the next forward passes in training mode."""
        self._drawn[adapter] = column_I, row_O

    def fix(self, adapter: str, gates: tuple[Tensor, ...] | None) -> None:
        """Train and evaluate with `gates`, shaped as the parameters are; None: with the parameters,
        as in evaluation.
        """
        self._drawn.pop(adapter, None)
        if gates is None:
            self._fixed.pop(adapter, None)
        else:
            self._fixed[adapter] = tuple(gate.to(self.weight.device) for gate in gates)

    def delete_adapter(self, adapter_name: str) -> None:
        """As peft's; another adapter of that name begins anew."""
        self._drawn.pop(adapter_name, None)
        self._fixed.pop(adapter_name, None)
        super().delete_adapter(adapter_name)

    def __getstate__(self) -> dict[str, Any]:
        """Without the drawn gates: a graph cannot be copied, and the next forward pass draws them again."""
        return self.__dict__ | {"_drawn": {}}

    def train(self, mode: bool = True) -> GateLayer:
        """As torch's; evaluation forgets the drawn gates and the graph they hang on."""
        if not mode:
            self._drawn.clear()
        super().train(mode)
        return self

    def _gates(self, adapter: str) -> tuple[Tensor | None, Tensor | None]:
        if self.training and adapter in self._drawn and adapter not in self._fixed:
            return self._drawn[adapter]
        return self.evaluated(adapter)

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """`x` (..., I) to (..., O)."""
        if self.disable_adapters:
            if self.merged:
                self.unmerge()
            return self.base_layer(x, *args, **kwargs)
        if self.merged:
            return self.base_layer(x, *args, **kwargs)
        adapters = [name for name in self.active_adapters if self._holds(name)]
        rows: list[Tensor] = []
        for adapter in adapters:
            column_I, row_O = self._gates(adapter)
            if column_I is not None:
                x = (x * column_I).to(x.dtype)
            if row_O is not None:
                rows.append(row_O)
        result = self.base_layer(x, *args, **kwargs)
        for adapter in adapters:
            if adapter in self.finegates_scaling:
                result = result + self._beside(x, adapter).to(result.dtype)
        for row_O in rows:
            result = (result * row_O).to(result.dtype)
        return result

    def _beside(self, x: Tensor, adapter: str) -> Tensor:
        first_RI, second_OR = self.finegates_A[adapter], self.finegates_B[adapter]
        scaling = self.finegates_scaling[adapter]
        return F.linear(F.linear(x.to(first_RI.dtype), first_RI), second_OR) * scaling

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Fold gates and matrices into the weights: W' = diag(r) (W + s B A) diag(z), b' = r b.

        Of several adapters, those merged before included, s B A is summed, and z and r are multiplied, as
        `forward` does.
        """
        base: Any = self.get_base_layer()
        new = [name for name in check_adapters_to_merge(self, adapter_names) if self._holds(name)]
        if not new:
            return
        dense = self._dense or (base.weight.data, None if base.bias is None else base.bias.data)
        weight_OI, bias_O = self._folded([*self.merged_adapters, *new], *dense)
        if safe_merge and not all(
            bool(torch.isfinite(value).all()) for value in (weight_OI, bias_O) if value is not None
        ):
            raise ValueError(f"NaN or infinity in the merged weights; adapter {', '.join(new)} is broken")
        self._dense = dense
        base.weight.data = weight_OI
        if bias_O is not None:
            base.bias.data = bias_O
        self.merged_adapters.extend(new)

    def _holds(self, adapter: str) -> bool:
        return any(adapter in self._of(kind) for kind in KINDS)

    def _folded(
        self, adapters: list[str], weight_OI: Tensor, bias_O: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        wide_OI = weight_OI.float()
        for adapter in adapters:
            if adapter in self.finegates_scaling:
                delta_OI = self.finegates_B[adapter].detach() @ self.finegates_A[adapter].detach()
                wide_OI = wide_OI + delta_OI * self.finegates_scaling[adapter]
        for adapter in adapters:
            column_I, row_O = self.evaluated(adapter)
            if column_I is not None:
                wide_OI = wide_OI * column_I
            if row_O is not None:
                wide_OI = wide_OI * row_O[:, None]
                bias_O = None if bias_O is None else (bias_O * row_O).to(bias_O.dtype)
        return wide_OI.to(weight_OI.dtype), bias_O

    def unmerge(self) -> None:
        """Put the weights back as they were: what a closed gate took cannot be computed back."""
        if self._dense is None:
            return
        base: Any = self.get_base_layer()
        weight_OI, bias_O = self._dense
        base.weight.data = weight_OI
        if bias_O is not None:
            base.bias.data = bias_O
        self._dense, self.merged_adapters = None, []

    def supports_lora_conversion(self, adapter_name: str = "default") -> bool:  # noqa: ARG002
        """Gates multiply; they are no low-rank sum."""
        return False

    def __repr__(self) -> str:
        return "finegates." + super().__repr__()
