"""Alphas: they predict what quantisation does, leave the weights alone and depend on nothing but the seed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lowbit import sensitivity
from lowbit.errors import LowbitError
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, Qwen2Config


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=32,
        tie_word_embeddings=True,
    )
    model = AutoModelForCausalLM.from_config(config)
    # Large weights give a model whose output depends on what its layers do.
    for parameter in model.parameters():
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


@pytest.fixture(scope="module")
def random(model: Any) -> sensitivity.Sensitivity:
    return sensitivity.estimate(model)


def test_every_layer_but_the_head_has_an_alpha(model: Any, random: sensitivity.Sensitivity) -> None:
    assert len(random.alphas) == 14
    assert "lm_head" not in random.alphas
    assert all(alpha > 0 for alpha in random.alphas.values())
    assert [t2 for t2, _ in random.points["model.layers.0.mlp.up_proj"]] == list(sensitivity.LEVELS)


def test_the_weights_are_the_same_afterwards_and_so_are_the_alphas(
    model: Any, random: sensitivity.Sensitivity
) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert sensitivity.estimate(model).alphas == random.alphas
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert sensitivity.estimate(model, seed=1).alphas != random.alphas


def test_alphas_predict_the_divergence_that_other_noise_causes(
    model: Any, random: sensitivity.Sensitivity
) -> None:
    """Noise of one size in every layer at once, drawn anew, against the sum of alpha t^2."""
    text = torch.randint(64, (32, 32), generator=torch.Generator().manual_seed(9))
    kept = {name: model.get_submodule(name).weight.clone() for name in random.alphas}
    found = []
    with torch.no_grad():
        clean = model(input_ids=text).logits.log_softmax(-1)
        for seed in range(8):
            generator = torch.Generator().manual_seed(100 + seed)
            for name, weight in kept.items():
                noise = torch.randn(weight.shape, generator=generator)
                model.get_submodule(name).weight.copy_(
                    weight + noise * 0.005**0.5 * weight.norm() / noise.norm()
                )
            now = model(input_ids=text).logits.log_softmax(-1)
            found.append(float(F.kl_div(now, clean, reduction="sum", log_target=True)) / text.numel())
        for name, weight in kept.items():
            model.get_submodule(name).weight.copy_(weight)
    predicted = 0.005 * sum(random.alphas.values())
    assert sum(found) / len(found) == pytest.approx(predicted, rel=0.35)


@pytest.fixture(scope="module")
def text(model: Any) -> torch.Tensor:
    torch.manual_seed(3)
    with torch.no_grad():
        return model.generate(torch.zeros(16, 1, dtype=torch.long), max_new_tokens=24, do_sample=True)


def _cross_entropy(model: Any, text: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(model(input_ids=text).logits[:, :-1].flatten(0, 1), text[:, 1:].flatten())


def test_a_sample_gives_the_rise_of_its_cross_entropy(model: Any, text: torch.Tensor) -> None:
    name = "model.layers.1.mlp.down_proj"
    found = sensitivity.estimate(model, [text], layers=[name], levels=[0.05])
    [(t2, loss)] = found.points[name]
    assert t2 == 0.05
    assert found.alphas == {name: pytest.approx(loss / 0.05 + found.shrinking[name])}


def test_the_slope_along_a_noise_does_not_count(model: Any, text: torch.Tensor) -> None:
    """Twice as much noise rises four times as high, however small it is: nothing of first order is left."""
    name = "model.layers.0.self_attn.v_proj"
    found = sensitivity.estimate(model, [text], layers=[name], levels=[1e-4, 1e-3])
    (_, first), (_, second) = found.points[name]
    # One noise for each level: they agree as two draws do.
    assert second / first == pytest.approx(10, rel=0.5)


@pytest.mark.parametrize("padding", [sensitivity.PADDING, -100])
def test_padding_does_not_count(model: Any, text: torch.Tensor, padding: int) -> None:
    name = "model.layers.1.mlp.down_proj"
    padded = F.pad(text, (0, 5), value=padding)
    plain, found = (sensitivity.estimate(model, [rows], layers=[name]) for rows in (text, padded))
    assert found.alphas == pytest.approx(plain.alphas, rel=1e-3)
    assert found.shrinking == pytest.approx(plain.shrinking, rel=1e-3)


def test_a_batch_without_a_token_to_predict_is_refused(model: Any) -> None:
    with pytest.raises(LowbitError, match="a batch predicts no token"):
        sensitivity.estimate(model, [torch.tensor([[3, -1, -1]])])


def test_shrinking_is_the_slope_of_the_loss_along_the_weights(model: Any) -> None:
    text = torch.randint(64, (8, 24), generator=torch.Generator().manual_seed(5))
    found = sensitivity.estimate(model, [text[:3], text[3:]], levels=[0.02])
    weights = {name: model.get_submodule(name).weight for name in found.alphas}
    gradients = torch.autograd.grad(_cross_entropy(model, text), list(weights.values()))
    for gradient, (name, weight) in zip(gradients, weights.items(), strict=True):
        expected = -float((gradient * weight.detach()).sum())
        assert found.shrinking[name] == pytest.approx(expected, rel=1e-3, abs=1e-5)
        curvature = sensitivity.slope(found.points[name])
        assert found.alphas[name] == pytest.approx(max(curvature + expected, 0.5 * curvature), rel=1e-3)


def test_noise_needs_no_more_than_its_tokens(model: Any, text: torch.Tensor) -> None:
    name, rows = "model.layers.0.mlp.up_proj", list(text[:, :20].repeat(64, 1).split(512))
    some, more = (sensitivity.estimate(model, rows[:n], layers=[name], levels=[0.02]) for n in (1, 2))
    assert len(rows) == 2
    assert rows[0].numel() < sensitivity.NOISE_TOKENS
    assert some.points != more.points
    kept = sensitivity._first([torch.zeros(1, 10_000)] * 4, sensitivity.NOISE_TOKENS)
    assert len(kept) == 2


def test_noise_is_as_large_as_its_block() -> None:
    layer = torch.nn.Linear(96, 8, bias=False)  # blocks of 32
    layer.weight.data[:, :32] *= 100
    noise = sensitivity._noise(layer, 0.04, (0, 0, 0, 0), "layer")
    assert float(noise.norm() / layer.weight.detach().norm()) == pytest.approx(0.2)
    assert float(noise[:, :32].norm() / noise[:, 32:].norm()) == pytest.approx(100 / 2**0.5, rel=0.2)
    wide = torch.nn.Linear(24, 4)
    assert sensitivity._noise(wide, 0.01, (0, 0, 0, 0), "wide").shape == (4, 24)


def test_layers_whose_loss_bends_are_named() -> None:
    points = {"straight": [(0.02, 0.2), (0.06, 0.62)], "bent": [(0.02, 0.1), (0.06, 0.9)]}
    assert sensitivity.Sensitivity({}, points).bent == ["bent"]
    assert sensitivity.slope([(0.1, 0.2), (0.2, 0.4)]) == pytest.approx(2.0)


def test_bad_input_is_named(model: Any) -> None:
    with pytest.raises(LowbitError, match="no linear layer `nothing`"):
        sensitivity.estimate(model, layers=["nothing"])
    with pytest.raises(LowbitError, match="give positive relative errors"):
        sensitivity.estimate(model, levels=[0.0])
    with pytest.raises(LowbitError, match="no batch of tokens"):
        sensitivity.estimate(model, [])
    layer = model.get_submodule("model.layers.0.mlp.up_proj")
    kept = layer.weight.data.clone()
    layer.weight.data.zero_()
    with pytest.raises(LowbitError, match=r"up_proj: all its weights are zero"):
        sensitivity.estimate(model, layers=["model.layers.0.mlp.up_proj"])
    layer.weight.data.copy_(kept)
