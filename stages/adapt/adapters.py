"""Adapters as small artefacts: peft's folder, beside it `base.json` with the digest of the base's weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stages.adapt.adaptation import AdaptContext
from stages.common.atomic import read_json, write_json
from stages.common.checkpoint import weight_files
from stages.common.hashing import sha256_paths

BASE = "base.json"
CONFIG = "adapter_config.json"
# peft keeps module names in sets, whose order changes from process to process.
SETS = ("target_modules", "exclude_modules", "feedforward_modules")


def weights_digest(folder: Path) -> str:
    """Hex SHA-256 of the weights of the checkpoint in `folder`; its tokenizer and manifest do not count."""
    return sha256_paths(folder, weight_files(folder))


def save(model: Any, folder: Path, context: AdaptContext) -> None:
    """Write the adapter of a peft model, safetensors and JSON, with the same bytes in every process."""
    model.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)
    config = read_json(folder / CONFIG)
    for key in SETS:
        if isinstance(config.get(key), list):
            config[key] = sorted(config[key])
    write_json(folder / CONFIG, config)
    describe(folder, context)


def describe(folder: Path, context: AdaptContext) -> None:
    """Write base.json: the method, and the checkpoint that the adapter belongs to."""
    write_json(
        folder / BASE,
        {"method": context.block.method, "base": context.name, "weights": weights_digest(context.base)},
    )
