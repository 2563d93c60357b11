"""Adapters as small artefacts: peft's folder, beside it `base.json` with the digest of the base's weights.

An adapter moves the weights that it was trained beside; on others it would load as well and say nonsense.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.common.atomic import read_json, write_json
from stages.common.checkpoint import weight_files
from stages.common.errors import UserError, one_line
from stages.common.hashing import sha256_paths
from stages.common.params.adaptation import GATES, PRUNING

if TYPE_CHECKING:
    from torch import Tensor

    from stages.adapt.adaptation import AdaptContext

BASE = "base.json"
CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
ABOUT = ("method", "base", "weights")
# peft 0.21 asks for an attribute that Transformers 5.23 has renamed.
RENAMED = ".*is_gradient_checkpointing.*"
# peft keeps module names in sets, whose order changes from process to process.
SETS = ("target_modules", "exclude_modules", "feedforward_modules")


def weights_digest(folder: Path) -> str:
    """Hex SHA-256 of the weights of the checkpoint in `folder`; its tokenizer and manifest do not count."""
    return sha256_paths(folder, weight_files(folder))


def attach(model: Any, config: Any, name: str | None = None) -> Any:
    """`model` wrapped by peft, which says that it belongs to the checkpoint `name`."""
    from peft import get_peft_model

    config = copy.copy(config)
    config.base_model_name_or_path = None
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=RENAMED)
        wrapped = get_peft_model(model, config)
    config.base_model_name_or_path = name
    return wrapped


def save(model: Any, folder: Path, context: AdaptContext, **options: Any) -> None:
    """Write the adapter of a peft model, safetensors and JSON, with the same bytes in every process.

    `options` are those of peft's `save_pretrained`.
    """
    model.save_pretrained(folder, save_embedding_layers=False, **options)
    (folder / "README.md").unlink(missing_ok=True)
    _order(folder)
    describe(folder, context)


def save_lora(
    folder: Path,
    context: AdaptContext,
    factors: Mapping[str, tuple[Tensor, Tensor]],
    biases: Mapping[str, Tensor] | None = None,
) -> None:
    """Write a change of weights that peft reads as LoRA: B A with A (r, in) and B (out, r) per layer name,
    and what `biases` adds to the biases of the same layers.
    """
    from peft import LoraConfig
    from safetensors.torch import save_file

    rank = next(iter(factors.values()))[0].shape[0]
    config = LoraConfig(
        r=rank,
        lora_alpha=rank,
        # A whole name counts as a suffix, so only these layers are met.
        target_modules=list(factors),
        lora_bias=biases is not None,
        task_type="CAUSAL_LM",
        base_model_name_or_path=context.name,
        inference_mode=True,
    )
    tensors = {f"{name}.lora_A.weight": a for name, (a, _) in factors.items()}
    tensors |= {f"{name}.lora_B.weight": b for name, (_, b) in factors.items()}
    tensors |= {f"{name}.lora_B.bias": bias for name, bias in (biases or {}).items()}
    folder.mkdir(parents=True, exist_ok=True)
    config.save_pretrained(str(folder))
    named = {f"base_model.model.{name}": value.detach().contiguous() for name, value in tensors.items()}
    save_file(named, folder / WEIGHTS, metadata={"format": "pt"})
    _order(folder)
    describe(folder, context)


def _order(folder: Path) -> None:
    config = read_json(folder / CONFIG)
    for key in SETS:
        if isinstance(config.get(key), list):
            config[key] = sorted(config[key])
    write_json(folder / CONFIG, config)


def describe(folder: Path, context: AdaptContext) -> None:
    """Write base.json: the method, and the checkpoint that the adapter belongs to."""
    write_json(
        folder / BASE,
        {"method": context.block.method, "base": context.name, "weights": weights_digest(context.base)},
    )


def about(folder: Path) -> dict[str, str]:
    """base.json of the adapter in `folder`: `method`, `base`, `weights`.

    Raises `UserError` when `folder` holds no adapter of ours, or a damaged one.
    """
    if not (folder / CONFIG).is_file() or not (folder / BASE).is_file():
        raise UserError(f"{folder}: no adapter there; `adapt` writes one to out/adapt/adapter")
    found = read_json(folder / BASE)
    known = found if isinstance(found, dict) else {}
    for key in ABOUT:
        if not isinstance(known.get(key), str):
            raise UserError(
                f"{folder / BASE}: no text under `{key}`, so that nobody knows what this adapter belongs to; "
                "copy it again, or run `adapt`"
            )
    return {key: known[key] for key in ABOUT}


def load(model: Any, folder: Path, base: Path) -> Any:
    """`model`, the checkpoint of the folder `base`, with the adapter of `folder` switched on, for evaluation.

    Raises `UserError` when the adapter belongs to other weights, or to a cut model, or cannot be read.
    """
    known = about(folder)
    if known["method"] in PRUNING:
        raise UserError(
            f"{folder}: trained beside what `{known['method']}` had left of {known['base']}, so it fits no "
            "whole model; ask the checkpoint that it was merged into, such as out/adapt"
        )
    if (found := weights_digest(base)) != known["weights"]:
        raise UserError(
            f"{folder}: this adapter belongs to the weights {known['weights'][:12]} ({known['base']} when it "
            f"was made), {base} holds {found[:12]}; name the checkpoint that it was trained on"
        )
    from peft import PeftModel

    if known["method"] in GATES:
        from stages.adapt.finegates.register import register

        register()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=RENAMED)
            return PeftModel.from_pretrained(model, folder).eval()
    except Exception as error:  # safetensors raises its own, peft several
        raise UserError(f"{folder}: this adapter cannot be read ({one_line(error)})") from error
