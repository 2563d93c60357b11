"""Slicing: masked = cut = saved and loaded, on all families, grouped queries, tied and untied heads."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import lowbit
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
)

from stages.adapt.shrink.slicing import apply_mask, cut, probe, verify
from stages.adapt.shrink.units import FFN, GROUPS, Kept, Units
from stages.common.checkpoint import load_model
from stages.common.errors import UserError

SHAPES: dict[str, Any] = {
    "llama": (LlamaConfig, {}),
    "llama-biases": (LlamaConfig, {"attention_bias": True, "mlp_bias": True}),
    "mistral": (MistralConfig, {"sliding_window": 6}),
    "qwen2": (Qwen2Config, {}),
    "qwen2-windows": (
        Qwen2Config,
        {"use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1},
    ),
    "qwen3": (Qwen3Config, {"head_dim": 12}),
    "qwen3-biases": (Qwen3Config, {"head_dim": 12, "attention_bias": True}),
}
# Per layer of three: neurons and KV groups that stay.
PER_LAYER = Kept((0, 1, 2), ((0, 3, 4, 9), tuple(range(5, 21)), (2,)), ((2,), (0, 1, 3), (0, 1, 2, 3)))
UNIFORM = Kept((0, 1, 2), ((0, 3, 4, 9), (1, 2, 20, 23), (5, 6, 7, 8)), ((2, 3), (0, 1), (0, 3)))
WITHOUT_A_LAYER = Kept((0, 2), ((1, 2, 5), (), (0, 7)), ((0, 2), (), (1,)))
ALIKE_WITHOUT_A_LAYER = Kept((0, 2), ((1, 2, 5), (), (0, 7, 8)), ((0, 2), (), (1, 3)))


def model_of(shape: str, tied: bool = False, dtype: torch.dtype = torch.float32) -> Any:
    """Three layers of 24 neurons and 4 KV groups of 2 query heads; every weight and bias is random."""
    kind, more = SHAPES[shape]
    config = kind(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=24,
        num_hidden_layers=3,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=64,
        tie_word_embeddings=tied,
        bos_token_id=None,
        eos_token_id=None,
        **more,
    )
    torch.manual_seed(1)
    model: Any = AutoModelForCausalLM.from_config(config, dtype=dtype)
    for name, value in model.named_parameters():
        torch.nn.init.normal_(value, 1.0 if "norm" in name else 0.0, 0.3)
    return model.eval()


def generated(model: Any, **options: Any) -> list[int]:
    ids = probe(model.config, 1, 10)
    kwargs = {"max_new_tokens": 12, "do_sample": False, "pad_token_id": 0, **options}
    return model.generate(ids, **kwargs)[0].tolist()


@pytest.mark.parametrize("kept", [PER_LAYER, UNIFORM, WITHOUT_A_LAYER, ALIKE_WITHOUT_A_LAYER])
@pytest.mark.parametrize(
    ("shape", "tied"),
    [(shape, tied) for shape in SHAPES for tied in (True, False) if "-" not in shape or tied],
)
def test_masked_is_cut_is_loaded_again(shape: str, tied: bool, kept: Kept, tmp_path: Path) -> None:
    model = model_of(shape, tied)
    before = copy.deepcopy(model)
    small = cut(model, kept)
    masked = copy.deepcopy(model)
    apply_mask(masked, kept)
    tokens = probe(model.config)
    assert verify(masked, small, tokens) < 1e-5
    assert verify(before, model, tokens) == 0, "cut changed its source"
    with pytest.raises(RuntimeError, match="not one function"):
        verify(model, small, tokens)

    small.save_pretrained(tmp_path / "small")
    loaded = load_model(tmp_path / "small")
    assert verify(small, loaded, tokens) == 0
    assert type(loaded) is type(small)
    assert (loaded.lm_head.weight is loaded.model.embed_tokens.weight) is tied
    assert generated(loaded) == generated(small) == generated(small, use_cache=False) == generated(masked)

    alike = kept in (UNIFORM, ALIKE_WITHOUT_A_LAYER)
    family = shape.partition("-")[0]
    assert loaded.config.model_type == (family if alike else f"lowbit_{family}")
    assert type(loaded).__module__.startswith("transformers." if alike else "lowbit.")


@pytest.mark.parametrize("shape", SHAPES)
def test_costs_are_the_parameters_that_a_cut_removes(shape: str) -> None:
    model = model_of(shape)
    units = Units.of(model.config)

    def size(kept: Kept) -> int:
        return sum(value.numel() for value in cut(model, kept).parameters())

    whole = Kept.all(units)
    assert size(whole) == sum(value.numel() for value in model.parameters())
    for kept in (PER_LAYER, UNIFORM):
        assert size(whole) - size(kept) == units.removed(kept)
    assert Units.of(model.config, [FFN]).removed(PER_LAYER) == (20 + 8 + 23) * units.layers[0].ffn_cost
    assert Units.of(model.config, [GROUPS]).removed(PER_LAYER) == (3 + 1) * units.layers[0].group_cost
    assert (
        units.gateable == Units.of(model.config, [FFN]).gateable + Units.of(model.config, [GROUPS]).gateable
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_gating_the_inputs_is_masking(shape: str) -> None:
    """What all methods mean by a gate: columns of down_proj, and of o_proj for all queries of a group."""
    model = model_of(shape)
    masked, gated = copy.deepcopy(model), copy.deepcopy(model)
    apply_mask(masked, PER_LAYER)
    for at, layer in enumerate(gated.model.layers):
        width = layer.self_attn.o_proj.in_features // 4
        neurons, heads = torch.zeros(24), torch.zeros(4, width)
        neurons[list(PER_LAYER.ffn[at])] = 1
        heads[list(PER_LAYER.groups[at])] = 1
        for linear, gate in ((layer.mlp.down_proj, neurons), (layer.self_attn.o_proj, heads.flatten())):
            linear.register_forward_pre_hook(lambda _, args, gate=gate: (args[0] * gate,))
    verify(masked, gated, probe(model.config))


def test_a_mask_leaves_nothing_of_a_closed_unit() -> None:
    masked = model_of("llama-biases")
    apply_mask(masked, PER_LAYER)
    for at, layer in enumerate(masked.model.layers):
        closed = [neuron for neuron in range(24) if neuron not in PER_LAYER.ffn[at]]
        for linear in (layer.mlp.gate_proj, layer.mlp.up_proj):
            assert not linear.weight[closed].any() and not linear.bias[closed].any()
            assert linear.weight[list(PER_LAYER.ffn[at])].all()
        assert not layer.mlp.down_proj.weight[:, closed].any() and layer.mlp.down_proj.bias.all()


def test_verify_leaves_the_mode_as_it_was() -> None:
    model = model_of("llama").train()
    assert verify(model, model, probe(model.config)) == 0
    assert model.training


def test_a_cut_model_can_be_cut_again() -> None:
    model = model_of("qwen2", tied=True)
    once = cut(model, PER_LAYER)
    units = Units.of(once.config)
    assert [(layer.ffn, layer.groups) for layer in units.layers] == [(4, 1), (16, 3), (1, 4)]
    again = Kept((0, 1, 2), ((1, 3), (0, 15), (0,)), ((0,), (2,), (1, 2)))
    both = Kept((0, 1, 2), ((3, 9), (5, 20), (2,)), ((2,), (3,), (1, 2)))
    assert verify(cut(model, both), cut(once, again), probe(model.config)) == 0


def test_dtype_mode_generation_settings_and_tying_survive() -> None:
    model = model_of("llama", tied=True, dtype=torch.bfloat16).train()
    model.generation_config.temperature = 0.5
    model.set_attn_implementation("eager")
    small = cut(model, PER_LAYER)
    assert {value.dtype for value in small.parameters()} == {torch.bfloat16}
    assert small.training and all(value.requires_grad for value in small.parameters())
    assert small.generation_config.temperature == 0.5
    assert small.config._attn_implementation == "eager"
    assert small.lm_head.weight is small.model.embed_tokens.weight
    assert small.lm_head.weight.data_ptr() != model.lm_head.weight.data_ptr()
    small(probe(model.config)).logits.float().sum().backward()
    assert all(value.grad is not None for value in small.parameters())
    masked = copy.deepcopy(model)
    apply_mask(masked, PER_LAYER)
    verify(masked, small, probe(model.config))
    assert small.training and masked.dtype == torch.bfloat16, "verify changed what it looked at"


def test_uniform_heads_that_the_stock_llama_refuses_load_all_the_same(tmp_path: Path) -> None:
    model = model_of("llama")
    units = Units.of(model.config)
    assert units.uniform_groups == frozenset({1, 2, 4})
    three = replace(Kept.all(units), groups=((0, 1, 2),) * 3)
    small = cut(model, three)
    assert small.config.model_type == "lowbit_llama"
    small.save_pretrained(tmp_path)
    assert verify(small, load_model(tmp_path), probe(model.config)) == 0
    assert cut(model_of("qwen2"), three).config.model_type == "qwen2"


def test_a_plain_cut_of_neurons_adds_nothing_to_the_configuration(tmp_path: Path) -> None:
    model = model_of("qwen2")
    small = cut(model, replace(Kept.all(Units.of(model.config)), ffn=((0, 1, 2),) * 3))
    for name, one in (("before", model), ("after", small)):
        one.save_pretrained(tmp_path / name)
    before, after = (
        json.loads((tmp_path / name / "config.json").read_text()) for name in ("before", "after")
    )
    assert after == before | {"intermediate_size": 3}


def test_a_quantised_base_is_refused() -> None:
    model = lowbit.quantize_model(model_of("llama"), "int8")
    for call in (cut, apply_mask):
        with pytest.raises(UserError, match="a cut needs the dense weights"):
            call(model, PER_LAYER)


def test_a_family_without_rules_is_refused_by_name() -> None:
    with pytest.raises(UserError, match=r"family `gpt2` has no slicing rules.*llama, mistral, qwen2, qwen3"):
        Units.of(GPT2Config(n_layer=1))


def test_a_selection_of_another_model_is_refused() -> None:
    with pytest.raises(ValueError, match="ffn of layer 0"):
        cut(model_of("llama"), replace(PER_LAYER, ffn=((24,), (0,), (0,))))
