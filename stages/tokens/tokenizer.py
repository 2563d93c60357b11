"""The tokenizer: a byte-level BPE trained on the corpus, or the one of the base model."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from stages.common.checkpoint import load_tokenizer, save_tokenizer, tokenizer_sha256
from stages.common.errors import UserError

END_OF_TEXT = "<|endoftext|>"


def train(texts: Iterable[str], vocab_size: int) -> Any:
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


def take(source: Path, folder: Path) -> None:
    """Put the tokenizer of the checkpoint `source` into `folder`. Raises `UserError` when it does not
    survive that.
    """
    save_tokenizer(load_tokenizer(source), folder)
    if tokenizer_sha256(folder) != tokenizer_sha256(source):
        raise UserError(
            f"{source}: its tokenizer changes when it is saved on its own; name its `tokenizer_class` in "
            "tokenizer_config.json"
        )
