"""Claim `finegates`: gates, mask, cut and reloaded model are one function, on three families."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import Any

FAMILIES = ("llama", "qwen2", "qwen3")
SHARE = 0.4
NEW_TOKENS = 16


def shapes() -> dict[str, Any]:
    """Family and head -> greatest differences of the logits in fp32, and whether the written texts agree."""
    return {
        f"{family}, {'tied' if tied else 'untied'} head": {
            mode: _one(family, tied, mode) for mode in ("global", "uniform")
        }
        for family in FAMILIES
        for tied in (True, False)
    }


def _one(family: str, tied: bool, mode: str) -> dict[str, Any]:
    """Gates of random scores on a random model with grouped queries; the same cut every way."""
    import torch
    from peft import get_peft_model

    from stages.adapt.finegates.config import FineGatesConfig
    from stages.adapt.finegates.register import register
    from stages.adapt.shrink.budget import choose
    from stages.adapt.shrink.slicing import apply_mask, cut
    from stages.common.checkpoint import load_model
    from stages.common.params.adaptation import Multiples, ShrinkBlock

    register()
    base = _model(family, tied)
    gated = get_peft_model(copy.deepcopy(base), FineGatesConfig(share=SHARE, mode=mode))
    objective = gated.base_model.objective()
    generator = torch.Generator().manual_seed(2)
    for layer in objective.layers:
        layer.gates("default")[0].data += torch.randn(layer.units, generator=generator)
    shrink = ShrinkBlock(share=SHARE, mode=mode, multiples=Multiples(ffn=8))
    choice = choose(objective.units, objective.scores(), shrink)
    objective.settle(choice.kept)
    masked = copy.deepcopy(base)
    apply_mask(masked, choice.kept)
    small = cut(masked, choice.kept)
    with tempfile.TemporaryDirectory() as folder:
        small.save_pretrained(folder)
        reloaded = load_model(Path(folder))
    expected = _logits(masked)
    models = {"gated": gated.eval(), "cut": small, "reloaded": reloaded}
    return {
        "class": type(small).__name__,
        "difference": {
            name: float((_logits(model) - expected).abs().max()) for name, model in models.items()
        },
        "uncut": float((_logits(base) - expected).abs().max()),
        "greatest_logit": float(expected.abs().max()),
        "texts_equal": _text(masked) == _text(small) == _text(reloaded),
    }


def _model(family: str, tied: bool) -> Any:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(
        family,
        vocab_size=512,
        hidden_size=128,
        intermediate_size=352,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=16,
        max_position_embeddings=256,
        tie_word_embeddings=tied,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    torch.manual_seed(1)
    model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    for value in model.parameters():
        # Large enough that every unit matters.
        value.data += (0.1 if value.ndim == 1 else 0.05) * torch.randn_like(value)
    return model.eval()


def _prompt() -> Any:
    import torch

    return torch.randint(512, (2, 64), generator=torch.Generator().manual_seed(3))


def _logits(model: Any) -> Any:
    import torch

    with torch.no_grad():
        return model(input_ids=_prompt(), use_cache=False).logits


def _text(model: Any) -> list[list[int]]:
    """Greedy continuation with the cache."""
    import torch

    with torch.no_grad():
        found = model.generate(
            input_ids=_prompt(), max_new_tokens=NEW_TOKENS, do_sample=False, use_cache=True
        )
    return found.tolist()  # type: ignore[no-any-return]
