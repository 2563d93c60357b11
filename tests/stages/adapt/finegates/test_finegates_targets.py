"""What FineGates is put on, and what is refused before anything is replaced."""

from __future__ import annotations

from typing import Any

import lowbit
import pytest
import torch
from finegates_fakes import base, logits, wrapped
from peft import get_peft_model

from stages.adapt.finegates.config import FineGatesConfig
from stages.adapt.finegates.layer import GateLayer
from stages.common.errors import UserError


def test_exclude_modules_keeps_layers_whole() -> None:
    model = wrapped(exclude_modules=["layers.0.mlp.down_proj"])
    gated = [name for name, module in model.named_modules() if isinstance(module, GateLayer)]
    assert [name.partition("layers.")[2] for name in gated] == [
        "0.self_attn.o_proj",
        "1.self_attn.o_proj",
        "1.mlp.down_proj",
    ]
    objective = model.base_model.objective()
    # Two layers of two groups of 32 x 48 + 48 numbers with 16 x 32 of o_proj, and 64 neurons of 96.
    groups = 4 * ((16 + 8 + 8) * (32 + 1) + 16 * 32)
    assert objective.gateable == groups + 64 * 96
    scores = objective.scores()
    assert float(scores.ffn[0].min()) > float(scores.ffn[1].max())


def test_an_expression_picks_targets() -> None:
    model = wrapped(target_modules=r".*layers\.1\.mlp\.down_proj")
    gated = [name for name, module in model.named_modules() if isinstance(module, GateLayer)]
    assert [name.rpartition("layers.")[2] for name in gated] == ["1.mlp.down_proj"]


@pytest.mark.parametrize("mode", ["global", "uniform"])
@pytest.mark.parametrize("targets", [["q_proj", "down_proj"], r".*q_proj", ["gate_proj"]])
def test_what_cannot_be_cut_is_refused_by_name(mode: str, targets: Any) -> None:
    with pytest.raises(UserError, match=r"(q_proj|gate_proj) cannot be cut by gates of its own"):
        wrapped(mode=mode, target_modules=targets)


@pytest.mark.parametrize(
    ("targets", "changes", "match"),
    [
        (r".*(o|q)_proj", {}, "q_proj cannot be cut by gates of its own"),
        (r".*(o_proj|embed_tokens)", {}, "embed_tokens is a Embedding; only linear"),
        (r".*_proj", {"r": 2, "lora_modules": ["nonsense"]}, "lora_modules names nonsense, which"),
        (r".*(o|down)_proj", {"r": 2, "lora_modules": ["v_proj"]}, "names v_proj, which target_modules does"),
        (r".*q_proj", {"r": 2}, "none of the target modules q_proj has gates"),
        (["layers.9.mlp.down_proj", "o_proj"], {}, r"module layers.9.mlp.down_proj is not in the model"),
    ],
)
def test_what_is_refused_leaves_the_base_as_it_was(targets: Any, changes: Any, match: str) -> None:
    model = base()
    with pytest.raises(UserError, match=match):
        wrapped(model=model, target_modules=targets, **changes)
    assert not any(isinstance(module, GateLayer) for module in model.modules())
    with_gates = wrapped()
    before = logits(with_gates)
    with pytest.raises(UserError, match=match):
        with_gates.add_adapter("other", FineGatesConfig(target_modules=targets, **changes))
    layers = [module for module in with_gates.modules() if isinstance(module, GateLayer)]
    assert len(layers) == 4 and not any(layer.gated("other") for layer in layers)
    assert torch.equal(logits(with_gates), before)


def test_all_linear_layers_can_be_targeted_by_that_word() -> None:
    model = wrapped(target_modules="all-linear", r=2)
    assert sum(isinstance(module, GateLayer) for module in model.modules()) == 2 * 7
    with pytest.raises(UserError, match="cannot be cut by gates of its own"):
        wrapped(target_modules="all-linear")


class Packed(torch.nn.Linear):
    """A linear layer as 4-bit libraries make it: the weight is bytes."""

    def __init__(self) -> None:
        super().__init__(64, 32, bias=False)
        self.weight = torch.nn.Parameter(torch.zeros(1024, 1, dtype=torch.uint8), requires_grad=False)


@pytest.mark.parametrize("kind", ["global", "faithful"])
def test_a_quantised_base_is_refused_before_its_modules_are_listed(kind: str) -> None:
    packed = base()
    packed.model.layers[1].mlp.down_proj = Packed()
    with pytest.raises(UserError, match=r"quantised \(model.layers.1.mlp.down_proj.weight\); a cut needs"):
        wrapped(kind, packed)
    stored = lowbit.quantize_model(base(), "int8")
    declared = base()
    declared.config.quantization_config = {"quant_method": "bitsandbytes"}
    for model in (stored, declared):
        with pytest.raises(UserError, match=r"FineGates: quantised.*; a cut needs the dense weights"):
            wrapped(kind, model)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        (
            {"target_modules": ["down_proj", "up_projection"]},
            "up_projection is not in the model; it has q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, "
            "down_proj, lm_head",
        ),
        ({"target_modules": ["q_proj"], "r": 2}, "q_proj has gates; name down_proj or o_proj too"),
        ({"target_modules": r".*embed_tokens", "r": 2}, "embed_tokens is a Embedding; only linear"),
        ({"r": 2, "lora_modules": ["v_proj"]}, "lora_modules names v_proj, which target_modules does not"),
        ({"lora_modules": ["o_proj"]}, "without a rank"),
        ({"mode": "local"}, "mode `local` is not one of global, uniform, faithful"),
        ({"bias": "finegates_only"}, "bias `finegates_only` is not one of none, all"),
        ({"share": 0.95}, "share 0.95 is not within 0 and 0.9"),
        ({"sigma": 0.0}, "sigma 0.0 is not within"),
        ({"ramp": 0.0}, "ramp 0.0 is not within"),
    ],
)
def test_bad_configurations_are_refused(changes: dict[str, Any], match: str) -> None:
    with pytest.raises(UserError, match=match):
        wrapped(**changes)


def test_families_without_slicing_rules_are_refused_by_name() -> None:
    from transformers import AutoModelForCausalLM, GPT2Config

    model = AutoModelForCausalLM.from_config(GPT2Config(n_layer=1, n_embd=8, n_head=2, vocab_size=16))
    with pytest.raises(UserError, match="`gpt2` has no slicing rules"):
        get_peft_model(model, FineGatesConfig(target_modules=["c_proj"]))


def test_matrices_sit_where_they_are_asked_for() -> None:
    model = wrapped(r=3, target_modules=["q_proj", "o_proj", "down_proj"], lora_modules=["q_proj"])
    names = [name for name, _ in model.named_parameters() if "finegates_" in name]
    assert {name.split("finegates_")[1].split(".")[0] for name in names} == {"mu", "A", "B"}
    beside = [name for name in names if "finegates_A" in name]
    assert len(beside) == 2 and all("q_proj" in name for name in beside)
