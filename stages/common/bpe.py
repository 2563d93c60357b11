"""Byte-level BPE trained on the spot; the judge of the embedded world trains its own the same way."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

END_OF_TEXT = "<|endoftext|>"


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Any:
    """A byte-level BPE with the normalisation (NFC) and splitting of Qwen2, and `<|endoftext|>` as end and
    padding.

    The pipeline is taken from Transformers' own Qwen2 class: it would put its own splitting in the place of
    any other as soon as the tokenizer is loaded beside a Qwen2 model. A small corpus may give fewer entries
    than asked.
    """
    from tokenizers import pre_tokenizers, trainers
    from transformers import Qwen2Tokenizer

    blank = Qwen2Tokenizer().backend_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    blank.train_from_iterator(texts, trainer)
    model = json.loads(blank.to_str())["model"]
    merges: Any = [tuple(pair) for pair in model["merges"]]
    return Qwen2Tokenizer(
        vocab=model["vocab"],
        merges=merges,
        eos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        unk_token=END_OF_TEXT,
    )
