"""Rows of whole documents: packing, isolation, and the weighted loss over them, whole and in parts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from training_fakes import tiny_model

from stages.common.training.losses import cross_entropy
from stages.common.training.rows import Document, PackedRows, pack, stack

LENGTH, PADDING = 16, 0
SIZES = st.lists(st.integers(1, LENGTH), min_size=1, max_size=40)


def _document(size: int, first: int, counted: int = 1) -> Document:
    """`size` inputs of distinct tokens from `first` up; the last `counted` targets weigh 1."""
    weights = np.zeros(size + 1, dtype=np.float32)
    weights[size + 1 - counted :] = 1.0
    return Document(np.arange(first, first + size + 1, dtype=np.int64), weights)


def _rows(sizes: list[int], seed: int = 0, open_rows: int = 4) -> PackedRows:
    firsts = np.cumsum([1, *(size + 1 for size in sizes)]).tolist()
    documents = [_document(size, first) for size, first in zip(sizes, firsts, strict=False)]
    return PackedRows(documents, LENGTH, PADDING, [seed], open_rows)


@given(SIZES, st.integers(1, 8))
def test_a_row_never_overflows_and_every_document_is_in_one(sizes: list[int], open_rows: int) -> None:
    rows = pack(sizes, LENGTH, open_rows)
    assert sorted(place for row in rows for place in row) == list(range(len(sizes)))
    assert all(0 < sum(sizes[place] for place in row) <= LENGTH for row in rows)


@given(SIZES)
def test_with_all_rows_open_a_document_opens_one_only_where_no_other_has_room(sizes: list[int]) -> None:
    rows = pack(sizes, LENGTH, len(sizes))
    room: list[int] = []
    for place, size in enumerate(sizes):
        own = next(number for number, row in enumerate(rows) if place in row)
        assert all(size > left for left in room[:own])
        if own == len(room):
            room.append(LENGTH)
        room[own] -= size


@settings(max_examples=30)
@given(SIZES, st.integers(0, 5))
def test_an_epoch_shows_every_document_once_and_the_next_in_another_order(
    sizes: list[int], seed: int
) -> None:
    rows = _rows(sizes, seed)
    number, shown = 0, []
    for epoch in range(2):
        seen: list[int] = []
        for _ in rows.packed(epoch):
            row = rows.row(number)
            seen += row.targets_T[row.weights_T > 0].tolist()
            assert row.tokens == int((row.inputs_T != PADDING).sum())
            number += 1
        shown.append(seen)
    assert sorted(shown[0]) == sorted(shown[1])
    assert len(set(shown[0])) == len(sizes)
    if len(sizes) > 8:
        assert shown[0] != shown[1]


def test_a_row_is_a_function_of_its_number() -> None:
    sizes = [3, 5, 7, 11, 2, 9, 4, 4, 13]
    forwards, backwards = _rows(sizes), _rows(sizes)
    numbers = range(12)
    there = [forwards.row(number) for number in numbers]
    back = [backwards.row(number) for number in reversed(numbers)][::-1]
    for one, other in zip(there, back, strict=True):
        assert (one.inputs_T == other.inputs_T).all() and (one.weights_T == other.weights_T).all()
    assert len({row.inputs_T.tobytes() for row in there}) > 6


def test_positions_begin_anew_with_every_document_and_every_padding_token() -> None:
    row = PackedRows([_document(3, 1), _document(4, 11, counted=2)], 10, PADDING, [0]).filled([0, 1])
    assert row.inputs_T.tolist() == [1, 2, 3, 11, 12, 13, 14, 0, 0, 0]
    assert row.targets_T.tolist() == [2, 3, 4, 12, 13, 14, 15, 0, 0, 0]
    assert row.positions_T.tolist() == [0, 1, 2, 0, 1, 2, 3, 0, 0, 0]
    assert row.weights_T.tolist() == [0, 0, 1, 0, 0, 1, 1, 0, 0, 0]
    assert row.tokens == 7


@pytest.mark.parametrize("family", ["qwen2", "llama", "mistral", "qwen3"])
def test_the_loss_of_a_packed_row_is_that_of_its_documents_alone(family: str) -> None:
    model = tiny_model(family)
    documents = [_document(5, 10, counted=2), _document(6, 40, counted=4), _document(3, 90, counted=1)]
    packed = cross_entropy(model, stack([PackedRows(documents, LENGTH, PADDING, [0]).filled([0, 1, 2])], {}))
    nats, counted = torch.zeros(()), 0
    for document in documents:
        tokens = torch.from_numpy(document.tokens_n)
        losses = F.cross_entropy(model(tokens[None, :-1]).logits[0], tokens[1:], reduction="none")
        kept = torch.from_numpy(document.weights_n[1:]) > 0
        nats, counted = nats + losses[kept].sum(), counted + int(kept.sum())
    alone = nats / counted
    assert packed.item() == pytest.approx(alone.item(), rel=1e-5)
    gradients = [
        torch.autograd.grad(value, list(model.parameters()), retain_graph=True) for value in (packed, alone)
    ]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_parts_of_a_step_give_the_loss_and_gradient_of_the_whole(parts: int) -> None:
    """Rows with 8, 1, 4 and 2 counted targets: a plain mean of the parts' means would weigh them alike."""
    model = tiny_model()
    documents = [_document(12, 20 * row + 1, counted) for row, counted in enumerate((8, 1, 4, 2))]
    packed = PackedRows(documents, LENGTH, PADDING, [0])
    batch = stack([packed.filled([row]) for row in range(4)], {})
    whole = cross_entropy(model, batch)
    expected = torch.autograd.grad(whole, list(model.parameters()))
    summed = sum(cross_entropy(model, part) / parts for part in batch.to("cpu").split(parts))
    assert isinstance(summed, torch.Tensor)
    assert summed.item() == pytest.approx(whole.item(), rel=1e-6)
    for one, other in zip(torch.autograd.grad(summed, list(model.parameters())), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-7)


def test_a_part_without_an_answer_adds_nothing() -> None:
    model = tiny_model()
    silent = Document(np.arange(1, 8, dtype=np.int64), np.zeros(7, dtype=np.float32))
    packed = PackedRows([_document(6, 20), silent], LENGTH, PADDING, [0])
    first, second = stack([packed.filled([0]), packed.filled([1])], {}).split(2)
    loss = cross_entropy(model, second)
    loss.backward()
    assert loss.item() == 0
    assert cross_entropy(model, first).item() > 0


def test_weights_scale_what_a_target_counts() -> None:
    model = tiny_model()
    document = _document(4, 5, counted=2)
    weighted = Document(document.tokens_n, document.weights_n * np.asarray([0, 0, 0, 3, 1], dtype=np.float32))
    losses = [
        cross_entropy(model, stack([PackedRows([one], LENGTH, PADDING, [0]).filled([0])], {})).item()
        for one in (
            weighted,
            Document(document.tokens_n, np.asarray([0, 0, 0, 1, 0], dtype=np.float32)),
            Document(document.tokens_n, np.asarray([0, 0, 0, 0, 1], dtype=np.float32)),
        )
    ]
    assert losses[0] == pytest.approx((3 * losses[1] + losses[2]) / 4, rel=1e-5)
