"""The tokenizer of the base model, on its own."""

from __future__ import annotations

from pathlib import Path

from stages.common.checkpoint import load_tokenizer, save_tokenizer, tokenizer_sha256
from stages.common.errors import UserError


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
