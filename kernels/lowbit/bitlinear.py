"""`BitLinear`: ternary weights and int8 activations in training (BitNet b1.58, arXiv 2402.17764).

Master weights W stay in float32; what the layer computes with is (equations 1-3 of the paper)

    gamma = mean|W|,    Q(W) = level * clip(round(W / (2 threshold)), -1, 1)

with threshold = gamma / 2 and level = gamma: `absmean`. The levels `lsq` and `lloyd` fit threshold and level
to the dense weights once (`lowbit.ternary`) and keep their ratios to gamma, which follows the weights.
Gradients pass both quantisers straight through. The blend lambda in [0, 1] phases them in:
x + lambda sg(q(x) - x), for weights alike (Hugging Face, "Fine-tuning LLMs to 1.58bit"): 0 is the dense
layer, 1 the packed one, to the bit.

    names = bitlinear.convert(model, keep=["layers.1.mlp.down_proj"], norm=bitlinear.SUBLN)
    ... train, with bitlinear.set_blend(model, min(step / 1000, 1)) ...
    bitlinear.pack(model).save_pretrained(folder)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional as F

from lowbit import activations, packing, recipes, ternary
from lowbit.errors import LowbitError
from lowbit.linear import PackedBitLinear
from lowbit.ternary import BitWeight
from lowbit.weight import checked

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from lowbit.recipes import Plan

SUBLN = ("o_proj", "down_proj")  # whose inputs no norm of the block reaches (BitDistill, arXiv 2510.13998)
DEFAULT_EPS = 1e-6


@dataclass(frozen=True)
class Statistics:
    """One layer: weights beyond +-`threshold` become +-`level` (both in units of the weights, means over the
    rows where each has its own); shares of the codes -1, 0 and 1.
    """

    threshold: float
    level: float
    negative: float
    zero: float
    positive: float


class BitLinear(nn.Linear):
    """y = x W^T + b with quantised x and W: x (..., in) -> y (..., out), in the dtype of x or of autocast.

    `weight` and `norm_weight` (present when `norm_eps` is given: x passes an RMS norm first) are float32
    parameters and stay so when the model is cast; the bias follows the model. `blend` is lambda. `level` is
    `absmean`, `lsq` or `lloyd`; `per` is what shares one level, `tensor` or `row`. A fresh layer has the
    ratios of `absmean`; `from_linear` fits them. Raises `LowbitError` for unknown `level` or `per`.
    """

    threshold_ratio: torch.Tensor
    level_ratio: torch.Tensor
    norm_weight: nn.Parameter | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = False,
        *,
        norm_eps: float | None = None,
        level: str = "absmean",
        per: str = "tensor",
        name: str = "layer",
        device: Any = None,
    ) -> None:
        super().__init__(in_features, out_features, bias, device=device, dtype=torch.float32)
        if level not in ternary.LEVELS:
            raise LowbitError(
                f"{name}: ternary level `{level}` is not known; known: {', '.join(ternary.LEVELS)}"
            )
        if per not in ("tensor", "row"):
            raise LowbitError(f"{name}: ternary levels are per `row` or per `tensor`, not per `{per}`")
        self.name, self.level, self.per, self.norm_eps, self.blend = name, level, per, norm_eps, 1.0
        exact: dict[str, Any] = {"device": device, "dtype": torch.float32}
        groups = out_features if per == "row" else 1
        self.register_buffer("threshold_ratio", torch.full((groups,), 0.5, **exact))
        self.register_buffer("level_ratio", torch.ones(groups, **exact))
        norm = None if norm_eps is None else nn.Parameter(torch.ones(in_features, **exact))
        self.register_parameter("norm_weight", norm)

    @classmethod
    def from_linear(
        cls,
        linear: nn.Linear,
        *,
        norm_eps: float | None = None,
        level: str = "absmean",
        per: str = "tensor",
        name: str = "layer",
    ) -> BitLinear:
        """The layer that starts from `linear`, whose weight it copies; at blend 0 and without a norm it
        computes the same. Raises `LowbitError` for NaN or infinity.
        """
        weight = checked(linear.weight, f"{name}.weight").float()
        layer = cls(
            linear.in_features,
            linear.out_features,
            linear.bias is not None,
            norm_eps=norm_eps,
            level=level,
            per=per,
            name=name,
            device=weight.device,
        )
        with torch.no_grad():
            layer.weight.copy_(weight)
        if linear.bias is not None:
            layer.bias = nn.Parameter(linear.bias.detach().clone())
        if level != "absmean":
            layer._fit()
        return layer.train(linear.training)

    @torch.no_grad()
    def _fit(self) -> None:
        """Take the ratios of threshold and level to gamma from the weights as they are."""
        groups = ternary.grouped(self.weight, self.per)
        _, levels = ternary.fit(groups, self.level)
        ratio = levels / self._gamma()
        # A group that is all zeros keeps the ratios of absmean.
        ratio = torch.where(ratio > 0, ratio, 1.0)
        self.level_ratio.copy_(ratio)
        if self.level == "lloyd":
            # The nearest of -a, 0 and a changes at a / 2.
            self.threshold_ratio.copy_(ratio / 2)

    def _gamma(self) -> torch.Tensor:
        groups = ternary.grouped(self.weight.detach(), self.per)
        return groups.abs().mean(1).clamp(min=ternary.SMALLEST_GAMMA)

    @torch.no_grad()
    def codes(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Ternary codes (out, in) and levels, (1,) or (out,), both float32, of the weights as they are."""
        gamma = self._gamma()
        codes = torch.round(self.weight / (2 * self.threshold_ratio * gamma)[:, None]).clamp(-1, 1)
        return codes, self.level_ratio * gamma

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = x
        if self.norm_weight is not None and self.norm_eps is not None:
            inner = activations.rms_norm(x, self.norm_weight, self.norm_eps)
        if self.blend == 0:
            return self._dense(inner, self.weight, x.dtype)
        tokens, scale = activations.quantize_tokens(inner)
        codes, level = self.codes()
        if self.blend == 1:
            # The codes carry the gradient of W / level, which the level in the product turns into that of W.
            straight = activations.straight_through(self.weight / level[:, None], codes)
            return activations.product(tokens, scale, straight, level, self.bias, x.dtype)
        inner = activations.blended(inner.float(), tokens.detach() / scale, self.blend)
        weight = activations.blended(self.weight, codes * level[:, None], self.blend)
        return self._dense(inner, weight, x.dtype)

    def _dense(self, x: torch.Tensor, weight: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        bias = None if self.bias is None else self.bias.to(dtype)
        return F.linear(x.to(dtype), weight.to(dtype), bias)

    @torch.no_grad()
    def packed(self) -> BitWeight:
        """The weight as a checkpoint stores it. Raises `LowbitError` for NaN or infinity."""
        checked(self.weight, f"{self.name}.weight")
        codes, level = self.codes()
        shape = (self.out_features, self.in_features)
        return BitWeight(packing.pack_trits(codes), level, shape, self.level, self.norm_eps)

    def extra_repr(self) -> str:
        norm = "" if self.norm_eps is None else f", norm_eps={self.norm_eps}"
        return f"{super().extra_repr()}, level={self.level}, per={self.per}, blend={self.blend}{norm}"

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> BitLinear:
        follows = (self.bias, None if self.bias is None else self.bias.grad)

        def move(tensor: torch.Tensor) -> torch.Tensor:
            moved = fn(tensor)
            if moved.dtype == tensor.dtype or any(tensor is other for other in follows):
                return moved
            return tensor.to(moved.device)

        super()._apply(move, recurse)
        return self


def layers(model: nn.Module) -> dict[str, BitLinear]:
    """The `BitLinear` layers of `model` by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, BitLinear)}


def convert(
    model: PreTrainedModel,
    *,
    keep: Iterable[str] = (),
    norm: Iterable[str] = (),
    level: str = "absmean",
    per: str = "tensor",
    eps: float | None = None,
) -> list[str]:
    """Make the linear layers of `model` BitLinear, in place, and return their names.

    The output head stays as it is, and so does what `keep` names; what `norm` names gets an RMS norm of
    weight one before the projection, with `eps` (None: the model's own `rms_norm_eps`). A name is that of a
    layer or its end, `down_proj` or `1.mlp.down_proj`. `level` and `per` as in `BitLinear`. The blend is 1.
    Raises `LowbitError` for a name that fits no layer, and for a model with nothing to convert.
    """
    from lowbit.integration import linears

    shapes, heads = linears(model)
    names = [name for name in shapes if name not in heads]
    kept, normed = _matching(names, keep, "keep"), _matching(names, norm, "norm")
    chosen = [name for name in names if name not in kept]
    done = next(iter(layers(model)), None)
    if done is not None or not chosen:
        what = f"`{done}` is a BitLinear already" if done else "the model has no linear layer to convert"
        raise LowbitError(f"bitlinear: {what}; give a dense model that keeps less")
    if eps is None:
        eps = float(getattr(model.config, "rms_norm_eps", DEFAULT_EPS))
    for name in chosen:
        linear = model.get_submodule(name)
        assert isinstance(linear, nn.Linear)
        norm_eps = eps if name in normed else None
        layer = BitLinear.from_linear(linear, norm_eps=norm_eps, level=level, per=per, name=name)
        model.set_submodule(name, layer)
    return chosen


def _matching(names: Sequence[str], wanted: Iterable[str], what: str) -> set[str]:
    found = set()
    for end in wanted:
        fits = {name for name in names if name == end or name.endswith(f".{end}")}
        if not fits:
            raise LowbitError(f"bitlinear: {what} names `{end}`, and no linear layer's name ends so")
        found |= fits
    return found


def set_blend(model: nn.Module, value: float) -> int:
    """Set lambda of every BitLinear of `model`: 0 computes with the dense weights, 1 with the quantised
    ones. Returns how many there are. Raises `LowbitError` outside [0, 1].
    """
    if not 0 <= value <= 1:
        raise LowbitError(f"blend {value}: give a number from 0 (dense) to 1 (quantised)")
    found = layers(model)
    for layer in found.values():
        layer.blend = float(value)
    return len(found)


@torch.no_grad()
def statistics(model: nn.Module) -> dict[str, Statistics]:
    """Threshold, level and the shares of the codes of every BitLinear of `model`."""
    found = {}
    for name, layer in layers(model).items():
        codes, level = layer.codes()
        threshold = layer.threshold_ratio * layer._gamma()
        shares = [float((codes == code).float().mean()) for code in (-1, 0, 1)]
        found[name] = Statistics(float(threshold.mean()), float(level.mean()), *shares)
    return found


def pack(model: PreTrainedModel, plan: Plan | None = None, seed: int = 0) -> PreTrainedModel:
    """Pack every BitLinear of `model`, in place, and return it; its logits stay what they were at blend 1,
    to the bit, and `save_pretrained` writes a checkpoint that `from_pretrained` loads to the same.

    `plan` quantises the linear layers that were kept, as in `quantize_model` (`int8` for a hybrid); None
    leaves them as they are. Raises `LowbitError` when there is no BitLinear, or one whose blend is not 1.
    """
    from lowbit.integration import attach, linears, replace

    found = layers(model)
    if not found:
        raise LowbitError("bitlinear: the model has no BitLinear to pack; lowbit.quantize_model packs others")
    blending = next((name for name, layer in found.items() if layer.blend != 1), None)
    if blending is not None:
        what = f"its blend is {found[blending].blend}, that of a packed layer is 1"
        raise LowbitError(f"{blending}: {what}; call set_blend(model, 1) first")
    shapes, heads = linears(model)
    rest = {name: shape for name, shape in shapes.items() if name not in found}
    chosen = {} if plan is None else recipes.specs(plan, rest, heads)
    weights = {name: layer.packed() for name, layer in found.items()}
    for name, layer in found.items():
        packed = PackedBitLinear.from_packed(weights[name], seed, layer.bias, name)
        packed.norm_weight = None if layer.norm_weight is None else layer.norm_weight.detach().clone()
        model.set_submodule(name, packed.train(layer.training))
    replace(model, chosen, seed)
    return attach(model, {name: weight.spec() for name, weight in weights.items()} | chosen, seed)
