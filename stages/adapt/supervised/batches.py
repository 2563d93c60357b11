"""Batches of examples, alone or mixed with windows of shards, and the loss on held-out answers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np

from stages.common.training.rows import Document, PackedRows, Row, RowSource, stack
from stages.common.training.sampler import Batch, Draws, Windows, positions

if TYPE_CHECKING:
    from stages.adapt.supervised.examples import Examples
    from stages.common.params.training import Optimisation
    from stages.common.training.shards import Shards

OPEN_ROWS = 64
HELDOUT_TOKENS = 16_384
ROWS_AT_ONCE = 8


class _Replay:
    """Windows of a subset of the shards as rows in which every token counts."""

    def __init__(self, windows: Windows, eos_id: int) -> None:
        self._windows, self._eos = windows, eos_id

    def row(self, number: int) -> Row:
        """Row `number` (from 0) of the run."""
        window = self._windows.window(number)
        places_T = positions(window[None, :-1], self._eos)[0]
        ones_T = np.ones(len(window) - 1, dtype=np.float32)
        return Row(window[:-1], window[1:], places_T, ones_T, len(ones_T))


class Blend:
    """Gives the batch of any step: every row comes from one subset, drawn by the shares.

    Without a mix, the subsets pass in proportion to their size and every answer token weighs the same. With
    one, its shares are shares of the loss: rows are drawn by them, and what a subset's rows hold more of
    tokens that count, each of these weighs less. Otherwise a window of a shard, in which all count, would
    drown rows that are mostly prompts.
    """

    def __init__(
        self,
        sources: Mapping[str, RowSource],
        shares: Mapping[str, float],
        counted: Mapping[str, float] | None,
        batch_size: int,
        seed: int,
    ) -> None:
        """`counted`: tokens of an average row of each subset that count in the loss; None: all weigh 1."""
        self._sources, self._draws, self._batch_size = sources, Draws(shares, seed), batch_size
        least = min(counted.values()) if counted else 1.0
        self._weights = {name: np.float32(least / counted[name] if counted else 1.0) for name in sources}

    def batch(self, step: int) -> Batch:
        """The batch of `step` (from 0)."""
        rows, tokens = [], dict.fromkeys(self._draws.names, 0)
        for number in range(step * self._batch_size, (step + 1) * self._batch_size):
            name, draw = self._draws.of(number)
            row = self._sources[name].row(draw)
            tokens[name] += row.tokens
            weights_T = row.weights_T * self._weights[name]
            rows.append(Row(row.inputs_T, row.targets_T, row.positions_T, weights_T, row.tokens))
        return stack(rows, tokens)


def blend(
    examples: Examples,
    shards: Shards,
    mix: Mapping[str, float] | None,
    settings: Optimisation,
    seed: int,
) -> Blend:
    """The batches of `examples`, and of the shards that `mix` names beside them.

    Raises `UserError` when such a shard is unknown, empty or shorter than one window.
    """
    length = settings.sequence_length
    packed = {
        name: PackedRows(documents, length, shards.eos_id, [seed, 2, crc32(name.encode())], OPEN_ROWS)
        for name, documents in examples.train.items()
    }
    if mix is None:
        sizes = {name: float(len(rows.packed(0))) for name, rows in packed.items()}
        return Blend(packed, sizes, None, settings.batch_size, seed)
    replayed = [name for name in mix if name not in packed]
    shards.require(replayed, "adapt.mix")
    sources: dict[str, RowSource] = {**packed}
    counted = {
        name: examples.counts[name]["train_answer_tokens"] / len(rows.packed(0))
        for name, rows in packed.items()
    }
    for name in replayed:
        windows = Windows(shards, name, length, seed, "adapt.mix")
        sources[name], counted[name] = _Replay(windows, shards.eos_id), float(length)
    return Blend(sources, mix, counted, settings.batch_size, seed)


def thinned(documents: Sequence[Document]) -> list[Document]:
    """About `HELDOUT_TOKENS` tokens of `documents`, spread evenly over all there are."""
    total = sum(document.inputs for document in documents)
    return list(documents[:: max(1, math.ceil(total / HELDOUT_TOKENS))])


def answer_losses(
    model: Any, heldout: Mapping[str, Sequence[Document]], length: int, padding: int, device: str
) -> dict[str, float]:
    """Mean cross entropy in nats of the answer tokens of held-out examples, by subset."""
    was_training = model.training
    model.eval()
    try:
        return {
            name: _answer_loss(model, thinned(documents), length, padding, device)
            for name, documents in sorted(heldout.items())
        }
    finally:
        model.train(was_training)


def _answer_loss(model: Any, documents: Sequence[Document], length: int, padding: int, device: str) -> float:
    import torch

    from stages.common.training.losses import cross_entropy

    packed = PackedRows(documents, length, padding, [0], OPEN_ROWS)
    rows = [packed.filled(indices) for indices in packed.packed(0)]
    nats = weight = 0.0
    with torch.no_grad():
        for first in range(0, len(rows), ROWS_AT_ONCE):
            batch = stack(rows[first : first + ROWS_AT_ONCE], {}).to(device)
            assert batch.weights_BT is not None
            own = batch.weights_BT.sum().item()
            nats, weight = nats + cross_entropy(model, batch).item() * own, weight + own
    return nats / weight
