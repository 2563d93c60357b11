"""FineGates keeps peft's contract: wrap, train, save, load, merge, several adapters, targets."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from finegates_fakes import ALL, CONFIGS, IDS, base, logits, wrapped
from peft import PeftConfig, PeftModel

from stages.adapt.finegates.config import FineGatesConfig
from stages.adapt.finegates.gates import threshold
from stages.adapt.finegates.layer import GateLayer
from stages.adapt.finegates.register import register
from stages.common.errors import UserError

register()
QKV = {"q_proj", "k_proj", "v_proj"}


def loss(model: Any) -> torch.Tensor:
    return model(input_ids=IDS, labels=IDS, use_cache=False).loss


def stir(model: Any, seed: int = 0, adapter: str = "default") -> None:
    """Give every parameter of an adapter another value."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in model.named_parameters():
        if "finegates_" in name and name.endswith(adapter):
            value.data += 0.7 * torch.randn(value.shape, generator=generator)


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_fresh_adapter_is_the_base(kind: str) -> None:
    before = logits(base())
    model = wrapped(kind)
    assert torch.equal(logits(model), before)
    with torch.no_grad():
        known = float(loss(base().train()))
        assert float(loss(model.train())) == pytest.approx(known, rel=0.01)
        model.base_model.set_step(0, 100)
        assert float(loss(model)) == pytest.approx(known, rel=0.01)


@pytest.mark.parametrize("kind", CONFIGS)
def test_saved_and_loaded_it_is_the_same(kind: str, tmp_path: Path) -> None:
    model = wrapped(kind)
    stir(model)
    expected = logits(model)
    assert not torch.allclose(expected, logits(base()), atol=1e-3)
    model.save_pretrained(tmp_path, save_embedding_layers=False)
    config = PeftConfig.from_pretrained(tmp_path)
    assert isinstance(config, FineGatesConfig)
    assert config.mode == CONFIGS[kind].get("mode", "global")
    again = PeftModel.from_pretrained(base(), tmp_path)
    assert torch.equal(logits(again), expected)
    assert not any(value.requires_grad for value in again.parameters())
    trained = PeftModel.from_pretrained(base(), tmp_path, is_trainable=True)
    names = [name for name, value in trained.named_parameters() if value.requires_grad]
    assert names and all("finegates_" in name for name in names)


@pytest.mark.parametrize("kind", CONFIGS)
def test_merged_it_is_the_same_in_the_bases_classes(kind: str) -> None:
    model = wrapped(kind)
    stir(model)
    expected = logits(model)
    merged = model.merge_and_unload(safe_merge=True)
    assert type(merged) is type(base())
    assert not any(isinstance(module, GateLayer) for module in merged.modules())
    assert not merged.get_decoder()._forward_pre_hooks
    torch.testing.assert_close(logits(merged), expected, rtol=0, atol=2e-5)
    assert loss(merged.train()).isfinite()


def test_merged_and_unmerged_the_base_is_untouched() -> None:
    model = wrapped("beside")
    stir(model)
    expected, before = logits(model), copy.deepcopy(model.state_dict())
    model.merge_adapter()
    torch.testing.assert_close(logits(model), expected, rtol=0, atol=2e-5)
    with model.disable_adapter():
        assert torch.equal(logits(model), logits(base()))
    model.unmerge_adapter()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(logits(model), expected)


def test_unload_gives_the_base_back() -> None:
    model = wrapped("beside")
    stir(model)
    assert torch.equal(logits(model.unload()), logits(base()))


def test_a_broken_adapter_is_not_merged_safely() -> None:
    model = wrapped("beside")
    model.base_model.model.model.layers[0].self_attn.o_proj.finegates_B["default"].data[0, 0] = float("nan")
    with pytest.raises(ValueError, match="NaN or infinity"):
        model.merge_adapter(safe_merge=True)


def test_several_adapters_on_one_base() -> None:
    model = wrapped("global")
    stir(model)
    first = logits(model)
    model.add_adapter("other", FineGatesConfig(r=2, target_modules=ALL, seed=5))
    assert torch.equal(logits(model), first)
    stir(model, seed=1, adapter="other")
    model.set_adapter("other")
    second = logits(model)
    assert not torch.allclose(second, first, atol=1e-3)
    names = [name for name, value in model.named_parameters() if value.requires_grad]
    assert names and all(name.endswith("other") for name in names)
    model.base_model.set_step(5, 10)
    loss(model.train()).backward()
    model.set_adapter("default")
    assert torch.equal(logits(model), first)
    with model.disable_adapter():
        assert torch.equal(logits(model), logits(base()))
    model.delete_adapter("default")
    model.set_adapter("other")
    assert torch.equal(logits(model), second)


