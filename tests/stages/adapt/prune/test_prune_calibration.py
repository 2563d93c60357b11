"""Calibration: what a layer saw, by hand; text that is isolated and drawn by seed; a model left as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import training_fakes as fakes
from prune_fakes import batch, batches, seen

from stages.adapt.prune import calibration
from stages.common.errors import UserError
from stages.common.training.shards import Shards

DOWN, ATTENTION = "model.layers.1.mlp.down_proj", "model.layers.1.self_attn.o_proj"
MIX = {"world-ru": 0.5, "world-en": 0.5}


def test_activations_are_the_means_that_the_formulas_say() -> None:
    model, given = fakes.tiny_model().eval(), batches(3)
    found = calibration.collect(model, given)
    assert found.tokens == 3 * 2 * 16
    for name in (DOWN, ATTENTION):
        x_BTI = seen(model, name, given)
        torch.testing.assert_close(found.squares[name], x_BTI.square().mean((0, 1)))
        torch.testing.assert_close(found.absolutes[name], x_BTI.abs().mean(1).square().mean(0))
    norms_BTH = seen(model, ATTENTION, given).unflatten(-1, (2, 16)).norm(dim=-1)
    torch.testing.assert_close(found.heads[ATTENTION], norms_BTH.mean(1).square().mean(0))
    assert all(name.endswith("o_proj") for name in found.heads)
    assert "lm_head" not in found.squares


def test_the_order_of_batches_does_not_matter() -> None:
    model, given = fakes.tiny_model(), batches(5)
    one, other = calibration.collect(model, given), calibration.collect(model, reversed(given))
    for name, values in one.squares.items():
        torch.testing.assert_close(values, other.squares[name], rtol=1e-13, atol=0)
        torch.testing.assert_close(one.absolutes[name], other.absolutes[name], rtol=1e-13, atol=0)


def test_the_model_is_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    model = fakes.tiny_model().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    calibration.collect(model, batches(1))
    damaged = fakes.tiny_model().train()
    with torch.no_grad():
        damaged.model.layers[0].mlp.up_proj.weight[3, 3] = float("nan")
    with pytest.raises(UserError, match=r"layers\.0\.mlp\.down_proj are not finite"):
        calibration.collect(damaged, batches(1))

    def broken(*_: Any) -> None:
        raise RuntimeError("killed")

    interrupted = fakes.tiny_model().train()
    monkeypatch.setattr(calibration, "hidden_states", broken)
    with pytest.raises(RuntimeError, match="killed"):
        calibration.collect(interrupted, batches(1))
    for each in (model, damaged, interrupted):
        assert each.training
        assert not any(module._forward_pre_hooks for module in each.modules())
        assert all(value.grad is None for value in each.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_bf16_activations_are_measured_in_full_precision() -> None:
    model, given = fakes.tiny_model().bfloat16().eval(), batches(4)
    found = calibration.collect(model, given)
    torch.testing.assert_close(found.squares[DOWN], seen(model, DOWN, given).square().mean((0, 1)))
    assert found.squares[DOWN].dtype == torch.float64


def test_documents_of_a_row_do_not_see_each_other() -> None:
    model = fakes.tiny_model().eval()
    first, second = [0, 5, 6, 7, 8, 9, 10, 11], [0, 20, 21, 22, 23, 24, 25, 26]
    together = calibration.collect(model, [batch([first + second])])
    apart = calibration.collect(model, [batch([first, second])])
    torch.testing.assert_close(together.squares[DOWN], apart.squares[DOWN])


def test_the_sample_is_of_the_mix_and_its_seed(shards_folder: Path) -> None:
    shards, settings = Shards.open(shards_folder), fakes.settings()
    taken = calibration.sample(shards, MIX, settings, 300, 1, "adapt.mix")
    assert sum(one.inputs_BT.numel() for one in taken) == 320  # whole batches of 64
    again = calibration.sample(shards, MIX, settings, 300, 1, "adapt.mix")
    other = calibration.sample(shards, MIX, settings, 300, 2, "adapt.mix")
    assert all(torch.equal(a.inputs_BT, b.inputs_BT) for a, b in zip(taken, again, strict=True))
    assert not all(torch.equal(a.inputs_BT, b.inputs_BT) for a, b in zip(taken, other, strict=True))
    alone = calibration.sample(shards, {"world-en": 1.0}, settings, 300, 1, "adapt.mix")
    assert {name for one in alone for name, count in one.subset_tokens.items() if count} == {"world-en"}
    with pytest.raises(UserError, match=r"`adapt\.mix` names the subset `news`"):
        calibration.sample(shards, {"news": 1.0}, settings, 300, 1, "adapt.mix")


def test_no_text_is_refused() -> None:
    with pytest.raises(UserError, match="no text"):
        calibration.collect(fakes.tiny_model(), [])
