"""The one place that may reach the Hugging Face hub: a base model named by its id, fetched once into HF's
cache.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stages.common.checkpoint import CONFIGS, INDEX, TOKENIZER_FILES, WEIGHTS
from stages.common.errors import UserError, one_line

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
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(
            snapshot_download(
                base.path,
                revision=base.revision,
                allow_patterns=ALLOWED,
                local_files_only=constants.HF_HUB_OFFLINE,
            )
        )
    except LocalEntryNotFoundError as error:
        why = (
            "HF_HUB_OFFLINE is set; run `HF_HUB_OFFLINE=0 gorn run` once (or `dvc repro` in its place), or "
            "use `base.source: local`"
            if constants.HF_HUB_OFFLINE
            else "the hub cannot be reached; look at the network, or use `base.source: local`"
        )
        raise UserError(
            f"params.yaml: base.path {base.path} is not in the Hugging Face cache and {why}"
        ) from error
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise UserError(
            f"params.yaml: base.path {base.path} cannot be fetched ({one_line(error)})"
        ) from error
