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

    `weights_BT` (float32): of each target in a weighted loss; None where all count the same.
    """

    inputs_BT: torch.Tensor
    targets_BT: torch.Tensor
    positions_BT: torch.Tensor
    subset_tokens: Mapping[str, int]
    weights_BT: torch.Tensor | None = None

    def to(self, device: str) -> Batch:
        """The same batch on `device`."""
        inputs, targets, places = (
            tensor.to(device) for tensor in (self.inputs_BT, self.targets_BT, self.positions_BT)
        )
        weights = None if self.weights_BT is None else self.weights_BT.to(device)
        return Batch(inputs, targets, places, self.subset_tokens, weights)

    def split(self, parts: int) -> list[Batch]:
        """`parts` batches of equally many rows; their token counts stay with the whole."""
        inputs, targets, places = (
            tensor.chunk(parts) for tensor in (self.inputs_BT, self.targets_BT, self.positions_BT)
        )
        weights = [None] * len(inputs) if self.weights_BT is None else self.weights_BT.chunk(parts)
        chunks = zip(inputs, targets, places, weights, strict=True)
        return [Batch(own, following, place, {}, weight) for own, following, place, weight in chunks]


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


class Sampler:
    """Windows of `sequence_length` + 1 tokens, drawn without replacement within an epoch of their subset.

    Every epoch cuts the stream at another offset. Raises `UserError` when a subset is unknown, empty or
    shorter than one window; `where` is the key of params.yaml that holds the mix.
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
        self._eos, self._seed = shards.eos_id, seed
        self._names = sorted(mix)
        shares = np.asarray([mix[name] for name in self._names], dtype=np.float64)
        self._edges = np.cumsum(shares / shares.sum())
        self._streams = [shards.tokens(name, "train") for name in self._names]
        self._start = np.random.default_rng([seed, 0]).random()
        self._orders: dict[tuple[int, int], tuple[int, npt.NDArray[np.int64]]] = {}
        self._choices = np.empty(0, dtype=np.int64)
        for name, stream in zip(self._names, self._streams, strict=True):
            if len(stream) <= sequence_length:
                raise UserError(
                    f"params.yaml: `{where}` names `{name}` of {len(stream)} tokens, less than one window of "
                    f"{sequence_length + 1}; add text or lower sequence_length"
                )

    def batch(self, step: int) -> Batch:
        """The batch of `step` (from 0)."""
        import torch

        first = step * self.batch_size
        chosen = self._chosen(first + self.batch_size)
        rows, counts = [], dict.fromkeys(self._names, 0)
        for row in range(first, first + self.batch_size):
            subset = int(chosen[row])
            draw = int(self._ranks[row])
            rows.append(self._window(subset, draw))
            counts[self._names[subset]] += self.sequence_length
        window = np.stack(rows)
        inputs_BT = np.ascontiguousarray(window[:, :-1])
        return Batch(
            torch.from_numpy(inputs_BT),
            torch.from_numpy(np.ascontiguousarray(window[:, 1:])),
            torch.from_numpy(np.ascontiguousarray(positions(inputs_BT, self._eos))),
            counts,
        )

    def _chosen(self, rows: int) -> npt.NDArray[np.int64]:
        """Subset of each of the first `rows` rows of the run; `_ranks` are their draws within the subset."""
        if rows > len(self._choices):
            number = np.arange(max(rows, 2 * len(self._choices), 1 << 12), dtype=np.float64)
            points = (self._start + number * GOLDEN) % 1.0
            self._choices = np.minimum(
                np.searchsorted(self._edges, points, side="right"), len(self._names) - 1
            )
            self._ranks = np.empty_like(self._choices)
            for subset in range(len(self._names)):
                own = self._choices == subset
                self._ranks[own] = np.arange(int(own.sum()))
        return self._choices

    def _window(self, subset: int, draw: int) -> npt.NDArray[np.int64]:
        stream, length = self._streams[subset], self.sequence_length
        epoch, place = divmod(draw, self._windows(subset))
        offset, order = self._order(subset, epoch)
        begin = offset + int(order[place]) * length
        return np.asarray(stream[begin : begin + length + 1], dtype=np.int64)

    def _windows(self, subset: int) -> int:
        """Windows of an epoch: as many as fit behind every offset, and at least one."""
        return max(1, len(self._streams[subset]) // self.sequence_length - 1)

    def _order(self, subset: int, epoch: int) -> tuple[int, npt.NDArray[np.int64]]:
        """Offset of the first window and the order of the windows of one subset in one epoch."""
        key = (subset, epoch)
        if key not in self._orders:
            self._orders = {kept: value for kept, value in self._orders.items() if kept[0] != subset}
            length, windows = self.sequence_length, self._windows(subset)
            generator = np.random.default_rng([self._seed, 1, crc32(self._names[subset].encode()), epoch])
            slack = min(length - 1, len(self._streams[subset]) - 1 - windows * length)
            offset = int(generator.integers(0, slack + 1))
            self._orders[key] = offset, generator.permutation(windows)
        return self._orders[key]
