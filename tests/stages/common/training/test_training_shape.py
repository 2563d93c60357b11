"""From a budget to a shape: close to the budget, well-proportioned, and stated exactly."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.common.errors import UserError
from stages.common.training.shape import TOLERANCE, Shape, derive_shape, new_model


def test_the_default_run() -> None:
    assert derive_shape(1_000_000, 2048) == Shape(2048, 128, 4, 4, 2, 384)


@given(st.integers(300_000, 1_000_000_000), st.sampled_from([300, 2048, 8192]))
def test_close_to_the_budget_and_halvable(parameters: int, vocab_size: int) -> None:
    try:
        shape = derive_shape(parameters, vocab_size)
    except UserError:
        assert parameters < 150 * vocab_size
        return
    assert abs(shape.parameters / parameters - 1) <= TOLERANCE
    assert shape.layers >= 4
    assert shape.layers % 2 == 0
    assert shape.heads % shape.kv_heads == 0
    assert shape.hidden % shape.heads == 0
    assert shape.hidden % 128 == 0 or shape.hidden in (32, 64)


@pytest.mark.parametrize(("parameters", "vocab_size"), [(60_000, 300), (200_000, 512), (1_000_000, 2048)])
def test_stated_parameters_are_those_of_the_model(parameters: int, vocab_size: int) -> None:
    shape = derive_shape(parameters, vocab_size)
    model = new_model(shape, eos_id=0, seed=1)
    assert sum(value.numel() for value in model.parameters()) == shape.parameters


def test_a_budget_below_the_vocabulary_is_refused() -> None:
    with pytest.raises(UserError, match="fits 50000 tokens"):
        derive_shape(100_000, 50_000)


def test_the_end_of_text_embedding_learns() -> None:
    import torch

    model = new_model(derive_shape(60_000, 300), eos_id=0, seed=1)
    torch.nn.functional.normalize(model.get_input_embeddings()(torch.tensor([0])), dim=-1).sum().backward()
    assert model.get_input_embeddings().weight.grad[0].abs().sum() > 0