@pytest.mark.parametrize("mode", ["global", "faithful"])
@pytest.mark.parametrize("together", [True, False])
def test_several_active_adapters_merge_into_what_they_are_together(mode: str, together: bool) -> None:
    """Gates of one adapter act on the matrices of the other too, in whatever order they are merged."""
    changes: dict[str, Any] = {"mode": mode, "r": 2, "target_modules": ALL}
    model = wrapped("beside", mode=mode)
    model.add_adapter("other", FineGatesConfig(seed=5, **changes))
    model.base_model.set_adapter(["default", "other"])
    stir(model)
    stir(model, seed=1, adapter="other")
    expected, before = logits(model), copy.deepcopy(model.state_dict())
    if together:
        model.merge_adapter()
    else:
        model.merge_adapter(["other"])
        with pytest.warns(UserWarning, match="Already following adapters were merged other"):
            model.merge_adapter(["default"])
    torch.testing.assert_close(logits(model), expected, rtol=0, atol=2e-5)
    model.unmerge_adapter()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(logits(model), expected)


def test_a_name_that_is_used_again_begins_anew() -> None:
    model = wrapped("global")
    model.add_adapter("other", FineGatesConfig(seed=5))
    model.set_adapter("other")
    stir(model, adapter="other")
    picked = model.base_model.pick(adapter="other")
    assert not torch.equal(logits(model), logits(base()))
    model.add_adapter("third", FineGatesConfig())
    assert model.base_model.objective("other").picked, "an adapter more changes those that are there"
    model.delete_adapter("other")
    model.add_adapter("other", FineGatesConfig(seed=5))
    model.set_adapter("other")
    assert torch.equal(logits(model), logits(base()))
    assert model.base_model.pick(adapter="other") != picked


def test_matrices_begin_the_same_whatever_torch_drew_before() -> None:
    torch.manual_seed(1)
    first = wrapped("beside").state_dict()
    model = base()
    torch.manual_seed(2)
    second = wrapped("beside", model).state_dict()
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    names = [name for name in first if "finegates_A" in name and first[name].shape == (2, 32)]
    assert not torch.equal(first[names[0]], first[names[1]])


def test_only_biases_that_the_architecture_has_are_trained() -> None:
    for family, bias, names in (("qwen2", "all", QKV), ("llama", "all", set()), ("qwen2", "none", set())):
        model = wrapped(bias=bias, model=base(family))
        trained = [name for name, value in model.named_parameters() if value.requires_grad]
        assert {name.split(".")[-2] for name in trained if name.endswith("bias")} == names


def test_trained_biases_are_saved(tmp_path: Path) -> None:
    model = wrapped(bias="all")
    for name, value in model.named_parameters():
        if name.endswith("bias"):
            value.data += 0.3
    model.save_pretrained(tmp_path, save_embedding_layers=False)
    assert torch.equal(logits(PeftModel.from_pretrained(base(), tmp_path)), logits(model))


def test_gradients_reach_every_gate_near_the_threshold_and_no_other() -> None:
    model = wrapped(share=0.5).train()
    objective, sigma = model.base_model.objective(), 0.3
    for layer in objective.layers:
        generator = torch.Generator().manual_seed(layer.at or 0)
        layer.gates("default")[0].data.copy_(20 * sigma * torch.randn(layer.units, generator=generator))
    model.base_model.set_step(9, 10)
    loss(model).backward()
    mu = torch.cat([layer.gates("default")[0].detach() for layer in objective.layers])
    gradient = torch.cat([layer.gates("default")[0].grad for layer in objective.layers])
    tau = threshold(mu, objective.cost_U, sigma, 0.5 * objective.gateable)
    widths = (mu - tau).abs() / sigma
    near, far = widths < 3, widths > 16
    assert int(near.sum()) > 5 and int(far.sum()) > 20
    assert bool((gradient[near] != 0).all())
    assert not bool(gradient[far].any())
    assert all(value.grad is None for name, value in model.named_parameters() if "finegates_" not in name)


