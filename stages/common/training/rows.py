"""Rows of whole documents with a weight for every target, for losses that do not count all tokens alike.

A window cut through a stream would part most answers from their question, so documents are packed whole.
Shapes: T inputs of a row, n tokens of a document.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from stages.common.training.sampler import Batch


@dataclass(frozen=True)
class Document:
    """`tokens_n` (int64) and `weights_n` (float32): of each token as a target; the first is never one."""

    tokens_n: npt.NDArray[np.int64]
    weights_n: npt.NDArray[np.float32]

    @property
    def inputs(self) -> int:
        """Places that the document takes in a row: its last token is a target only."""
        return len(self.tokens_n) - 1


@dataclass(frozen=True)
class Row:
    """One row of a batch, shape (T,) each; `tokens`: inputs that are no padding."""

    inputs_T: npt.NDArray[np.int64]
    targets_T: npt.NDArray[np.int64]
    positions_T: npt.NDArray[np.int64]
    weights_T: npt.NDArray[np.float32]
    tokens: int


class RowSource(Protocol):
    """Anything that gives the row of a number as a pure function of it."""

    def row(self, number: int) -> Row:
        """Row `number` (from 0) of the run."""


class PackedRows:
    """All documents once an epoch, whole, in an order of its own, in rows of `length` inputs.

    Positions begin anew with every document, which confines attention to it; every padding token is a
    document of its own with weight 0. A document goes into the first of the last `open_rows` rows that has
    room for it. Every document must fit into a row.
    """

    def __init__(
        self,
        documents: Sequence[Document],
        length: int,
        padding: int,
        seed: Sequence[int],
        open_rows: int = 1,
    ) -> None:
        self._documents, self._length, self._padding = documents, length, padding
        self._seed, self._open = list(seed), open_rows
        self._starts = [0]
        self._epochs: dict[int, list[list[int]]] = {}

    def row(self, number: int) -> Row:
        """Row `number` (from 0) of the run."""
        epoch = 0
        while number >= self._start(epoch + 1):
            epoch += 1
        return self.filled(self.packed(epoch)[number - self._starts[epoch]])

    def _start(self, epoch: int) -> int:
        """The number of the first row of `epoch`."""
        while len(self._starts) <= epoch:
            self._starts.append(self._starts[-1] + len(self.packed(len(self._starts) - 1)))
        return self._starts[epoch]

    def packed(self, epoch: int) -> list[list[int]]:
        """The rows of an epoch, each as indices of its documents."""
        if epoch not in self._epochs:
            self._epochs = {kept: rows for kept, rows in self._epochs.items() if kept == epoch - 1}
            order = np.random.default_rng([*self._seed, epoch]).permutation(len(self._documents))
            sizes = [self._documents[index].inputs for index in order]
            rows = pack(sizes, self._length, self._open)
            self._epochs[epoch] = [[int(order[place]) for place in row] for row in rows]
        return self._epochs[epoch]

    def filled(self, indices: Sequence[int]) -> Row:
        """The row of these documents, one after the other."""
        length = self._length
        inputs_T, targets_T = (np.full(length, self._padding, dtype=np.int64) for _ in range(2))
        positions_T, weights_T = np.zeros(length, dtype=np.int64), np.zeros(length, dtype=np.float32)
        start = 0
        for index in indices:
            document = self._documents[index]
            place = slice(start, start + document.inputs)
            inputs_T[place], targets_T[place] = document.tokens_n[:-1], document.tokens_n[1:]
            positions_T[place] = np.arange(document.inputs)
            weights_T[place] = document.weights_n[1:]
            start = place.stop
        return Row(inputs_T, targets_T, positions_T, weights_T, start)


def pack(sizes: Sequence[int], length: int, open_rows: int) -> list[list[int]]:
    """Rows of places in `sizes`, none above `length`: first fit among the last `open_rows` rows."""
    rows: list[list[int]] = []
    room: list[int] = []
    for place, size in enumerate(sizes):
        first = max(0, len(rows) - open_rows)
        fitting = next((row for row in range(first, len(rows)) if size <= room[row]), None)
        if fitting is None:
            fitting = len(rows)
            rows.append([])
            room.append(length)
        rows[fitting].append(place)
        room[fitting] -= size
    return rows


def stack(rows: Sequence[Row], subset_tokens: Mapping[str, int]) -> Batch:
    """The batch of `rows`."""
    import torch

    inputs, targets, places, weights = (
        torch.from_numpy(np.stack([getattr(row, name) for row in rows]))
        for name in ("inputs_T", "targets_T", "positions_T", "weights_T")
    )
    return Batch(inputs, targets, places, subset_tokens, weights)
