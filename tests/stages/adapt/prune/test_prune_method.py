"""Pruning as a method: cut by the shared budget, LoRA on what stays, a plain smaller model at the end."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import training_fakes as fakes

from stages.adapt.adaptation import AdaptContext
from stages.adapt.prune import method
from stages.adapt.shrink.budget import choose
from stages.adapt.shrink.slicing import apply_mask
from stages.adapt.shrink.units import Units
from stages.common.checkpoint import load_model, save_model
from stages.common.errors import UserError
from stages.common.params.adaptation import PRUNING, AdaptBlock
from stages.common.training.losses import cross_entropy
from stages.common.training.shards import Shards

MIX = {"world-ru": 0.5, "world-en": 0.5}
CALIBRATED = ("wanda", "minitron")


def block(name: str, share: float = 0.4, mode: str = "global", **changes: Any) -> AdaptBlock:
    values = {
        "method": name,
        "rank": 2,
        "alpha": 4.0,
        "target_modules": ["q_proj", "down_proj"],
        "shrink": {
            "share": share,
            "mode": mode,
            "multiples": {"ffn": 4, "groups": 1},
            "calibration_tokens": 128 if name in CALIBRATED else None,
        },
        "mix": MIX,
        "training": fakes.settings().model_dump(mode="json"),
    }
    return AdaptBlock.model_validate(values | changes)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, shards_folder: Path) -> Path:
    """A checkpoint with two KV groups whose outputs are large enough for 1e-5 to mean something."""
    folder = tmp_path_factory.mktemp("base")
    model = fakes.tiny_model(layers=3, num_attention_heads=4, num_key_value_heads=2, head_dim=8)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 2:
                weight *= 3
    save_model(model, fakes.load_tokenizer(shards_folder / "tokenizer"), folder)
    return folder


@pytest.fixture
def context(base: Path, shards_folder: Path) -> Any:
    def make(chosen: AdaptBlock, seed: int = 1, shards: bool = True) -> AdaptContext:
        opened = Shards.open(shards_folder) if shards else None
        return AdaptContext(chosen, seed, base, "out/pretrain", 8, "cpu", opened, None)

    return make


def logits(model: Any) -> torch.Tensor:
    tokens = torch.arange(40).reshape(2, 20) + 5
    with torch.no_grad():
        return model.eval()(input_ids=tokens, use_cache=False).logits


@pytest.mark.parametrize("name", PRUNING)
def test_what_the_shared_budget_leaves_is_trained_and_comes_out_smaller(
    name: str, base: Path, context: Any, tmp_path: Path
) -> None:
    chosen = context(block(name))
    model = load_model(base, dtype=torch.float32)
    units = Units.of(model.config)
    choice = choose(units, method.score(model, units, chosen), chosen.block.shrink)
    masked = copy.deepcopy(model)
    apply_mask(masked, choice.kept)

    adaptation = method.wrap(model, chosen)
    trained = {name for name, value in adaptation.model.named_parameters() if value.requires_grad}
    assert trained
    assert all("lora_" in name for name in trained)
    torch.testing.assert_close(logits(adaptation.model), logits(masked), rtol=0, atol=1e-5)

    adaptation.save_adapter(tmp_path)
    finished = adaptation.finish()
    removed = finished.notes["removed"]
    assert finished.notes["kept"] == json.loads((tmp_path / method.KEPT).read_text()) == choice.kept.to_json()
    assert json.loads((tmp_path / "base.json").read_text())["method"] == name
    assert (removed["asked"], removed["before_rounding"]) == (0.4, choice.before_rounding)
    assert removed["after_rounding"] == choice.after_rounding <= 0.4 + 0.01
    assert removed["removed_parameters"] == units.removed(choice.kept) > 0
    parameters = sum(value.numel() for value in finished.model.parameters())
    assert removed["parameters_after"] == parameters
    assert removed["parameters_before"] - parameters == units.removed(choice.kept)
    assert not any("lora_" in name for name, _ in finished.model.named_parameters())


def test_the_lora_is_in_the_weights_at_the_end(base: Path, context: Any) -> None:
    adaptation = method.wrap(load_model(base, dtype=torch.float32), context(block("magnitude")))
    before = logits(adaptation.model)
    with torch.no_grad():
        for name, value in adaptation.model.named_parameters():
            if value.requires_grad:
                value += 0.1 * torch.randn(value.shape, generator=torch.Generator().manual_seed(len(name)))
    trained = logits(adaptation.model)
    assert float((trained - before).abs().max()) > 0.01
    torch.testing.assert_close(logits(adaptation.finish().model), trained, rtol=1e-4, atol=1e-4)


def test_gradients_reach_the_lora_through_the_cut_model(
    base: Path, context: Any, shards_folder: Path
) -> None:
    from stages.adapt.prune.calibration import sample

    chosen = block("wanda")
    adaptation = method.wrap(load_model(base, dtype=torch.float32), context(chosen))
    batch = sample(Shards.open(shards_folder), MIX, chosen.training, 64, 3, "adapt.mix")[0]
    adaptation.loss(cross_entropy)(adaptation.model, batch).backward()
    for name, value in adaptation.model.named_parameters():
        if "lora_B" in name:
            assert value.grad is not None
            assert value.grad.abs().sum() > 0


def test_only_random_scores_depend_on_the_seed_alone(base: Path, context: Any) -> None:
    model = load_model(base, dtype=torch.float32)
    units = Units.of(model.config)

    def first(name: str, seed: int) -> torch.Tensor:
        return method.score(model, units, context(block(name), seed)).ffn[0]

    assert torch.equal(first("magnitude", 1), first("magnitude", 2))
    for name in ("random", *CALIBRATED):  # calibration text is drawn by the seed too
        assert torch.equal(first(name, 1), first(name, 1))
        assert not torch.equal(first(name, 1), first(name, 2))


def test_equal_widths_keep_the_stock_class(base: Path, context: Any) -> None:
    finished = method.wrap(
        load_model(base, dtype=torch.float32), context(block("wanda", mode="uniform"))
    ).finish()
    assert type(finished.model).__module__.startswith("transformers.")
    assert finished.model.config.model_type == "qwen2"


def test_what_cannot_be_cut_is_refused(base: Path, context: Any) -> None:
    model = load_model(base, dtype=torch.float32)
    with pytest.raises(UserError, match="would empty a layer"):
        method.wrap(model, context(block("magnitude", share=0.9)))
    for name in CALIBRATED:
        with pytest.raises(UserError, match=rf"`{name}` measures activations on the text of `adapt\.mix`"):
            method.wrap(model, context(block(name), shards=False))
    model.config.quantization_config = {"quant_method": "lowbit"}
    with pytest.raises(UserError, match="quantised; a cut needs the dense weights"):
        method.wrap(model, context(block("magnitude")))
