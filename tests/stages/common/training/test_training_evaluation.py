"""Bits per character against a plain document-by-document computation."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from training_fakes import texts, tiny_model

from stages.common.checkpoint import load_tokenizer
from stages.common.training.evaluation import bits_per_character, sample
from stages.common.training.shards import Shards


def test_equals_one_document_at_a_time(shards_folder: Path) -> None:
    shards, tokenizer = Shards.open(shards_folder), load_tokenizer(shards_folder / "tokenizer")
    model = tiny_model(max_position_embeddings=1024).eval()
    found = bits_per_character(model, sample(shards, tokenizer, 1024), shards.eos_id, "cpu")
    for number, language in enumerate(("ru", "en")):
        bits, chars = 0.0, 0
        for text in texts(language, 8, seed=number):
            ids = tokenizer.encode(text, add_special_tokens=False)
            with torch.no_grad():
                logits = model(torch.tensor([[shards.eos_id, *ids[:-1]]])).logits[0]
            bits += F.cross_entropy(logits, torch.tensor(ids), reduction="sum").item() / math.log(2)
            chars += len(text)
        assert found[language] == pytest.approx(bits / chars, rel=1e-5)


def test_long_documents_are_scored_whole_in_pieces(shards_folder: Path) -> None:
    shards, tokenizer = Shards.open(shards_folder), load_tokenizer(shards_folder / "tokenizer")
    held = sample(shards, tokenizer, 16)
    stream = shards.tokens("world-ru", "heldout")
    targets = np.concatenate([row[1:] for row in held["ru"].rows])
    assert max(len(row) for row in held["ru"].rows) <= 17
    assert (targets != shards.eos_id).sum() == (stream != shards.eos_id).sum()


def test_the_sample_is_capped_and_the_same_every_time(
    shards_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stages.common.training import evaluation

    shards, tokenizer = Shards.open(shards_folder), load_tokenizer(shards_folder / "tokenizer")
    whole = sample(shards, tokenizer, 128)
    monkeypatch.setattr(evaluation, "TOKENS_PER_LANGUAGE", 40)
    capped = sample(shards, tokenizer, 128)
    assert 0 < capped["ru"].chars < whole["ru"].chars
    assert all(
        np.array_equal(a, b)
        for a, b in zip(capped["ru"].rows, sample(shards, tokenizer, 128)["ru"].rows, strict=True)
    )
