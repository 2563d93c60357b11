"""The judge's texts as rows, with weights that make the loss dwell on the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stages.common.errors import UserError
from stages.common.training.rows import Document, PackedRows, stack
from stages.common.training.sampler import Batch
from stages.judge_model.lessons import Lesson

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
        documents = [
            _document(ids, verdict, eos_id)
            for ids, verdict in zip(texts.ids, texts.verdicts, strict=True)
            if len(ids) < length
        ]
        if len(documents) < 0.9 * len(texts.ids):
            raise UserError(
                f"params.yaml: judge_model.training.sequence_length {length} is too short for its texts"
            )
        self._batch_size = batch_size
        self._rows = PackedRows(documents, length, eos_id, [seed])

    def batch(self, step: int) -> Batch:
        """The batch of `step` (from 0); weights are 0 for padding and more than 1 for a verdict."""
        first = step * self._batch_size
        rows = [self._rows.row(number) for number in range(first, first + self._batch_size)]
        return stack(rows, {SUBSET: sum(row.tokens for row in rows)})


def _document(ids: list[int], verdict: int, eos_id: int) -> Document:
    """A text opened by the end-of-text token and closed by it as a target."""
    weights_n = np.ones(len(ids) + 2, dtype=np.float32)
    weights_n[len(ids) + 1 - verdict : len(ids) + 1] = VERDICT_WEIGHT
    return Document(np.asarray([eos_id, *ids, eos_id], dtype=np.int64), weights_n)
