"""What a method trains, at the sizes of known models; gates and LoRA of rank 16 are those of the sheet."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from training_fakes import settings
from transformers import AutoConfig, AutoModelForCausalLM

from stages.common.params.adaptation import AdaptBlock
from stages.common.trainable import linear_layers, trainable_numbers

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
SHAPES = {
    "Llama-3.2-1B": ("llama", (2048, 8192, 16, 32, 8)),
    "Qwen2.5-7B": ("qwen2", (3584, 18_944, 28, 28, 4)),
}
RANKED = {"rank": 16, "alpha": 32, "target_modules": TARGETS}
GATES = {"share": 0.3, "mode": "global", "gate_learning_rate": 0.01}


def model(name: str) -> Any:
    family, (hidden, ffn, layers, heads, groups) = SHAPES[name]
    config = AutoConfig.for_model(
        family,
        hidden_size=hidden,
        intermediate_size=ffn,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=groups,
        vocab_size=1000,
    )
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


@pytest.mark.parametrize(
    ("name", "method", "keys", "expected"),
    [
        ("Llama-3.2-1B", "lora", RANKED, 11_272_192),
        ("Qwen2.5-7B", "rslora", RANKED, 40_370_176),
        ("Llama-3.2-1B", "dora", RANKED, 11_272_192 + 376_832),
        ("Llama-3.2-1B", "lora-xs", RANKED, 16 * 7 * 256),
        ("Qwen2.5-7B", "bitfit", {"target_modules": TARGETS}, 28 * (3584 + 512 + 512)),
        (
            "Llama-3.2-1B",
            "ia3",
            {"target_modules": ["k_proj", "v_proj", "down_proj"]},
            16 * (512 + 512 + 8192),
        ),
        ("Llama-3.2-1B", "rocoft", {"target_modules": TARGETS}, 16 * (6 * 2048 + 8192)),
        ("Llama-3.2-1B", "vera", {"rank": 256, "target_modules": TARGETS}, 16 * 7 * 256 + 376_832),
        (
            "Llama-3.2-1B",
            "finegates",
            {"shrink": GATES | {"mode": "faithful"}, "target_modules": TARGETS},
            704_512,
        ),
        (
            "Qwen2.5-7B",
            "finegates",
            {"shrink": GATES | {"mode": "faithful"}, "target_modules": TARGETS},
            2_523_136,
        ),
        ("Llama-3.2-1B", "finegates", {"shrink": GATES}, 16 * (8192 + 8)),
        ("Qwen2.5-7B", "finegates", {"shrink": GATES, **RANKED}, 28 * (18_944 + 4) + 40_370_176),
    ],
)
def test_known_models(name: str, method: str, keys: dict[str, Any], expected: int) -> None:
    block = AdaptBlock(method=method, mix={"a": 1.0}, training=settings(), **keys)
    shape = model(name)
    assert trainable_numbers(block, linear_layers(shape), shape.config) == expected
