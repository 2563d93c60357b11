"""Decoders whose layers have widths of their own: FFN neurons, query heads, key-value heads.

`config.json` has a model type of ours (`lowbit_llama`, ...) and, under `per_layer_config`, what differs from
the widths of the stock keys, by layer: a field of Transformers that the stock modelling code does not read.
These classes build every layer from its own configuration; all else is the family's, the names of the
weights included.
Imported when Transformers first asks for one of them, see `lowbit.registration`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from huggingface_hub.dataclasses import strict
from huggingface_hub.errors import StrictDataclassError
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedConfig,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)
from transformers.models.llama.modeling_llama import LlamaDecoderLayer
from transformers.models.mistral.modeling_mistral import MistralDecoderLayer
from transformers.models.qwen2.modeling_qwen2 import Qwen2DecoderLayer
from transformers.models.qwen3.modeling_qwen3 import Qwen3DecoderLayer

from lowbit.errors import LowbitError
from lowbit.registration import PREFIX

FIELD = "per_layer_config"


@dataclass(frozen=True)
class Widths:
    """What one layer may have of its own, by the keys of `config.json`."""

    intermediate_size: int
    num_attention_heads: int
    num_key_value_heads: int

    def check(self, layer: int) -> None:
        """Raise `LowbitError` when no layer can have these widths."""
        for key, value in asdict(self).items():
            if not isinstance(value, int) or value < 1:
                raise LowbitError(f"{FIELD}: layer {layer}: `{key}` is {value!r}; must be 1 or more")
        if self.num_attention_heads % self.num_key_value_heads:
            raise LowbitError(
                f"{FIELD}: layer {layer}: {self.num_attention_heads} query heads are no multiple of "
                f"{self.num_key_value_heads} key-value heads"
            )


KEYS = tuple(Widths.__dataclass_fields__)


class _PerLayer:
    """What the configurations share: checks of what they were given."""

    def __post_init__(self, **kwargs: Any) -> None:
        per_layer = kwargs.get(FIELD) or {}
        for layer, own in per_layer.items():
            if unknown := sorted(set(own) - set(KEYS)):
                raise LowbitError(
                    f"{FIELD}: layer {layer}: key `{unknown[0]}`; this lowbit knows {', '.join(KEYS)}"
                )
        super().__post_init__(**kwargs)  # type: ignore[misc]
        if per_layer and getattr(self, "head_dim", None) is None:
            raise LowbitError("config.json: `head_dim` is missing; the widths of the layers do not tell it")
        for layer, widths in enumerate(widths_of(self)):
            widths.check(layer)

    def validate_architecture(self) -> None:
        """Any number of heads will do, because `head_dim` is given."""


@strict
class LowbitLlamaConfig(_PerLayer, LlamaConfig):
    """Llama with widths by layer."""

    model_type = f"{PREFIX}llama"


@strict
class LowbitMistralConfig(_PerLayer, MistralConfig):
    """Mistral with widths by layer."""

    model_type = f"{PREFIX}mistral"


@strict
class LowbitQwen2Config(_PerLayer, Qwen2Config):
    """Qwen2 with widths by layer."""

    model_type = f"{PREFIX}qwen2"
    head_dim: int | None = None


@strict
class LowbitQwen3Config(_PerLayer, Qwen3Config):
    """Qwen3 with widths by layer."""

    model_type = f"{PREFIX}qwen3"


class _Layerwise:
    """The stock model around layers that are each built from their own configuration."""

    layer_class: ClassVar[type[nn.Module]]

    def __init__(self, config: PreTrainedConfig) -> None:
        layers, config.num_hidden_layers = config.num_hidden_layers, 0
        try:
            super().__init__(config)  # type: ignore[call-arg]
        finally:
            config.num_hidden_layers = layers
        model: Any = self
        for index, own in enumerate(config.per_layer_config):
            layer = self.layer_class(own, index)
            module: Any
            for module in layer.modules():
                if hasattr(module, "config"):
                    # Else a change of the attention implementation would not reach it.
                    module.config = config
            model.model.layers.append(layer)
        model.post_init()


class LowbitLlamaForCausalLM(_Layerwise, LlamaForCausalLM):
    """Llama with widths by layer."""

    config_class = LowbitLlamaConfig
    layer_class = LlamaDecoderLayer


class LowbitMistralForCausalLM(_Layerwise, MistralForCausalLM):
    """Mistral with widths by layer."""

    config_class = LowbitMistralConfig
    layer_class = MistralDecoderLayer


class LowbitQwen2ForCausalLM(_Layerwise, Qwen2ForCausalLM):
    """Qwen2 with widths by layer."""

    config_class = LowbitQwen2Config
    layer_class = Qwen2DecoderLayer


class LowbitQwen3ForCausalLM(_Layerwise, Qwen3ForCausalLM):
    """Qwen3 with widths by layer."""

    config_class = LowbitQwen3Config
    layer_class = Qwen3DecoderLayer


MODELS = (LowbitLlamaForCausalLM, LowbitMistralForCausalLM, LowbitQwen2ForCausalLM, LowbitQwen3ForCausalLM)


def widths_of(config: Any) -> list[Widths]:
    """The widths of every layer of the decoder that `config` describes, stock or ours."""
    return [Widths(*(getattr(own, key) for key in KEYS)) for own in config.per_layer_config]


def head_dim(config: Any) -> int:
    """Width of one attention head, the same in all layers."""
    given = getattr(config, "head_dim", None)
    return int(given or config.hidden_size // widths_of(config)[0].num_attention_heads)


def resized(config: Any, widths: Sequence[Widths], layers: Sequence[int]) -> PreTrainedConfig:
    """The configuration of a model like `config` made of its `layers`, which get these `widths`.

    It is a stock one where all layers are alike and the family accepts them so, and one of ours otherwise.
    Raises `LowbitError` for a family without such a class and for impossible widths.
    """
    family = str(config.model_type).removeprefix(PREFIX)
    classes = {model.config_class.model_type.removeprefix(PREFIX): model.config_class for model in MODELS}
    if family not in classes:
        raise LowbitError(f"model family `{config.model_type}`: lowbit has no class with widths by layer")
    for layer, own in enumerate(widths):
        own.check(layer)
    given = config.to_dict()
    for key in ("model_type", "architectures", FIELD):
        given.pop(key, None)
    given |= {key: max(getattr(own, key) for own in widths) for key in KEYS}
    given["num_hidden_layers"] = len(layers)
    if given.get("layer_types"):
        given["layer_types"] = [given["layer_types"][layer] for layer in layers]
    head = head_dim(config)
    if len(set(widths)) > 1 or head * widths[0].num_attention_heads != config.hidden_size:
        given["head_dim"] = head
    if len(set(widths)) == 1:
        try:
            return AutoConfig.for_model(family, **given)
        except StrictDataclassError:
            pass  # Llama wants a hidden size that its query heads divide; ours does not
    given[FIELD] = {layer: asdict(own) for layer, own in enumerate(widths)}
    return classes[family](**given)


def with_layers(config: Any, layers: Sequence[int]) -> PreTrainedConfig:
    """The configuration of a model of only these `layers` of `config`, as `resized` gives it."""
    widths = widths_of(config)
    return resized(config, [widths[layer] for layer in layers], layers)


def register() -> None:
    """Put the classes into the registries of Transformers."""
    for model in MODELS:
        config = model.config_class
        AutoConfig.register(config.model_type, config, exist_ok=True)
        AutoModelForCausalLM.register(config, model, exist_ok=True)


register()
