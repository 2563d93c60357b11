"""Blocks of `finegates` on the shards and bases of `adapt_fakes`, and gates on a tiny model through peft."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import adapt_fakes as fakes
import torch
from peft import get_peft_model
from training_fakes import settings, tiny_model

from stages.adapt.finegates.config import FineGatesConfig
from stages.adapt.finegates.method import FineGates
from stages.adapt.finegates.register import register
from stages.common.params.adaptation import AdaptBlock

register()
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
SHAPE = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
LAYERS = {"layers": 3, **SHAPE}
CONFIGS: dict[str, dict[str, Any]] = {
    "global": {},
    "uniform": {"mode": "uniform"},
    "faithful": {"mode": "faithful"},
    "beside": {"r": 2, "lora_alpha": 4.0, "target_modules": ALL},
}
IDS = torch.arange(5, 37).reshape(2, 16)


def block(
    share: float = 0.3,
    mode: str = "global",
    rank: int | None = None,
    targets: list[str] | None = None,
    rate: float = 0.1,
    tokens: int = 1024,
    calibration: int | None = None,
    **changes: Any,
) -> AdaptBlock:
    """FineGates with a small budget of steps and multiples of 1."""
    shrink = {
        "share": share,
        "mode": mode,
        "multiples": changes.pop("multiples", {"ffn": 1}),
        "gate_learning_rate": rate,
        "calibration_tokens": calibration,
        "layers": changes.pop("layers", 0),
    }
    return AdaptBlock(
        method="finegates",
        rank=rank,
        alpha=None if rank is None else 2.0 * rank,
        target_modules=targets,
        shrink=shrink,
        mix={"world-en": 1.0},
        training=settings(weight_decay=0.0, tokens=tokens, **changes),
    )


def adapted(folder: Path, given: AdaptBlock) -> FineGates:
    """The base in `folder`, wrapped as the stage does it."""
    found = fakes.adapted(folder, given)
    assert isinstance(found, FineGates)
    return found


def base(family: str = "qwen2", **changes: Any) -> Any:
    return tiny_model(family, **{**SHAPE, **changes}).eval()


def wrapped(kind: str = "global", model: Any = None, **changes: Any) -> Any:
    config = FineGatesConfig(**{"task_type": "CAUSAL_LM", "seed": 3, **CONFIGS[kind], **changes})
    return get_peft_model(model if model is not None else base(), config)


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    return model.eval()(input_ids=IDS, use_cache=False).logits  # type: ignore[no-any-return]
