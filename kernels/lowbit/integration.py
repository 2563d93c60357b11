"""The quantiser `lowbit` of Transformers: packed checkpoints load with plain `from_pretrained`, dense ones
are quantised as soon as they have loaded, given `quantization_config=LowbitConfig(plan="higgs-4bit")`.

Imported only together with `transformers.quantizers.auto`, see `lowbit.registration`.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers.quantizers.auto import (
    AUTO_QUANTIZER_MAPPING,
    register_quantization_config,
    register_quantizer,
)
from transformers.quantizers.base import HfQuantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from lowbit import recipes
from lowbit.bitlinear import BitLinear
from lowbit.errors import LowbitError
from lowbit.hadamard import SIGNS
from lowbit.linear import LowbitLinear, layer_class
from lowbit.recipes import Plan, Spec
from lowbit.weight import Shape

if TYPE_CHECKING:
    from transformers import PreTrainedModel

METHOD = "lowbit"
FORMAT = "packed"
FORMAT_VERSION = 1


class LowbitConfig(QuantizationConfigMixin):
    """The `quantization_config` of a packed checkpoint, or, with `plan`, how to quantise a dense one on
    loading.

    `plan` is one as `quantize_folder` takes it. `layers` maps the name of every quantised linear layer to its
    specification (`kind`, `shape`, and what the kind needs); all other tensors are stored as they are.
    `seed` and `signs` define the rotation of HIGGS layers. Raises `LowbitError` for a format, version or
    generator that this library does not know.
    """

    def __init__(
        self,
        layers: dict[str, Spec] | None = None,
        seed: int = 0,
        signs: str = SIGNS,
        format: str = FORMAT,  # noqa: A002
        format_version: int = FORMAT_VERSION,
        quant_method: Any = METHOD,
        plan: Plan | None = None,
        **unknown: Any,
    ) -> None:
        if plan is not None and layers:
            raise LowbitError(
                "quantization_config: `plan` is for a dense checkpoint, `layers` for a packed one"
            )
        if format_version > FORMAT_VERSION:
            raise LowbitError(
                f"the checkpoint has format version {format_version}, this lowbit reads up to "
                f"{FORMAT_VERSION}; update lowbit"
            )
        for what, given, known in (("format", format, FORMAT), ("sign generator", signs, SIGNS)):
            if given != known:
                raise LowbitError(f"the checkpoint has {what} `{given}`; this lowbit knows `{known}`")
        if unknown:
            raise LowbitError(f"quantization_config: unknown key `{min(unknown)}`")
        for name, spec in (layers or {}).items():
            kind = recipes.kind_of(spec, name)
            try:
                kind.layout(spec)
            except LowbitError as error:
                raise LowbitError(f"{name}: {error}") from error
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise LowbitError(f"{name}: quantization_config is damaged ({error!r})") from error
        self.quant_method, self.format, self.format_version = quant_method, format, format_version
        self.seed, self.signs, self.layers = seed, signs, copy.deepcopy(layers or {})
        if plan is not None:
            self.plan = plan


class LowbitQuantizer(HfQuantizer):
    """Replaces the layers that the configuration names by `LowbitLinear` and checks what was loaded into
    them; quantises a dense model when the configuration has a plan.
    """

    requires_calibration = False
    quantization_config: LowbitConfig

    def validate_environment(self, *args: Any, **kwargs: Any) -> None:  # noqa: ARG002
        if not self.pre_quantized and not hasattr(self.quantization_config, "plan"):
            raise LowbitError(
                'the checkpoint is not packed; give LowbitConfig(plan="higgs-4bit") or another plan'
            )

    def _process_model_before_weight_loading(self, model: PreTrainedModel, **kwargs: Any) -> None:  # noqa: ARG002
        for name, spec in self.quantization_config.layers.items():
            path = _resolve(model, name)
            linear = model.get_submodule(path)
            if not isinstance(linear, nn.Linear) or tuple(linear.weight.shape) != tuple(spec["shape"]):
                raise LowbitError(
                    f"{name}: the checkpoint declares a linear layer of {spec['shape']}, "
                    f"the model has {linear}"
                )
            with torch.device("meta"):
                layer = layer_class(spec)(
                    spec,
                    self.quantization_config.seed,
                    linear.bias is not None,
                    name,
                    dtype=linear.weight.dtype,
                )
            model.set_submodule(path, layer)

    def _process_model_after_weight_loading(self, model: PreTrainedModel, **kwargs: Any) -> PreTrainedModel:  # noqa: ARG002
        if not self.pre_quantized:
            return self._quantize(model)
        for layer in model.modules():
            if not isinstance(layer, LowbitLinear):
                continue
            for part in layer.stored:
                # Transformers only warns about missing tensors and goes on with uninitialised memory.
                tensor = getattr(layer, part)
                if tensor is not None and not getattr(tensor, "_is_hf_initialized", False):
                    raise LowbitError(
                        f"{layer.name}: the checkpoint has no usable tensor {layer.name}.{part}"
                    )
            layer.check()
        return model

    def _quantize(self, model: PreTrainedModel) -> PreTrainedModel:
        """Quantise what was loaded by the plan, of which the configuration then holds the layers."""
        config = self.quantization_config
        config.layers = recipes.specs(config.plan, *linears(model))
        replace(model, config.layers, config.seed)
        del config.plan
        return model

    def is_serializable(self) -> bool:
        return True

    @property
    def is_trainable(self) -> bool:
        return False


def register() -> None:
    """Put `lowbit` into the registries of Transformers, once."""
    if METHOD not in AUTO_QUANTIZER_MAPPING:
        register_quantization_config(METHOD)(LowbitConfig)
        register_quantizer(METHOD)(LowbitQuantizer)


def linears(model: PreTrainedModel) -> tuple[dict[str, Shape], frozenset[str]]:
    """All linear layers of `model` by name with (out, in), and which of them give the logits."""
    head = model.get_output_embeddings()
    found: dict[str, Shape] = {}
    heads = set()
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            found[name] = (module.out_features, module.in_features)
            if module is head:
                heads.add(name)
    return found, frozenset(heads)


def quantize_model(model: PreTrainedModel, plan: Plan, seed: int = 0) -> PreTrainedModel:
    """Quantise a loaded model in place by `plan` (as in `quantize_folder`) and return it; `save_pretrained`
    works.

    Layers outside the plan keep their dtype. Raises `LowbitError`.
    """
    if getattr(model.config, "quantization_config", None) is not None:
        raise LowbitError("the model is quantised already; load the unquantised one")
    if any(isinstance(module, BitLinear) for module in model.modules()):
        raise LowbitError("the model has BitLinear layers; lowbit.bitlinear.pack packs them and the rest")
    shapes, heads = linears(model)
    chosen = recipes.specs(plan, shapes, heads)
    replace(model, chosen, seed)
    return attach(model, chosen, seed)


def replace(model: PreTrainedModel, chosen: dict[str, Spec], seed: int) -> None:
    """Quantise the linear layers that `chosen` names, each by its specification, in place."""
    for name, spec in chosen.items():
        linear = model.get_submodule(name)
        assert isinstance(linear, nn.Linear)
        packed = recipes.pack(linear.weight, spec, seed, f"{name}.weight")
        model.set_submodule(name, LowbitLinear.from_packed(packed, seed, linear.bias, name))


def attach(model: PreTrainedModel, layers: dict[str, Spec], seed: int) -> PreTrainedModel:
    """Make Transformers see that `layers` of `model` are packed, so that `save_pretrained` says so."""
    if layers:
        config = LowbitConfig(layers, seed)
        model.config.quantization_config = config
        # nn.Module's annotations know tensors and modules only.
        state: Any = model
        state.hf_quantizer = LowbitQuantizer(config, pre_quantized=True)
        state.is_quantized, state.quantization_method = True, METHOD
    return model


def _resolve(model: PreTrainedModel, name: str) -> str:
    """The path of layer `name` in `model`, which may be the bare decoder of the saved model or the other
    way round.
    """
    prefix = f"{model.base_model_prefix}."
    known = dict(model.named_modules())
    for path in (name, name.removeprefix(prefix), prefix + name):
        if path in known:
            return path
    raise LowbitError(
        f"{name}: the checkpoint declares this layer, but {type(model).__name__} has none of that name"
    )


register()
