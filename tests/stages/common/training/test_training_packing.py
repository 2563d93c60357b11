"""Documents in a packed row do not see each other: the silent leak of attention masks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from training_fakes import tiny_model

from stages.common.training.losses import body_and_head, hidden_states
from stages.common.training.sampler import Batch, positions

EOS = 0
FIRST, SECOND = [EOS, 11, 12, 13, 14, 15], [EOS, 21, 22, 23, 24]


def _batch(rows: list[list[int]]) -> Batch:
    inputs = np.asarray(rows, dtype=np.int64)
    tokens = torch.from_numpy(inputs)
    return Batch(tokens, tokens, torch.from_numpy(positions(inputs, EOS).copy()), {})


def _states(model: Any, rows: list[list[int]]) -> torch.Tensor:
    with torch.no_grad():
        return hidden_states(body_and_head(model)[0], _batch(rows))


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", ["qwen2", "llama", "mistral", "qwen3"])
def test_a_document_in_a_packed_row_is_computed_as_if_alone(family: str, attention: str) -> None:
    model = tiny_model(family, attention=attention).eval()
    packed = _states(model, [FIRST + SECOND])
    alone = torch.cat([_states(model, [FIRST]), _states(model, [SECOND])])
    assert (packed - alone).abs().max() < 1e-5


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_the_isolation_test_would_see_a_leak(attention: str) -> None:
    model = tiny_model(attention=attention).eval()
    batch = _batch([FIRST + SECOND])
    with torch.no_grad():
        leaking = model.model(
            input_ids=batch.inputs_BT,
            position_ids=batch.positions_BT,
            attention_mask=torch.ones_like(batch.inputs_BT),
            use_cache=False,
        ).last_hidden_state[0]
    assert (leaking[len(FIRST) :] - _states(model, [SECOND])).abs().max() > 1e-3


def test_documents_stay_apart_in_the_gradients_too() -> None:
    model = tiny_model().train()
    batch = _batch([FIRST + SECOND])
    states = hidden_states(body_and_head(model)[0], batch)
    states[len(FIRST) :].square().sum().backward()
    moved = model.model.embed_tokens.weight.grad.abs().sum(dim=1) > 0
    assert moved[SECOND].all()
    assert not moved[FIRST[1:]].any()


@given(st.lists(st.lists(st.integers(0, 3), min_size=6, max_size=6), min_size=1, max_size=4))
def test_positions_count_from_the_last_end_of_text(rows: list[list[int]]) -> None:
    found = positions(np.asarray(rows), EOS)
    for row, places in zip(rows, found, strict=True):
        last = 0
        for index, token in enumerate(row):
            last = index if token == EOS else last
            assert places[index] == index - last
