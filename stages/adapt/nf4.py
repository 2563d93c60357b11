"""A frozen base in 4-bit NormalFloat while adapters train beside it (QLoRA, Dettmers et al. 2023), through
bitsandbytes. The adapter is merged into the dense weights afterwards.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from stages.common.errors import UserError, one_line


def freeze(model: Any, device: str) -> None:
    """Store the linear layers of the decoder of `model` in NF4 with doubly quantised scales, on `device`.

    The head, norms, embeddings and biases stay as they are. Raises `UserError` when bitsandbytes is not
    installed, or has nothing for this device.
    """
    try:
        from bitsandbytes.nn import Linear4bit, Params4bit
    except ImportError as error:
        raise UserError(
            f"params.yaml: adapt.nf4 needs bitsandbytes ({one_line(error)}); install it with "
            "`make baselines`, or set nf4 to false"
        ) from error
    decoder = model.get_decoder()
    for name, layer in list(decoder.named_modules()):
        if isinstance(layer, nn.Linear):
            small = Linear4bit(
                layer.in_features,
                layer.out_features,
                bias=layer.bias is not None,
                compute_dtype=layer.weight.dtype,
                quant_type="nf4",
                device="meta",
            )
            # Becomes 4-bit where the model is put next.
            small.weight = Params4bit(
                layer.weight.detach(), requires_grad=False, quant_type="nf4", module=small
            )
            small.bias = layer.bias
            # That path of evaluation repacks the weights for good, computes in bf16 and refuses odd widths.
            small.support_avx512bf16_for_cpu = False
            decoder.set_submodule(name, small.requires_grad_(False))
    # What peft asks to choose its layer classes.
    model.is_loaded_in_4bit = True
    try:
        model.to(device)
    except RuntimeError as error:
        raise UserError(
            f"params.yaml: adapt.nf4 does not run on {device} ({one_line(error)}); set nf4 to false"
        ) from error


def merge(trained: Any, base: Path) -> Any:
    """The dense model of the folder `base` with the adapter of `trained` merged into its weights."""
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    from stages.adapt.adapters import attach
    from stages.common.checkpoint import load_model

    dense = attach(load_model(base, dtype=torch.float32), trained.peft_config["default"])
    set_peft_model_state_dict(dense, get_peft_model_state_dict(trained, save_embedding_layers=False))
    return dense.merge_and_unload()
