"""What a checkpoint weighs: bytes on disk, and stored bits per weight."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from stages.common.checkpoint import weight_bytes, weight_files
from stages.common.errors import UserError
from stages.common.manifest import rounded


def stored_bytes(folder: Path) -> int:
    """Bytes of all tensors of the checkpoint. Raises `UserError` naming a truncated or missing file."""
    return sum(tensor_bytes(file) for file in weight_files(folder))


def sizes(folder: Path, parameters: int) -> dict[str, Any]:
    """Bytes of the whole folder and of its safetensors files, and stored bits per parameter.

    `parameters` counts the weights of the model that the checkpoint stands for, so that packed formats are
    charged for their scales and whatever else they store; only the safetensors headers are free.
    """
    return {
        "bytes": sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()),
        "weight_bytes": weight_bytes(folder),
        "parameters": parameters,
        "bits_per_weight": rounded(8 * stored_bytes(folder) / parameters),
    }


def tensor_bytes(file: Path) -> int:
    """Bytes of the tensors in a safetensors file: its size less the header and the 8 bytes of its length.

    Raises `UserError` when the file is not as long as its header says.
    """
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        stored = file.stat().st_size - 8 - length
        header = opened.read(length) if stored >= 0 else b""
    try:
        tensors = {name: entry for name, entry in json.loads(header).items() if name != "__metadata__"}
        expected = max((entry["data_offsets"][1] for entry in tensors.values()), default=0)
    except (ValueError, KeyError, TypeError, AttributeError):
        expected = None
    if stored != expected:
        raise UserError(f"{file}: truncated or not safetensors; copy or make it again")
    return stored


def count_parameters(config: Any) -> int:
    """Number of weights of the uncompressed model that `config` describes, tied ones once.

    Counted on the meta device: a packed model has indices and scales in place of some weights, but stands for
    as many of them.
    """
    import copy

    import torch
    from transformers import AutoModelForCausalLM

    plain = copy.deepcopy(config)
    if hasattr(plain, "quantization_config"):
        del plain.quantization_config
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(plain, trust_remote_code=False)
    model.tie_weights()
    return sum(parameter.numel() for parameter in model.parameters())
