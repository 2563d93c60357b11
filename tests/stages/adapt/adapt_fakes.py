"""A small base on disk with shards, and what every test of a method does with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from training_fakes import make_shards, settings, tiny_model

from stages.adapt.adaptation import Adaptation, AdaptContext
from stages.adapt.methods import wrap_of
from stages.common.checkpoint import load_model, load_tokenizer, save_model
from stages.common.params.adaptation import USES, AdaptBlock
from stages.common.training.loop import Trained, train
from stages.common.training.losses import cross_entropy
from stages.common.training.optimiser import steps_of
from stages.common.training.resume import Resume
from stages.common.training.sampler import Sampler
from stages.common.training.shards import Shards

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
VALUES = {"rank": 3, "alpha": 6.0, "target_modules": TARGETS}
SUBSETS = {"world-en": "en"}


def make_base(folder: Path, family: str = "qwen2", **changes: Any) -> Path:
    """`folder` with `tokens` and the checkpoint `base`, whose biases and norms are not what they begin as."""
    shards = make_shards(folder / "tokens", SUBSETS)
    model = tiny_model(family, **changes)
    torch.manual_seed(1)
    for value in model.parameters():
        if value.ndim == 1:
            value.data += 0.1 * torch.randn_like(value)
    save_model(model, load_tokenizer(shards / "tokenizer"), folder / "base")
    return folder


def block(method: str, **changes: Any) -> AdaptBlock:
    """The block of `method` with what it needs, on the shards of `make_base`."""
    needed = {key: value for key, value in VALUES.items() if key in USES[method]}
    values = {"method": method, **needed, "mix": {"world-en": 1.0}, "training": settings(weight_decay=0.0)}
    return AdaptBlock(**{**values, **changes})


def context(folder: Path, given: AdaptBlock) -> AdaptContext:
    """The context of a run on what `make_base` wrote into `folder`."""
    shards = Shards.open(folder / "tokens")
    tokenizer = load_tokenizer(folder / "base")
    steps = steps_of(given.training)
    return AdaptContext(given, 1, folder / "base", "out/pretrain", steps, "cpu", shards, tokenizer)


def adapted(folder: Path, given: AdaptBlock) -> Adaptation:
    """The base of `folder`, wrapped."""
    model = load_model(folder / "base", dtype=torch.float32)
    return wrap_of(given.method)(model, context(folder, given))


def fit(folder: Path, adaptation: Adaptation, given: AdaptBlock, resume: Resume | None = None) -> Trained:
    """Train in place as the stage does, on the shards of `folder`."""
    used = given.training
    shards = Shards.open(folder / "tokens")
    sampler = Sampler(shards, given.mix or {}, used.batch_size, used.sequence_length, 1, "adapt.mix")
    return train(
        adaptation.model,
        adaptation.loss(cross_entropy),
        sampler,
        used,
        1,
        "cpu",
        resume,
        label="adapt",
        before=adaptation.before,
        rates=adaptation.rates(),
        undecayed=adaptation.undecayed,
    )


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    """What `model` says of a fixed row of tokens, (1, T, V)."""
    return model.eval()(torch.arange(5, 45)[None], use_cache=False).logits  # type: ignore[no-any-return]
