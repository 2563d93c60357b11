"""Which tokens a step trains on: a pure function of (seed, step), so that a resumed run needs no loader
state.

Shapes: B rows of a batch, T tokens of a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol
from zlib import crc32

import numpy as np
import numpy.typing as npt

from stages.common.errors import UserError

if TYPE_CHECKING:
    import torch

    from stages.common.training.shards import Shards

# Additive recurrence of the golden ratio: any prefix of it is spread evenly, so realised shares follow the
# mix.
GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True)
class Batch:
    """`inputs_BT`, `targets_BT` and `positions_BT` as int64; `subset_tokens`: tokens per subset.

    `weights_BT` (float32): of each target in a weighted loss; None where all count the same. `weight`: what
    the weighted sum of this batch is divided by, None for the sum of its own weights.
    """

    inputs_BT: torch.Tensor
    targets_BT: torch.Tensor
    positions_BT: torch.Tensor
    subset_tokens: Mapping[str, int]
    weights_BT: torch.Tensor | None = None
    weight: float | None = None

    def to(self, device: str) -> Batch:
        """The same batch on `device`."""
        inputs, targets, places = (
            tensor.to(device) for tensor in (self.inputs_BT, self.targets_BT, self.positions_BT)
        )
        weights = None if self.weights_BT is None else self.weights_BT.to(device)
        return Batch(inputs, targets, places, self.subset_tokens, weights, self.weight)

    def split(self, parts: int) -> list[Batch]:
        """`parts` batches of equally many rows; their token counts stay with the whole.

        The mean of the parts' losses is the loss of the whole, though their weights may differ in sum.
        """
        inputs, targets, places = (
            tensor.chunk(parts) for tensor in (self.inputs_BT, self.targets_BT, self.positions_BT)
        )
        weights = [None] * len(inputs) if self.weights_BT is None else self.weights_BT.chunk(parts)
        share = None if self.weights_BT is None else self.weights_BT.sum().item() / parts
        chunks = zip(inputs, targets, places, weights, strict=True)
        return [Batch(own, following, place, {}, weight, share) for own, following, place, weight in chunks]


class Batches(Protocol):
    """Anything that gives the batch of a step as a pure function of it."""

    def batch(self, step: int) -> Batch:
        """The batch of `step` (from 0)."""


def positions(inputs_BT: npt.NDArray[np.int64], eos_id: int) -> npt.NDArray[np.int64]:
    """Position of each token within its document, 0 at an end-of-text token and at the start of a row.

    The end-of-text token closes its document as a target and opens the next one as an input. So the join
    needs no loss mask: what follows it is predicted from that token alone, as it is when held-out documents
    are scored.
    """
    places_BT = np.broadcast_to(np.arange(inputs_BT.shape[1]), inputs_BT.shape)
    starts_BT = np.where(inputs_BT == eos_id, places_BT, 0)
    return places_BT - np.maximum.accumulate(starts_BT, axis=1)


class Draws:
    """Which subset every row of a run comes from, so that any prefix of them follows the shares."""

    def __init__(self, shares: Mapping[str, float], seed: int) -> None:
        self.names = sorted(shares)
        parts = np.asarray([shares[name] for name in self.names], dtype=np.float64)
        self._edges = np.cumsum(parts / parts.sum())
        self._start = np.random.default_rng([seed, 0]).random()
        self._choices = self._ranks = np.empty(0, dtype=np.int64)

    def of(self, row: int) -> tuple[str, int]:
        """(subset of `row`, how many rows before it come from the same)."""
        if row >= len(self._choices):
            self._extend(max(row + 1, 2 * len(self._choices), 1 << 12))
        return self.names[self._choices[row]], int(self._ranks[row])

    def _extend(self, rows: int) -> None:
        points = (self._start + np.arange(rows, dtype=np.float64) * GOLDEN) % 1.0
        self._choices = np.minimum(np.searchsorted(self._edges, points, side="right"), len(self.names) - 1)
        self._ranks = np.empty_like(self._choices)
        for subset in range(len(self.names)):
            own = self._choices == subset
            self._ranks[own] = np.arange(int(own.sum()))


class Windows:
    """Windows of `sequence_length` + 1 tokens of one subset, drawn without replacement within an epoch.

    Every epoch cuts the stream at another offset. Raises `UserError` when the subset is shorter than one
    window; `where` is the key of params.yaml that names it.
    """

    def __init__(self, shards: Shards, name: str, sequence_length: int, seed: int, where: str) -> None:
        self.sequence_length = sequence_length
        self._stream, self._seed = shards.tokens(name, "train"), [seed, 1, crc32(name.encode())]
        self._epoch: tuple[int, int, npt.NDArray[np.int64]] | None = None
        if len(self._stream) <= sequence_length:
            raise UserError(
                f"params.yaml: `{where}` names `{name}` of {len(self._stream)} tokens, less than one window "
                f"of {sequence_length + 1}; add text or lower sequence_length"
            )

    def window(self, draw: int) -> npt.NDArray[np.int64]:
        """Window `draw` (from 0) of the run, shape (sequence_length + 1,)."""
        epoch, place = divmod(draw, self._windows)
        offset, order = self._order(epoch)
        begin = offset + int(order[place]) * self.sequence_length
        return np.asarray(self._stream[begin : begin + self.sequence_length + 1], dtype=np.int64)

    @property
    def _windows(self) -> int:
        """Windows of an epoch: as many as fit behind every offset, and at least one."""
        return max(1, len(self._stream) // self.sequence_length - 1)

    def _order(self, epoch: int) -> tuple[int, npt.NDArray[np.int64]]:
        """Offset of the first window and the order of the windows in one epoch."""
        if self._epoch is None or self._epoch[0] != epoch:
            length, windows = self.sequence_length, self._windows
            generator = np.random.default_rng([*self._seed, epoch])
            slack = min(length - 1, len(self._stream) - 1 - windows * length)
            self._epoch = epoch, int(generator.integers(0, slack + 1)), generator.permutation(windows)
        return self._epoch[1:]


class Sampler:
    """Batches of windows, the subset of each row drawn by the shares of `mix`.

    Raises `UserError` when a subset is unknown, empty or shorter than one window; `where` is the key of
    params.yaml that holds the mix.
    """

    def __init__(
        self,
        shards: Shards,
        mix: Mapping[str, float],
        batch_size: int,
        sequence_length: int,
        seed: int,
        where: str,
    ) -> None:
        shards.require(mix, where)
        self.batch_size, self.sequence_length = batch_size, sequence_length
        self._eos, self._draws = shards.eos_id, Draws(mix, seed)
        self._windows = {name: Windows(shards, name, sequence_length, seed, where) for name in sorted(mix)}

    def batch(self, step: int) -> Batch:
        """The batch of `step` (from 0)."""
        import torch

        first = step * self.batch_size
        rows, counts = [], dict.fromkeys(self._windows, 0)
        for row in range(first, first + self.batch_size):
            name, draw = self._draws.of(row)
            rows.append(self._windows[name].window(draw))
            counts[name] += self.sequence_length
        window = np.stack(rows)
        inputs_BT = np.ascontiguousarray(window[:, :-1])
        return Batch(
            torch.from_numpy(inputs_BT),
            torch.from_numpy(np.ascontiguousarray(window[:, 1:])),
            torch.from_numpy(np.ascontiguousarray(positions(inputs_BT, self._eos))),
            counts,
        )
