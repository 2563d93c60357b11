"""Which units stay by the scores of gates, on shapes of real models."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from transformers import LlamaConfig

from stages.adapt.finegates.picking import Wanted, pick
from stages.adapt.shrink.units import Scores, Units
from stages.common.params.adaptation import Multiples


def llama() -> Units:
    """The units of Llama-3.2-1B, whose stock class takes 1, 2, 4 or 8 groups."""
    config = LlamaConfig(
        hidden_size=2048,
        intermediate_size=8192,
        num_hidden_layers=16,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=64,
    )
    return Units.of(config)


def scored(units: Units, groups: float) -> Scores:
    """Neurons of random scores, and groups that have `groups` more."""
    generator = torch.Generator().manual_seed(0)
    ffn, heads = (
        tuple(torch.rand(count(layer), generator=generator) + more for layer in units.layers)
        for count, more in ((lambda layer: layer.ffn, 0.0), (lambda layer: layer.groups, groups))
    )
    return Scores(ffn, heads)


@pytest.mark.parametrize("share", [0.05, 0.1, 0.3, 0.5])
@pytest.mark.parametrize("groups", [-5.0, 0.0, 5.0])
def test_uniform_holds_the_budget_whatever_the_groups_are_worth(share: float, groups: float) -> None:
    units = llama()
    choice = pick(units, scored(units, groups), Wanted(share, "uniform", Multiples(ffn=1), 0))
    step = sum(layer.ffn_cost for layer in units.layers)
    assert abs(choice.before_rounding - share) * units.gateable <= step / 2
    assert choice.after_rounding == choice.before_rounding


def test_uniform_takes_the_number_of_groups_that_the_gates_keep() -> None:
    units = llama()
    for groups, number in ((-5.0, 1), (5.0, 8)):
        choice = pick(units, scored(units, groups), Wanted(0.3, "uniform", Multiples(ffn=1), 0))
        assert {len(kept) for kept in choice.kept.groups} == {number}
    # Seven groups of every layer are more than a twentieth: neurons cannot make up for it.
    few = pick(units, scored(units, -5.0), Wanted(0.05, "uniform", Multiples(ffn=1), 0))
    assert {len(kept) for kept in few.kept.groups} == {8}


def test_uniform_of_groups_alone_takes_the_nearest_that_there_is() -> None:
    units = replace(llama(), parts=frozenset({"groups"}))
    choice = pick(units, scored(units, 0.0), Wanted(0.4, "uniform", Multiples(ffn=1), 0))
    assert {len(kept) for kept in choice.kept.groups} == {4}
