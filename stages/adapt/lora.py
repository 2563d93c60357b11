"""LoRA through peft: wrap, save the adapter as an artefact, merge."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stages.common.atomic import read_json, write_json
from stages.common.errors import UserError, one_line


def wrap(model: Any, block: Any, seed: int, base: str) -> Any:
    """`model` with LoRA matrices (Hu et al. 2021, eq. 3) beside the target modules; only they take gradients.

    `base` is the name of the underlying checkpoint that adapter_config.json states. Raises `UserError` when
    no module, or not every name of `adapt.target_modules`, is found in the model.
    """
    import warnings

    import torch
    from peft import LoraConfig, get_peft_model

    names = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    if missing := sorted(set(block.target_modules) - names):
        raise UserError(
            f"params.yaml: adapt.target_modules names {', '.join(missing)}, which the model does not have"
        )
    torch.manual_seed(seed)
    config = LoraConfig(
        r=block.rank,
        lora_alpha=block.alpha,
        target_modules=list(block.target_modules),
        lora_dropout=0.0,
        bias="none",
        task_type="CAUSAL_LM",
    )
    try:
        with warnings.catch_warnings():
            # peft 0.21 asks for an attribute that Transformers 5.23 has renamed.
            warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*")
            wrapped = get_peft_model(model, config)
    except ValueError as error:
        raise UserError(f"params.yaml: adapt cannot be applied to this model ({one_line(error)})") from error
    wrapped.peft_config["default"].base_model_name_or_path = base
    return wrapped


def save_adapter(model: Any, folder: Path) -> None:
    """Write the adapter (peft's format, safetensors) with the same bytes in every process."""
    model.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)
    config = folder / "adapter_config.json"
    # peft keeps module names in a set, whose order changes from process to process.
    ordered = {
        key: sorted(value)
        if key in ("target_modules", "exclude_modules") and isinstance(value, list)
        else value
        for key, value in read_json(config).items()
    }
    write_json(config, ordered)
