"""A tiny tokenizer, shards and models for the tests of the training stages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from stages.common.atomic import write_json
from stages.common.bpe import train_tokenizer
from stages.common.checkpoint import load_tokenizer, save_tokenizer, tokenizer_sha256
from stages.common.params.training import Optimisation
from stages.common.training.shards import SPLITS, ShardWriter, token_dtype

RUSSIAN = ["кот спит дома", "мама мыла раму", "на дворе трава", "у реки растёт ива", "семь раз отмерь"]
ENGLISH = ["the cat sleeps at home", "grass grows in the yard", "a willow stands by the river"]


def texts(language: str, documents: int, seed: int = 0) -> list[str]:
    """Documents of 1 to 6 sentences."""
    sentences = RUSSIAN if language == "ru" else ENGLISH
    generator = np.random.default_rng(seed)
    return [
        ". ".join(generator.choice(sentences, size=generator.integers(1, 7))) + f" {number}"
        for number in range(documents)
    ]


def make_tokenizer(folder: Path) -> Any:
    """A BPE of 300 entries, saved below `folder` and loaded again."""
    save_tokenizer(train_tokenizer([*texts("ru", 40), *texts("en", 40)], 300), folder)
    return load_tokenizer(folder)


def make_shards(folder: Path, subsets: dict[str, str] | None = None) -> Path:
    """A folder as the stage `tokens` writes it; `subsets` maps names to languages."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = make_tokenizer(folder / "tokenizer")
    about: dict[str, Any] = {}
    for number, (name, language) in enumerate((subsets or {"world-ru": "ru", "world-en": "en"}).items()):
        about[name] = {"language": language, "licence": "CC0-1.0", "licences": ["CC0-1.0"]}
        for split in SPLITS:
            writer = ShardWriter(folder, name, split, token_dtype(len(tokenizer)), tokenizer.eos_token_id)
            for text in texts(language, 60 if split == "train" else 8, seed=number):
                writer.add(tokenizer.encode(text, add_special_tokens=False), len(text))
            about[name][split] = writer.close()
    write_json(
        folder / "shards.json",
        {
            "dtype": "uint16",
            "vocab_size": len(tokenizer),
            "eos_id": tokenizer.eos_token_id,
            "tokenizer_sha256": tokenizer_sha256(folder / "tokenizer"),
            "subsets": about,
        },
    )
    return folder


def settings(**changes: Any) -> Optimisation:
    """Eight steps of 4 x 16 tokens."""
    values = {
        "tokens": 512,
        "learning_rate": 0.01,
        "warmup_share": 0.25,
        "final_lr_share": 0.1,
        "schedule": "linear",
        "weight_decay": 0.1,
        "batch_size": 4,
        "sequence_length": 16,
        "clip": 1.0,
        "precision": "fp32",
        "checkpoint_steps": 2,
    }
    return Optimisation(**{**values, **changes})


def tiny_config(family: str = "qwen2", vocab_size: int = 300, layers: int = 2, **changes: Any) -> Any:
    """A configuration of 32 wide layers in one of the supported families."""
    from transformers import AutoConfig

    values = {
        "vocab_size": vocab_size,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "max_position_embeddings": 128,
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": 0,
        "pad_token_id": None,
    }
    return AutoConfig.for_model(family, **{**values, **changes})


def tiny_model(family: str = "qwen2", seed: int = 0, attention: str = "sdpa", **changes: Any) -> Any:
    """A model of `tiny_config` with random weights."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(tiny_config(family, **changes), attn_implementation=attention)
