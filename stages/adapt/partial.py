"""Methods that peft has not: LoRA-XS, BitFit, RoCoFT with one row.

Each changes weights by B A of a small rank or moves biases, so its adapter is saved as a LoRA that peft
loads. Shapes: a target layer maps `in` features to `out`; r is the rank.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.adapt import adapters
from stages.adapt.adaptation import Adaptation, AdaptContext, Finished
from stages.adapt.targets import targets
from stages.common.errors import UserError


class Beside(nn.Module):
    """A frozen linear layer and what is trained beside it."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.layer = layer

    def factors(self) -> tuple[Tensor, Tensor]:
        """A (r, in) and B (out, r): the change of the weights is B A."""
        raise NotImplementedError


class Cross(Beside):
    """LoRA-XS (Bałazy et al. 2024, eq. 2): W + alpha / r U S R V with the r largest singular values S of W
    and their vectors frozen, and R (r, r) trained.

    R starts as zero, not as noise of 1e-5 as in the paper: the wrapped model is then the base itself, and R
    still gets a gradient.
    """

    up: Tensor
    down: Tensor

    def __init__(self, layer: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__(layer)
        left, values, right = torch.linalg.svd(layer.weight.detach().float(), full_matrices=False)
        self.register_buffer("up", (left[:, :rank] * values[:rank]).contiguous(), persistent=False)
        self.register_buffer("down", right[:rank].contiguous(), persistent=False)
        self.core = nn.Parameter(torch.zeros(rank, rank))
        self.scale = alpha / rank

    def forward(self, x: Tensor) -> Tensor:
        inner = F.linear(F.linear(x, self.down), self.core)
        return self.layer(x) + self.scale * F.linear(inner, self.up)

    def factors(self) -> tuple[Tensor, Tensor]:
        return self.down, self.scale * self.up @ self.core


class Row(Beside):
    """RoCoFT (Kowsher et al. 2024) with one row: the first row of W is trained, as its difference."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__(layer)
        self.row = nn.Parameter(torch.zeros(1, layer.in_features))

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(x)
        return torch.cat([y[..., :1] + F.linear(x, self.row), y[..., 1:]], dim=-1)

    def factors(self) -> tuple[Tensor, Tensor]:
        first = self.row.new_zeros(self.layer.out_features, 1)
        first[0] = 1.0
        return self.row, first


class Layers(Adaptation):
    """A model whose target layers have been replaced by `Beside` ones."""

    def __init__(self, model: Any, context: AdaptContext, wrapped: Mapping[str, Beside]) -> None:
        super().__init__(model)
        self.context, self.wrapped = context, wrapped
        model.requires_grad_(False)
        for name, layer in wrapped.items():
            model.set_submodule(name, layer)
            for part, value in layer.named_parameters():
                value.requires_grad_(not part.startswith("layer."))

    @torch.no_grad()
    def save_adapter(self, folder: Path) -> None:
        """A LoRA in peft's form."""
        factors = {name: layer.factors() for name, layer in self.wrapped.items()}
        adapters.save_lora(folder, self.context, factors)

    @torch.no_grad()
    def finish(self) -> Finished:
        """The plain layers again, moved by what was trained."""
        for name, beside in self.wrapped.items():
            down, up = beside.factors()
            beside.layer.weight += up @ down
            self.model.set_submodule(name, beside.layer)
        return Finished(self.model)


class Biases(Adaptation):
    """BitFit (Ben Zaken et al. 2021): the biases of the target layers that have one, and nothing else."""

    def __init__(self, model: Any, context: AdaptContext, layers: dict[str, nn.Linear]) -> None:
        super().__init__(model)
        self.context, self.layers = context, layers
        model.requires_grad_(False)
        for layer in layers.values():
            layer.bias.requires_grad_(True)
        self._begun = {name: layer.bias.detach().clone() for name, layer in layers.items()}

    def save_adapter(self, folder: Path) -> None:
        """A LoRA of zeros in peft's form, with the difference as its bias."""
        factors = {
            name: (torch.zeros(1, layer.in_features), torch.zeros(layer.out_features, 1))
            for name, layer in self.layers.items()
        }
        moved = {name: layer.bias.detach() - self._begun[name] for name, layer in self.layers.items()}
        adapters.save_lora(folder, self.context, factors, moved)

    def finish(self) -> Finished:
        """The model as it was trained."""
        return Finished(self.model)


def wrap(model: Any, context: AdaptContext) -> Adaptation:
    """`model` with LoRA-XS, BitFit or RoCoFT on its target modules.

    Raises `UserError` for a target that is not there, a rank above a layer's, or a model without biases.
    """
    block: Any = context.block
    found = targets(model, block.target_modules)
    if block.method == "bitfit":
        biased = {name: layer for name, layer in found.items() if layer.bias is not None}
        if not biased:
            raise UserError(
                "params.yaml: adapt.method `bitfit` trains biases, and none of the target modules of this "
                "model has one (Qwen2 has them in q_proj, k_proj and v_proj); choose another method"
            )
        return Biases(model, context, biased)
    if block.method == "rocoft":
        return Layers(model, context, {name: Row(layer) for name, layer in found.items()})
    for name, layer in found.items():
        if block.rank > (most := min(layer.in_features, layer.out_features)):
            raise UserError(
                f"params.yaml: adapt.rank {block.rank} is above {most}, the rank that {name} can have; "
                "lower it"
            )
    crossed = {name: Cross(layer, block.rank, block.alpha) for name, layer in found.items()}
    return Layers(model, context, crossed)
