"""`LowbitLinear`: a linear layer that holds its weight packed; `PackedBitLinear`: one whose activations are
quantised too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal, Self

import torch
from torch import nn
from torch.nn import functional as F

from lowbit import activations
from lowbit.errors import LowbitError
from lowbit.ops import common
from lowbit.recipes import Spec, kind_of
from lowbit.running import KERNEL_KINDS, Operand, prepare, run
from lowbit.ternary import BitWeight
from lowbit.weight import PackedWeight

Mode = Literal["auto", "cached", "packed", "kernel"]
MODES = ("auto", "cached", "packed", "kernel")


class LowbitLinear(nn.Module):
    """y = x W^T + b with W dequantised: x (..., in) -> y (..., out), in the dtype of x.

    `mode` decides how W is used. `cached`: dequantised once, then kept beside the packed tensors, as fast as
    bf16 and as large. `packed`: dequantised at every call, which keeps memory small and is slow; both give
    the same bits. `kernel`: computed from the packed form on a CUDA or ROCm device with Triton, in float16 or
    bfloat16; equal to the others up to rounding for HIGGS, while ternary layers also quantise their input to
    int8 per token, as BitNet b1.58 does. `auto`: cached on the CPU, kernel where one can run, packed
    elsewhere. int8 layers have no kernel and run packed in its place. `runs` and `repr` say what is in
    effect. Caches and the kernels' own layout are no part of the state dict.
    """

    weight_codes: torch.Tensor
    weight_scales: torch.Tensor
    # Tensors beside the bias that a checkpoint must hold, and those that keep their bits in any dtype.
    stored: ClassVar[tuple[str, ...]] = ("weight_codes", "weight_scales")
    exact: ClassVar[tuple[str, ...]] = ("weight_scales",)

    def __init__(
        self,
        spec: Spec,
        seed: int,
        bias: bool,
        name: str = "layer",
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.out_features, self.in_features = spec["shape"]
        self.spec, self.seed, self.name, self.mode = spec, seed, name, "auto"
        self._kind = kind_of(spec, name)
        for part, (shape, part_dtype) in self._kind.layout(spec).items():
            self.register_buffer(f"weight_{part}", torch.zeros(shape, dtype=part_dtype, device=device))
        if bias:
            self.bias = nn.Parameter(
                torch.zeros(self.out_features, device=device, dtype=dtype), requires_grad=False
            )
        else:
            self.register_parameter("bias", None)
        self._dense: torch.Tensor | None = None
        self._operand: Operand | None = None

    @classmethod
    def from_packed(cls, packed: PackedWeight, seed: int, bias: torch.Tensor | None, name: str) -> Self:
        """The layer that holds `packed`."""
        layer = cls(packed.spec(), seed, bias is not None, name, device="meta")
        layer.weight_codes, layer.weight_scales = packed.codes, packed.scales
        if bias is not None:
            layer.bias = nn.Parameter(bias.detach().clone(), requires_grad=False)
        return layer

    @property
    def packed(self) -> PackedWeight:
        """The weight as it is stored."""
        return self._kind.restore(self.weight_codes, self.weight_scales, self.spec, self.seed)

    def check(self) -> None:
        """Raise `LowbitError`, naming the layer, when its stored tensors cannot have been written."""
        self.packed.check(self.name)

    @property
    def runs(self) -> str:
        """What this layer does by its mode, kind and device: `cached`, `packed` or `kernel`."""
        device = self.weight_codes.device
        if self.mode == "auto" and device.type == "cpu":
            return "cached"
        if self.mode in ("auto", "kernel"):
            able = self._kind.kind in KERNEL_KINDS and (self.mode == "kernel" or common.runs_on(device))
            return "kernel" if able else "packed"
        return self.mode

    @property
    def caches(self) -> bool:
        """Whether this layer keeps its dequantised weight."""
        return self.runs == "cached"

    def dense(self, dtype: torch.dtype) -> torch.Tensor:
        """W (out, in) in `dtype`, from the cache when this layer keeps one."""
        if self._dense is not None and self._dense.dtype == dtype:
            return self._dense
        with torch.no_grad():
            weight = self._multiplicand().to(dtype)
        if self.caches:
            self._dense = weight
        return weight

    def _multiplicand(self) -> torch.Tensor:
        return self.packed.dequantize()

    def set_mode(self, mode: Mode) -> None:
        """Choose how W is used. Raises `LowbitError` for an unknown mode."""
        if mode not in MODES:
            raise LowbitError(f"mode `{mode}` is not known; known: {', '.join(MODES)}")
        self.mode = mode
        self._forget()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.runs == "kernel" and (self.mode == "kernel" or x.dtype in common.DTYPES):
            operand = self._operand
            if operand is None or operand.dtype != x.dtype:
                operand = self._prepare(x)
            return run(x, operand, self.bias)
        return F.linear(x, self.dense(x.dtype), self.bias)

    # Not traced: a compiled graph finds the layout made, or breaks here once.
    @torch.compiler.disable
    def _prepare(self, x: torch.Tensor) -> Operand:
        """The weight in the layout of the kernels, made at the first call with this dtype."""
        if not common.runs_on(self.weight_codes.device):
            raise LowbitError(
                f"{self.name}: mode `kernel` needs a CUDA or ROCm device and Triton, the layer is on "
                f"{self.weight_codes.device}; use `auto`"
            )
        common.check(x.dtype in common.DTYPES, self.name, "input", f"is {x.dtype}; give float16 or bfloat16")
        with torch.no_grad():
            self._operand = prepare(self.packed, x.dtype)
        return self._operand

    def _forget(self) -> None:
        self._dense = self._operand = None

    def extra_repr(self) -> str:
        spec = ", ".join(f"{key}={value}" for key, value in self.spec.items() if key != "shape")
        sizes = f"in={self.in_features}, out={self.out_features}, bias={self.bias is not None}"
        return f"{sizes}, {spec}, runs={self.runs}"

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> LowbitLinear:
        before = {name: getattr(self, name) for name in self.exact}
        super()._apply(fn, recurse)
        self._forget()
        # model.to(bfloat16) moves and casts every floating tensor; the stored scales must keep their bits.
        for name, tensor in before.items():
            now = getattr(self, name)
            if now is not None and now.dtype != tensor.dtype:
                setattr(self, name, tensor.to(now.device))
        return self

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._forget()
        super()._load_from_state_dict(*args, **kwargs)


class PackedBitLinear(LowbitLinear):
    """A trained `lowbit.bitlinear.BitLinear`, packed: y = (a . C^T) level / s + b, where a are the int8
    codes of the tokens, after the RMS norm if the layer has one; see `lowbit.activations`.

    What `cached` keeps are the ternary codes in the dtype of x. Gradients pass straight through to x.
    """

    norm_weight: torch.Tensor | None
    stored = ("weight_codes", "weight_scales", "norm_weight")
    exact = ("weight_scales", "norm_weight")

    def __init__(
        self,
        spec: Spec,
        seed: int,
        bias: bool,
        name: str = "layer",
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(spec, seed, bias, name, device, dtype)
        self.norm_eps = spec.get("norm_eps")
        # While Transformers loads, the default dtype is that of the model.
        ones = torch.ones(self.in_features, device=device, dtype=torch.float32)
        self.register_buffer("norm_weight", None if self.norm_eps is None else ones)

    def check(self) -> None:
        super().check()
        if self.norm_weight is not None and not bool(torch.isfinite(self.norm_weight).all()):
            raise LowbitError(f"{self.name}: its norm_weight holds NaN or infinity; it is damaged")

    def _multiplicand(self) -> torch.Tensor:
        packed = self.packed
        assert isinstance(packed, BitWeight)
        return packed.trits

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = x
        if self.norm_weight is not None and self.norm_eps is not None:
            inner = activations.rms_norm(x, self.norm_weight, self.norm_eps)
        codes, scale = activations.quantize_tokens(inner)
        return activations.product(codes, scale, self.dense(x.dtype), self.weight_scales, self.bias, x.dtype)


def layer_class(spec: Spec) -> type[LowbitLinear]:
    """The module that runs a weight with this `spec`."""
    return PackedBitLinear if spec.get("kind") == BitWeight.kind else LowbitLinear


def set_mode(model: nn.Module, mode: Mode) -> int:
    """Set the mode of every `LowbitLinear` of `model` (`cached`, `packed`, `kernel` or `auto`); returns how
    many there are.
    """
    layers = [module for module in model.modules() if isinstance(module, LowbitLinear)]
    for layer in layers:
        layer.set_mode(mode)
    return len(layers)