def test_gates_stay_in_fp32_under_autocast() -> None:
    model = wrapped().train()
    model.base_model.set_step(9, 10)
    model(input_ids=IDS)
    fine = [drawn for drawn, _ in _drawn(model)]
    with torch.autocast("cpu", torch.bfloat16):
        found = model(input_ids=IDS)
    assert found.logits.dtype == torch.bfloat16
    for first, (second, _) in zip(fine, _drawn(model), strict=True):
        assert second.dtype == torch.float32
        assert torch.equal(first, second)


def test_gates_are_fp32_on_a_bf16_base() -> None:
    model = wrapped("beside", base().to(torch.bfloat16))
    ours = [value for name, value in model.named_parameters() if "finegates_" in name]
    assert {value.dtype for value in ours} == {torch.float32}
    assert torch.equal(logits(model), logits(base().to(torch.bfloat16)))
    stir(model)
    assert logits(model).dtype == torch.bfloat16
    assert model.merge_and_unload().dtype == torch.bfloat16


def test_a_bf16_input_meets_fp32_gates() -> None:
    model = wrapped("global", base().to(torch.bfloat16))
    layer = model.base_model.model.model.layers[0].mlp.down_proj
    mu_U = torch.linspace(0.001, 0.999, 64)
    layer.gates("default")[0].data.copy_(mu_U)
    x = torch.randn(50, 64, generator=torch.Generator().manual_seed(1)).to(torch.bfloat16)
    with torch.no_grad():
        assert torch.equal(layer(x), layer.base_layer((x.float() * mu_U).to(torch.bfloat16)))


def _drawn(model: Any) -> list[Any]:
    return [module._drawn["default"] for module in model.modules() if isinstance(module, GateLayer)]


def test_a_model_in_evaluation_draws_no_gates() -> None:
    model = wrapped()
    layers = [module for module in model.modules() if isinstance(module, GateLayer)]
    assert not any(layer.training for layer in layers)
    model.base_model.set_step(9, 10)
    logits(model)
    assert not any(layer._drawn for layer in layers)


def test_evaluation_forgets_the_drawn_gates() -> None:
    model = wrapped().train()
    model.base_model.set_step(9, 10)
    loss(model)
    before = logits(model)
    assert torch.equal(before, logits(base()))
    again = copy.deepcopy(model)
    again.train()
    assert torch.equal(loss(again), loss(model.train()))


def test_a_model_in_training_can_be_copied() -> None:
    model = wrapped("beside").train()
    model.base_model.set_step(9, 10)
    loss(model).backward()
    again = copy.deepcopy(model)
    assert torch.equal(loss(again), loss(model))
    stir(again)
    assert not torch.equal(loss(again), loss(model))


def test_fixed_gates_are_where_the_layer_is() -> None:
    model = wrapped()
    stir(model)
    model.base_model.pick()
    layer = model.base_model.objective().layers[0]
    layer.to("meta")
    columns, _ = layer.evaluated("default")
    assert columns is not None and columns.device.type == "meta"
    first, second = (layer._fixed["default"][0] for _ in range(2) if layer.evaluated("default"))
    assert first is second and first.device.type == "meta"


@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing(reentrant: bool) -> None:
    plain, model = wrapped(share=0.5).train(), wrapped(share=0.5).train()
    model.enable_input_require_grads()
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    for each in (plain, model):
        each.base_model.set_step(9, 10)
    if reentrant:
        with pytest.raises(UserError, match="use_reentrant=True walks the graph of the gates once per layer"):
            loss(model)
        return
    for each in (plain, model):
        loss(each).backward()
    for first, second in zip(*(each.base_model.objective().layers for each in (plain, model)), strict=True):
        one, other = (layer.gates("default")[0].grad for layer in (first, second))
        torch.testing.assert_close(one, other)
        assert bool(one.any())


def test_gates_that_no_step_is_declared_for_warn() -> None:
    model = wrapped().train()
    loss(model)
    with pytest.warns(UserWarning, match="gates learn nothing until"):
        loss(model)


def test_a_loaded_adapter_that_is_not_trained_has_no_noise(tmp_path: Path) -> None:
    model = wrapped()
    stir(model)
    model.save_pretrained(tmp_path, save_embedding_layers=False)
    again = PeftModel.from_pretrained(base(), tmp_path).train()
    again.base_model.set_step(9, 10)
    with torch.no_grad():
        found = again(input_ids=IDS, use_cache=False).logits
    assert torch.equal(found, logits(again))
