"""The LoRA family through peft: LoRA, rsLoRA, DoRA, PiSSA, VeLoRA, VeRA, SHiRA, IA3.

Every method leaves the base's weights frozen, starts as the base itself and merges into them. Shapes: a
target layer maps `in` features to `out`; r is the rank.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from stages.adapt import adapters, nf4
from stages.adapt.adaptation import Adaptation, AdaptContext, Finished
from stages.adapt.targets import targets
from stages.common.errors import UserError, one_line
from stages.common.trainable import FEEDFORWARD
from stages.common.training.optimiser import named_trainable

# Factors that start as 1, and matrices that start as a part of the weights.
UNDECAYED = {"ia3": ("ia3_l",), "pissa": ("lora_A", "lora_B")}


class Peft(Adaptation):
    """A model that `peft` has wrapped."""

    def __init__(self, model: Any, context: AdaptContext) -> None:
        super().__init__(model)
        self.context = context
        self.undecayed = UNDECAYED.get(context.block.method, ())

    def save_adapter(self, folder: Path) -> None:
        """Peft's folder and the digest of the base's weights."""
        adapters.save(self.model, folder, self.context)

    def finish(self) -> Finished:
        """The base's classes with the adapter in their weights; of a 4-bit base in the dense ones."""
        if self.context.block.nf4:
            return Finished(nf4.merge(self.model, self.context.base), {"nf4": True})
        return Finished(self.model.merge_and_unload())


class Pissa(Peft):
    """LoRA whose matrices start as the principal part of the weights, which is taken out of them (Meng et al.
    2024): W = W_res + B_0 A_0.

    The adapter is saved as a plain LoRA of twice the rank, B A - B_0 A_0, so that it fits the untouched base.
    """

    def __init__(self, model: Any, context: AdaptContext) -> None:
        super().__init__(model, context)
        self._begun = {name: value.detach().clone() for name, value in named_trainable(model).items()}

    def save_adapter(self, folder: Path) -> None:
        """A plain LoRA; peft wants the matrices of the start in a folder of their own."""
        with tempfile.TemporaryDirectory() as begun:
            trained = {name: value.detach().clone() for name, value in named_trainable(self.model).items()}
            self._put(self._begun)
            self.model.save_pretrained(begun, save_embedding_layers=False)
            self._put(trained)
            with warnings.catch_warnings():
                # What peft advises is what is done here; it looks for a vocabulary that nothing has touched.
                warnings.filterwarnings("ignore", message="PiSSA changes the base weights|Could not find a c")
                adapters.save(
                    self.model, folder, self.context, path_initial_model_for_weight_conversion=begun
                )

    def _put(self, values: dict[str, torch.Tensor]) -> None:
        for name, value in named_trainable(self.model).items():
            value.data.copy_(values[name])


def wrap(model: Any, context: AdaptContext) -> Adaptation:
    """`model` with the method of `context.block` beside or inside its target modules.

    Raises `UserError` when a target module is not there or the method does not fit one of them.
    """
    block: Any = context.block
    targets(model, block.target_modules)
    if block.nf4:
        nf4.freeze(model, context.device)
    torch.manual_seed(context.seed)
    try:
        wrapped = adapters.attach(model, CONFIGS[block.method](block, context.seed), context.name)
    except ValueError as error:
        raise UserError(f"params.yaml: adapt cannot be applied to this model ({one_line(error)})") from error
    return Pissa(wrapped, context) if block.method == "pissa" else Peft(wrapped, context)


def _lora(block: Any, seed: int, **variant: Any) -> Any:  # noqa: ARG001
    """LoRA (Hu et al. 2021, eq. 3), W + alpha / r B A with A (r, in) and B (out, r), and its variants."""
    from peft import LoraConfig

    return LoraConfig(
        r=block.rank,
        lora_alpha=block.alpha,
        target_modules=list(block.target_modules),
        lora_dropout=0.0,
        bias="none",
        task_type="CAUSAL_LM",
        **variant,
    )


def _velora(block: Any, seed: int) -> Any:
    """LoRA that keeps a projection of its inputs for the gradient of A (Miles et al. 2024), drawn anew from
    every batch: a run that is resumed meets the same ones.
    """
    from peft.tuners.lora.config import VeloraConfig

    return _lora(block, seed, velora_config=VeloraConfig(init_type="batch_average"))


def _vera(block: Any, seed: int) -> Any:
    """W + diag(b) B diag(d) A with A and B drawn once for all layers (Kopiczko et al. 2023, eq. 2).

    The drawn matrices are saved with the vectors: another machine might draw others.
    """
    from peft import VeraConfig

    return VeraConfig(
        r=block.rank,
        target_modules=list(block.target_modules),
        vera_dropout=0.0,
        projection_prng_key=seed,
        save_projection=True,
        bias="none",
        task_type="CAUSAL_LM",
    )


def _shira(block: Any, seed: int) -> Any:
    """r (in + out) single weights of each layer, drawn at random (Bhardwaj et al. 2024)."""
    from peft import ShiraConfig

    # As it is anyway; torch warns in every process that does not say so.
    torch.sparse.check_sparse_tensor_invariants.disable()
    return ShiraConfig(
        r=block.rank,
        target_modules=list(block.target_modules),
        mask_type="random",
        random_seed=seed,
        task_type="CAUSAL_LM",
    )


def _ia3(block: Any, seed: int) -> Any:  # noqa: ARG001
    """A factor per output feature, or per input feature of FEEDFORWARD (Liu et al. 2022, eq. 2)."""
    from peft import IA3Config

    names = list(block.target_modules)
    return IA3Config(
        target_modules=names,
        feedforward_modules=[name for name in names if name in FEEDFORWARD],
        task_type="CAUSAL_LM",
    )


CONFIGS: dict[str, Callable[[Any, int], Any]] = {
    "lora": _lora,
    "rslora": partial(_lora, use_rslora=True),  # alpha / sqrt(r) (Kalajdzievski 2023)
    "dora": partial(_lora, use_dora=True),  # and a trained norm per output feature (Liu et al. 2024, eq. 5)
    "pissa": partial(_lora, init_lora_weights="pissa"),
    "velora": _velora,
    "vera": _vera,
    "shira": _shira,
    "ia3": _ia3,
}
