"""Bits per character of held-out shards: comparable across tokenizers, unlike perplexity per token."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from stages.common.training.shards import Shards

TOKENS_PER_LANGUAGE = 16_384
ROW_TOKENS = 512
ROWS_AT_ONCE = 8


@dataclass(frozen=True)
class HeldOut:
    """Rows of whole held-out documents in one language, and the code points of their text."""

    rows: tuple[npt.NDArray[np.int64], ...]
    chars: int


def sample(shards: Shards, tokenizer: Any, sequence_limit: int) -> dict[str, HeldOut]:
    """About `TOKENS_PER_LANGUAGE` tokens of held-out documents per language, spread evenly over all there
    are.

    `sequence_limit` is the longest sequence that the model takes; longer documents are scored in pieces.
    Subsets that mix languages (`mul`) are left out.
    """
    by_language: dict[str, list[npt.NDArray[np.int64]]] = {}
    for subset in sorted(shards.subsets):
        if shards.subsets[subset]["language"] == "mul":
            continue
        stream, ends = shards.tokens(subset, "heldout"), shards.ends(subset, "heldout")
        starts = np.concatenate([[0], ends[:-1]]) if len(ends) else ends
        found = by_language.setdefault(shards.subsets[subset]["language"], [])
        found += [
            np.asarray(stream[begin : end - 1], dtype=np.int64)
            for begin, end in zip(starts, ends, strict=True)
        ]
    width = min(ROW_TOKENS, sequence_limit)
    return {
        language: _pack(_thin(documents), tokenizer, shards.eos_id, width)
        for language, documents in sorted(by_language.items())
        if documents
    }


def _thin(documents: list[npt.NDArray[np.int64]]) -> list[npt.NDArray[np.int64]]:
    total = sum(len(document) for document in documents)
    return documents[:: max(1, math.ceil(total / TOKENS_PER_LANGUAGE))]


def _pack(documents: list[npt.NDArray[np.int64]], tokenizer: Any, eos_id: int, width: int) -> HeldOut:
    """Rows of `eos, document, eos, document, ...` with at most `width` inputs and one token more as last
    target.
    """
    rows: list[list[int]] = []
    row: list[int] = []
    chars = 0
    for document in documents:
        chars += len(tokenizer.decode(document.tolist(), clean_up_tokenization_spaces=False))
        opened = [eos_id, *document.tolist()]
        for begin in range(0, max(1, len(opened) - 1), width):
            piece = opened[begin : begin + width + 1]
            # A later piece of a long document has no end-of-text token that would part it from what stands
            # before.
            if row and (begin or len(row) + len(piece) > width + 1):
                rows.append(row)
                row = []
            row += piece
    if row:
        rows.append(row)
    return HeldOut(tuple(np.asarray(row, dtype=np.int64) for row in rows), chars)


def bits_per_character(model: Any, held: dict[str, HeldOut], eos_id: int, device: str) -> dict[str, float]:
    """Bits per code point by language: -log2 P(tokens of the text), each document from the end-of-text
    token on.
    """
    was_training = model.training
    model.eval()
    try:
        return {
            language: _bits(model, sampled, eos_id, device) / sampled.chars
            for language, sampled in held.items()
        }
    finally:
        model.train(was_training)


def _bits(model: Any, held: HeldOut, eos_id: int, device: str) -> float:
    import torch
    import torch.nn.functional as F

    from stages.common.training.losses import body_and_head, chunk_tokens, hidden_states
    from stages.common.training.sampler import Batch, positions

    body, head = body_and_head(model)
    nats = 0.0
    with torch.no_grad():
        for first in range(0, len(held.rows), ROWS_AT_ONCE):
            rows = held.rows[first : first + ROWS_AT_ONCE]
            width = max(len(row) for row in rows)
            window = np.full((len(rows), width), eos_id, dtype=np.int64)
            for place, row in enumerate(rows):
                window[place, : len(row)] = row
            inputs_BT, targets_BT = window[:, :-1], window[:, 1:]
            batch = Batch(
                torch.from_numpy(inputs_BT.copy()),
                torch.from_numpy(targets_BT.copy()),
                torch.from_numpy(positions(inputs_BT, eos_id).copy()),
                {},
            ).to(device)
            states_NH, targets_N = hidden_states(body, batch), batch.targets_BT.flatten()
            tokens = chunk_tokens(head.weight.shape[0])
            for states, targets in zip(states_NH.split(tokens), targets_N.split(tokens), strict=True):
                # The end-of-text token is no character of the text, and fills the rows besides.
                nats += F.cross_entropy(
                    head(states).float(), targets, ignore_index=eos_id, reduction="sum"
                ).item()
    return nats / math.log(2)
