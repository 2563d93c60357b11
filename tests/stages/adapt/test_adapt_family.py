"""Every method that keeps the shapes: trains, counts as its paper says, saves, loads, merges, resumes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import adapt_fakes as fakes
import pytest
import torch
from training_fakes import settings

from stages.adapt import adapters
from stages.adapt.adaptation import trainable_parameters
from stages.common.atomic import read_json
from stages.common.checkpoint import digest, load_model, load_tokenizer, save_model
from stages.common.errors import UserError
from stages.common.params.adaptation import LOW_RANK, PARTIAL, USES, AdaptBlock
from stages.common.params.training import Optimisation
from stages.common.trainable import frozen_numbers, linear_layers, trainable_numbers
from stages.common.training.optimiser import make_optimiser, named_trainable
from stages.common.training.resume import Resume

METHODS = LOW_RANK + PARTIAL
# (in, out) and whether Qwen2 has a bias: hidden 32, FFN 64, two query heads and one key and value head of 16.
SHAPES = {
    "q_proj": (32, 32, True),
    "k_proj": (32, 16, True),
    "v_proj": (32, 16, True),
    "o_proj": (32, 32, False),
    "gate_proj": (32, 64, False),
    "up_proj": (32, 64, False),
    "down_proj": (64, 32, False),
}
LAYERS, R = 2, 3
RATES = dict.fromkeys(("vera", "lora-xs", "ia3", "bitfit"), 0.1)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fakes.make_base(tmp_path_factory.mktemp("family"))


def _ends() -> int:
    return LAYERS * sum(inner + outer for inner, outer, _ in SHAPES.values())


def _outs() -> int:
    return LAYERS * sum(outer for _, outer, _ in SHAPES.values())


COUNTS = {
    "lora": R * _ends(),
    "rslora": R * _ends(),
    "dora": R * _ends() + _outs(),
    "pissa": R * _ends(),
    "velora": R * _ends(),
    "shira": R * _ends(),
    "vera": 7 * LAYERS * R + _outs(),
    "ia3": LAYERS * (32 + 16 + 16 + 32 + 64 + 64 + 64),
    "lora-xs": 7 * LAYERS * R * R,
    "bitfit": LAYERS * (32 + 16 + 16),
    "rocoft": LAYERS * (6 * 32 + 64),
}


def test_every_method_has_a_count() -> None:
    assert set(COUNTS) == set(METHODS)


@pytest.mark.parametrize("method", METHODS)
def test_a_method_trains_saves_loads_and_merges(method: str, world: Path, tmp_path: Path) -> None:
    block = fakes.block(method, training=settings(learning_rate=RATES.get(method, 0.02), tokens=2048))
    base = load_model(world / "base", dtype=torch.float32)
    before = fakes.logits(base)
    adaptation = fakes.adapted(world, block)
    # Freshly wrapped it is the base; the principal parts of PiSSA leave a rounding error.
    rounding = 1e-5 if method in ("pissa", "dora") else 0.0
    torch.testing.assert_close(fakes.logits(adaptation.model), before, rtol=0, atol=rounding)
    assert trainable_parameters(adaptation.model) == COUNTS[method]
    assert trainable_numbers(block, linear_layers(base), base.config) == COUNTS[method]

    losses = fakes.fit(world, adaptation, block).losses
    assert sum(losses[-4:]) / 4 < sum(losses[:4]) / 4 - 0.05
    trained = fakes.logits(adaptation.model)
    assert (trained - before).abs().max() > 1e-2

    adaptation.save_adapter(tmp_path / "adapter")
    loaded = adapters.load(base, tmp_path / "adapter", world / "base")
    torch.testing.assert_close(fakes.logits(loaded), trained, rtol=0, atol=1e-5)
    with loaded.disable_adapter():
        torch.testing.assert_close(fakes.logits(loaded), before, rtol=0, atol=1e-5)

    merged = adaptation.finish().model
    assert type(merged).__name__ == "Qwen2ForCausalLM"
    torch.testing.assert_close(fakes.logits(merged), trained, rtol=0, atol=1e-5)
    save_model(merged, load_tokenizer(world / "base"), tmp_path / "merged")
    torch.testing.assert_close(fakes.logits(load_model(tmp_path / "merged")), trained, rtol=0, atol=1e-5)


GATED = {"share": 0.3, "mode": "global", "gate_learning_rate": 0.1}
CUT = {"share": 0.3, "mode": "global", "multiples": {"ffn": 4}}
BEGINS: dict[str, dict[str, Any]] = {
    **{method: {"method": method} for method in METHODS},
    "gates": {"method": "finegates", "shrink": GATED},
    "gates and LoRA": {"method": "finegates", "shrink": GATED, **fakes.VALUES},
    "gates of rows": {
        "method": "finegates",
        "shrink": GATED | {"mode": "faithful"},
        "target_modules": fakes.TARGETS,
    },
    "LoRA after a cut": {"method": "magnitude", "shrink": CUT},
}


@pytest.mark.parametrize("values", BEGINS.values(), ids=list(BEGINS))
def test_weight_decay_alone_moves_nothing(values: dict[str, Any], world: Path) -> None:
    used = settings(weight_decay=0.5, learning_rate=0.1)
    known = values["method"] in USES
    block = fakes.block(**values, training=used) if known else _gated(values, used)
    adaptation = fakes.adapted(world, block)
    before = fakes.logits(adaptation.model)
    optimiser = make_optimiser(adaptation.model, used, adaptation.rates(), adaptation.undecayed)
    for value in named_trainable(adaptation.model).values():
        value.grad = torch.zeros_like(value)
    for _ in range(5):
        optimiser.step()
    torch.testing.assert_close(fakes.logits(adaptation.model), before, rtol=0, atol=1e-6)


def _gated(values: dict[str, Any], used: Optimisation) -> AdaptBlock:
    return AdaptBlock(**{"data": None, "mix": {"world-en": 1.0}, "training": used, **values})


@pytest.mark.parametrize("method", ["lora", "lora-xs", "vera"])
def test_what_is_held_beside_the_model_is_counted(method: str, world: Path) -> None:
    block, base = fakes.block(method), load_model(world / "base", dtype=torch.float32)
    before = sum(value.numel() for value in base.buffers())
    after = sum(value.numel() for value in fakes.adapted(world, block).model.buffers())
    assert after - before == frozen_numbers(block, linear_layers(base))


@pytest.mark.parametrize("method", METHODS)
def test_only_what_is_named_moves(method: str, world: Path) -> None:
    names = ["k_proj", "down_proj"] if method != "bitfit" else ["k_proj"]
    block = fakes.block(method, target_modules=names, training=settings(tokens=128))
    adaptation = fakes.adapted(world, block)
    fakes.fit(world, adaptation, block)
    before = load_model(world / "base").state_dict()
    after = adaptation.finish().model.state_dict()
    assert set(before) == set(after)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved
    assert {name.split(".")[-2] for name in moved} <= set(names)


@pytest.mark.parametrize("method", ["pissa", "ia3", "lora-xs", "bitfit"])
def test_the_adapter_has_the_same_bytes_every_time(method: str, world: Path, tmp_path: Path) -> None:
    block = fakes.block(method, training=settings(tokens=128))
    for name in ("one", "two"):
        adaptation = fakes.adapted(world, block)
        fakes.fit(world, adaptation, block)
        adaptation.save_adapter(tmp_path / name)
    # A set would come out in another order in another process.
    config = read_json(tmp_path / "one" / adapters.CONFIG)
    for key in adapters.SETS:
        assert config.get(key) is None or config[key] == sorted(config[key])
    files = sorted(file.name for file in (tmp_path / "one").iterdir())
    assert files == ["adapter_config.json", "adapter_model.safetensors", "base.json"]
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


@pytest.mark.parametrize("method", ["pissa", "velora", "lora-xs", "bitfit"])
def test_a_resumed_run_ends_the_same(method: str, world: Path, tmp_path: Path) -> None:
    block = fakes.block(method)
    whole = fakes.adapted(world, block)
    expected = fakes.fit(world, whole, block).losses

    def dying(_: object, share: float) -> None:
        if share >= 0.5:
            raise KeyboardInterrupt

    broken = fakes.adapted(world, block)
    broken.before = dying  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        fakes.fit(world, broken, block, Resume(tmp_path / "resume"))
    again = fakes.adapted(world, block)
    assert fakes.fit(world, again, block, Resume(tmp_path / "resume")).losses == expected
    assert torch.equal(fakes.logits(again.model), fakes.logits(whole.model))
    for adaptation, name in ((whole, "whole"), (again, "again")):
        adaptation.save_adapter(tmp_path / name)
    weights = [(tmp_path / name / adapters.WEIGHTS).read_bytes() for name in ("whole", "again")]
    assert weights[0] == weights[1]


def test_a_diverged_run_names_the_step(world: Path) -> None:
    block = fakes.block("lora")
    adaptation = fakes.adapted(world, block)

    def poison(model: torch.nn.Module, share: float) -> None:
        if share >= 0.5:
            next(value for value in model.parameters() if value.requires_grad).data.fill_(float("nan"))

    adaptation.before = poison  # type: ignore[assignment, method-assign]
    with pytest.raises(UserError, match="adapt: loss nan, gradient norm nan at step 4; lower its learning"):
        fakes.fit(world, adaptation, block)


@pytest.mark.parametrize("method", ["lora", "ia3", "lora-xs", "bitfit"])
def test_an_unknown_target_lists_those_there_are(method: str, world: Path) -> None:
    with pytest.raises(UserError) as error:
        fakes.adapted(world, fakes.block(method, target_modules=["q_proj", "c_attn"]))
    assert "adapt.target_modules names c_attn, which the model does not have; it has q_proj, k_proj, " in str(
        error.value
    )


def test_bitfit_needs_biases_and_lora_xs_the_rank(tmp_path: Path, world: Path) -> None:
    llama = fakes.make_base(tmp_path, "llama")
    with pytest.raises(UserError, match="`bitfit` trains biases, and none of the target modules"):
        fakes.adapted(llama, fakes.block("bitfit"))
    with pytest.raises(UserError, match=r"adapt\.rank 17 is above 16, the rank that model\.layers\.0\.self"):
        fakes.adapted(world, fakes.block("lora-xs", rank=17))
    with pytest.raises(UserError, match=r"cannot be applied to this model .*rank 40 results in more shira"):
        fakes.adapted(world, fakes.block("shira", rank=40))


def test_an_adapter_is_refused_on_other_weights(world: Path, tmp_path: Path) -> None:
    adaptation = fakes.adapted(world, fakes.block("rocoft"))
    adaptation.save_adapter(tmp_path / "adapter")
    other = fakes.make_base(tmp_path / "other", seed=5)
    model = load_model(other / "base")
    with pytest.raises(UserError, match=r"belongs to the weights .* \(out/pretrain when it was made\)"):
        adapters.load(model, tmp_path / "adapter", other / "base")
    with pytest.raises(UserError, match="no adapter there; `adapt` writes one to"):
        adapters.load(model, tmp_path, other / "base")
    (tmp_path / "adapter" / adapters.WEIGHTS).write_bytes(b"short")
    with pytest.raises(UserError, match="this adapter cannot be read"):
        adapters.load(load_model(world / "base"), tmp_path / "adapter", world / "base")


def test_the_digest_is_of_the_weights_alone(world: Path, tmp_path: Path) -> None:
    model = load_model(world / "base")
    save_model(model, load_tokenizer(world / "base"), tmp_path / "copy")
    assert adapters.weights_digest(tmp_path / "copy") == adapters.weights_digest(world / "base")
    (tmp_path / "copy/generation_config.json").write_text("{}")
    assert adapters.weights_digest(tmp_path / "copy") == adapters.weights_digest(world / "base")
    assert digest(tmp_path / "copy") != digest(world / "base")
