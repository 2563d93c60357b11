"""Scores by hand on a model of known weights, useless units found, seeds of the random ones."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import training_fakes as fakes
from prune_fakes import batches, seen

from stages.adapt.prune import calibration, scores
from stages.adapt.shrink.units import Scores, Units

NEURON, GROUP = 5, 1  # planted as useless, in layer 1


def grouped(**changes: Any) -> Any:
    """Two KV groups of two query heads each."""
    return fakes.tiny_model(
        num_attention_heads=4, num_key_value_heads=2, head_dim=8, intermediate_size=24, **changes
    )


def every(model: Any) -> dict[str, Scores]:
    """The scores of every method that looks at the model."""
    units, activations = Units.of(model.config), calibration.collect(model, batches(2))
    return {
        "magnitude": scores.magnitude(model, units),
        "wanda": scores.wanda(model, units, activations),
        "minitron": scores.minitron(model, units, activations),
    }


def test_scores_by_hand() -> None:
    model, given = grouped().eval(), batches(2)
    found = every(model)
    layer, prefix = model.model.layers[1], "model.layers.1"
    down, attention = layer.mlp.down_proj.weight.double(), layer.self_attn.o_proj.weight.double()
    h_BTF = seen(model, f"{prefix}.mlp.down_proj", given)
    a_BTD = seen(model, f"{prefix}.self_attn.o_proj", given)
    # Group 1 is query heads 2 and 3 of width 8: inputs 16 to 31 of o_proj.
    own, tokens = slice(16, 32), h_BTF.shape[0] * h_BTF.shape[1]
    expected = {
        "magnitude": (down[:, 3].norm(), attention[:, own].norm()),
        "wanda": (
            down[:, 3].abs().sum() * h_BTF[..., 3].norm() / tokens**0.5,
            (attention.abs().sum(0) * a_BTD.flatten(0, 1).norm(dim=0))[own].sum() / tokens**0.5,
        ),
        "minitron": (
            h_BTF[..., 3].abs().mean(1).square().mean().sqrt(),
            sum(
                a_BTD[..., first : first + 8].norm(dim=-1).mean(1).square().mean().sqrt()
                for first in (16, 24)
            ),
        ),
    }
    for name, (neuron, group) in expected.items():
        torch.testing.assert_close(found[name].ffn[1][3], neuron)
        torch.testing.assert_close(found[name].groups[1][GROUP], group)


def _deaf(model: Any) -> None:
    """The unit's columns of the output projections are nearly zero: nobody hears it."""
    layer = model.model.layers[1]
    layer.mlp.down_proj.weight[:, NEURON] *= 1e-6
    layer.self_attn.o_proj.weight[:, 16:] *= 1e-6


def _dumb(model: Any) -> None:
    """The unit's activations are nearly zero: it says nothing."""
    layer = model.model.layers[1]
    layer.mlp.up_proj.weight[NEURON] *= 1e-6
    layer.self_attn.v_proj.weight[8:] *= 1e-6
    if layer.self_attn.v_proj.bias is not None:
        layer.self_attn.v_proj.bias[8:] *= 1e-6


@pytest.mark.parametrize("family", ["qwen2", "llama"])
@pytest.mark.parametrize(
    ("plant", "finders"), [(_deaf, {"magnitude", "wanda"}), (_dumb, {"wanda", "minitron"})]
)
def test_a_useless_unit_is_found(family: str, plant: Any, finders: set[str]) -> None:
    model = grouped(family=family).eval()
    with torch.no_grad():
        plant(model)
    for name, found in every(model).items():
        lowest = min(range(2), key=lambda at: float(found.ffn[at].min()))
        right = (lowest, int(found.ffn[1].argmin()), int(found.groups[1].argmin())) == (1, NEURON, GROUP)
        assert right or name not in finders


def test_what_is_never_active_scores_zero_and_nothing_is_nan() -> None:
    model = grouped().eval()
    with torch.no_grad():
        model.model.layers[0].mlp.gate_proj.weight.zero_()
        model.model.layers[0].self_attn.v_proj.weight.zero_()
        model.model.layers[0].self_attn.v_proj.bias.zero_()
    found = every(model)
    for name in ("wanda", "minitron"):
        assert not found[name].ffn[0].any()
        assert not found[name].groups[0].any()
        assert found[name].ffn[1].all()
    assert all(bool(torch.isfinite(each).all()) for one in found.values() for each in (*one.ffn, *one.groups))


def test_random_scores_are_their_seed() -> None:
    units = Units.of(grouped().config)
    state = torch.random.get_rng_state()
    one, again, other = (scores.random(units, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(one.ffn, again.ffn, strict=True))
    assert not torch.equal(one.ffn[0], other.ffn[0])
    assert not torch.equal(one.ffn[0], one.ffn[1])
    assert [len(each) for each in one.groups] == [2, 2]
