"""A small Qwen2-shaped checkpoint with tied embeddings, biases and awkward widths."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """bf16, hidden width 64, MLP width 176 = 16 * 11, two layers, tokenizer files that must be copied
    untouched.
    """
    import torch
    from transformers import AutoModelForCausalLM, Qwen2Config

    folder = tmp_path_factory.mktemp("source")
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=160,
        hidden_size=64,
        intermediate_size=176,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        tie_word_embeddings=True,
    )
    model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter)
    model.save_pretrained(folder)
    (folder / "tokenizer.json").write_text('{"odd":   "spacing"}', encoding="utf-8")
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 3}), encoding="utf-8")
    (folder / "gorn.json").write_text("{}", encoding="utf-8")
    (folder / "notes.bin").write_bytes(b"\x80pickle")
    return folder
