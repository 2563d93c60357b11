"""The LoRA family through peft: LoRA, rsLoRA, DoRA, PiSSA, VeLoRA, VeRA, SHiRA, IA3.

Every method leaves the base's weights frozen, starts as the base itself and merges into them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.adapt import adapters
from stages.adapt.adaptation import Adaptation, AdaptContext, Finished
from stages.adapt.targets import targets
from stages.common.errors import UserError, one_line

if TYPE_CHECKING:
    from stages.common.params.adaptation import AdaptBlock

# IA3 scales what these modules take in; of any other module what it gives (Liu et al. 2022, eq. 2).
FEEDFORWARD = ("down_proj",)


class Peft(Adaptation):
    """A model that `peft` has wrapped."""

    def __init__(self, model: Any, context: AdaptContext) -> None:
        super().__init__(model)
        self.context = context

    def save_adapter(self, folder: Path) -> None:
        """Peft's folder and the digest of the base's weights."""
        adapters.save(self.model, folder, self.context)

    def finish(self) -> Finished:
        """The base's classes with the adapter in their weights."""
        return Finished(self.model.merge_and_unload())


def wrap(model: Any, context: AdaptContext) -> Adaptation:
    """`model` with the method of `context.block` beside or inside its target modules.

    Raises `UserError` when a target module is not there or the method does not fit one of them.
    """
    import torch
    from peft import get_peft_model

    targets(model, context.block.target_modules or [])
    torch.manual_seed(context.seed)
    try:
        with warnings.catch_warnings():
            # peft 0.21 asks for an attribute that Transformers 5.23 has renamed.
            warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*")
            wrapped = get_peft_model(model, CONFIGS[context.block.method](context.block, context.seed))
    except ValueError as error:
        raise UserError(f"params.yaml: adapt cannot be applied to this model ({one_line(error)})") from error
    wrapped.peft_config["default"].base_model_name_or_path = context.name
    return Peft(wrapped, context)


def _lora(block: AdaptBlock, seed: int, **variant: Any) -> Any:  # noqa: ARG001
    """Hu et al. 2021, eq. 3: W + alpha / r B A."""
    from peft import LoraConfig

    return LoraConfig(
        r=block.rank,
        lora_alpha=block.alpha,
        target_modules=list(block.target_modules or ()),
        lora_dropout=0.0,
        bias="none",
        task_type="CAUSAL_LM",
        **variant,
    )


CONFIGS: dict[str, Callable[[AdaptBlock, int], Any]] = {
    "lora": _lora,
}
