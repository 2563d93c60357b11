"""Rows of whole texts, and a loss that dwells on the verdict.

A window cut through a stream would part most verdicts from their question, so texts are packed whole.
Shapes: B rows, T tokens of a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from stages.common.errors import UserError
from stages.common.training.sampler import Batch
from stages.judge_model.lessons import Lesson

if TYPE_CHECKING:
    import torch

VERDICT_WEIGHT = 8.0
SUBSET = "judging"


@dataclass(frozen=True)
class Texts:
    """Encoded lessons: token ids without the end-of-text token, and how many of the last are the verdict."""

    ids: list[list[int]]
    verdicts: list[int]

    @classmethod
    def encode(cls, tokenizer: Any, lessons: Sequence[Lesson]) -> Texts:
        """Encode all texts at once; the tokens of a verdict are those that its prompt does not cover."""
        whole = tokenizer([lesson.text for lesson in lessons], add_special_tokens=False)["input_ids"]
        prompts = [lesson.text.removesuffix(lesson.verdict) for lesson in lessons]
        heads = tokenizer(prompts, add_special_tokens=False)["input_ids"]
        return cls(whole, [len(text) - len(head) for text, head in zip(whole, heads, strict=True)])


class Rows:
    """Gives the batch of any step, so that a resumed run needs no state. Every epoch has an order of its own.

    Raises `UserError` when the texts do not fit into rows of `length` tokens.
    """

    def __init__(self, texts: Texts, eos_id: int, batch_size: int, length: int, seed: int) -> None:
        fitting = [index for index, ids in enumerate(texts.ids) if len(ids) < length]
        if len(fitting) < 0.9 * len(texts.ids):
            raise UserError(
                f"params.yaml: judge_model.training.sequence_length {length} is too short for its texts"
            )
        self._texts, self._eos, self._batch_size, self._length, self._seed = (
            texts,
            eos_id,
            batch_size,
            length,
            seed,
        )
        self._fitting = np.asarray(fitting)
        self._epochs: dict[int, list[list[int]]] = {}
        self._starts = [0]

    def batch(self, step: int) -> Batch:
        """The batch of `step` (from 0); weights are 0 for padding and more than 1 for a verdict."""
        import torch

        shape = (self._batch_size, self._length)
        inputs_BT, targets_BT = np.full(shape, self._eos), np.full(shape, self._eos)
        positions_BT, weights_BT = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.float32)
        for place in range(self._batch_size):
            self._fill(
                self._row(step * self._batch_size + place),
                inputs_BT[place], targets_BT[place], positions_BT[place], weights_BT[place],
            )  # fmt: skip
        tokens = {SUBSET: int((weights_BT > 0).sum())}
        inputs, targets, places = (torch.from_numpy(array) for array in (inputs_BT, targets_BT, positions_BT))
        return Batch(inputs, targets, places, tokens, torch.from_numpy(weights_BT))

    def _fill(
        self,
        row: list[int],
        inputs_T: npt.NDArray[Any],
        targets_T: npt.NDArray[Any],
        positions_T: npt.NDArray[Any],
        weights_T: npt.NDArray[Any],
    ) -> None:
        """Write the texts of one row, each opened by the end-of-text token and closed by it as a target."""
        start = 0
        for index in row:
            ids, verdict = self._texts.ids[index], self._texts.verdicts[index]
            end = start + len(ids) + 1
            inputs_T[start:end] = [self._eos, *ids]
            targets_T[start:end] = [*ids, self._eos]
            positions_T[start:end] = np.arange(end - start)
            weights_T[start:end] = 1.0
            weights_T[end - 1 - verdict : end - 1] = VERDICT_WEIGHT
            start = end
        # Every padding token is a document of its own (position 0), so that no text attends to it.

    def _row(self, number: int) -> list[int]:
        """The texts of row `number` of the run."""
        epoch = 0
        while True:
            if epoch not in self._epochs:
                self._epochs[epoch] = self._packed(epoch)
                self._starts.append(self._starts[-1] + len(self._epochs[epoch]))
            if number < self._starts[epoch + 1]:
                return self._epochs[epoch][number - self._starts[epoch]]
            epoch += 1

    def _packed(self, epoch: int) -> list[list[int]]:
        """All texts once, shuffled, in rows of whole texts."""
        order = np.random.default_rng([self._seed, epoch]).permutation(self._fitting)
        rows: list[list[int]] = [[]]
        room = self._length
        for index in order.tolist():
            needed = len(self._texts.ids[index]) + 1
            if needed > room:
                rows.append([])
                room = self._length
            rows[-1].append(index)
            room -= needed
        return rows


def weighted_cross_entropy(model: Any, batch: Batch) -> torch.Tensor:
    """Weighted mean of the next-token cross entropy in nats, a scalar; attention stays within each text."""
    import torch.nn.functional as F

    assert batch.weights_BT is not None
    # Transformers takes the document bounds from `position_ids` only when no mask and no cache is passed.
    logits_BTV = model(
        input_ids=batch.inputs_BT, position_ids=batch.positions_BT, attention_mask=None, use_cache=False
    ).logits
    losses_N = F.cross_entropy(logits_BTV.float().flatten(0, 1), batch.targets_BT.flatten(), reduction="none")
    weights_N = batch.weights_BT.flatten()
    return (losses_N * weights_N).sum() / weights_N.sum()
