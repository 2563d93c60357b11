"""A base model named by its id on the Hugging Face hub, fetched once into HF's cache, or by its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stages.common.checkpoint import CONFIGS, INDEX, TOKENIZER_FILES, WEIGHTS
from stages.common.errors import UserError
from stages.common.snapshots import snapshot

ALLOWED = [WEIGHTS, INDEX, *CONFIGS, *TOKENIZER_FILES]


def base_folder(base: Any) -> Path:
    """The folder of the base model that the block `base` names, `source: local` or `hub`.

    Only safetensors, configs and tokenizer files are fetched. Raises `UserError` when the folder does not
    exist, or when the hub model is not in the cache and HF_HUB_OFFLINE forbids to fetch it.
    """
    if base.source == "local":
        folder = Path(base.path)
        if not folder.is_dir():
            raise UserError(f"params.yaml: base.path {folder} is no folder; correct it")
        return folder
    return snapshot("base.path", base.path, base.revision, ALLOWED, "or use `base.source: local`")
