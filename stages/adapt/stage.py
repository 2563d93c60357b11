"""Stage `adapt`: LoRA on task text, merged into the checkpoint; the adapter is kept beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stages.common.manifest import Facts
from stages.common.params import Params
from stages.common.stage import OUT, Paths, Stage


def run(params: Any, inputs: Paths, outputs: Paths) -> Facts:
    """Train the adapter, save it in `adapter/`, merge it and write the merged checkpoint."""
    import torch

    from stages.adapt.lora import save_adapter, wrap
    from stages.common.checkpoint import load_model, save_model
    from stages.common.training.losses import cross_entropy
    from stages.common.training.session import CURVE, Session

    block, out = params.adapt, outputs["checkpoint"]
    session = Session.begin("adapt", params, inputs, checkpoints=("pretrain",))
    plain = load_model(inputs["pretrain"], dtype=torch.float32)
    model = wrap(plain, block, params.seed, (OUT / "pretrain").as_posix())
    trainable = sum(value.numel() for value in model.parameters() if value.requires_grad)
    trained = session.train(model, cross_entropy, block.training, block.mix, "adapt.mix", evaluations=1)
    model.cpu()
    save_adapter(model, out / "adapter")
    save_model(model.merge_and_unload(), session.tokenizer, out)
    trained.write(out / CURVE)
    session.resume.clear()
    return Facts(
        lineage=session.lineage(block.mix, inputs["pretrain"]),
        tokens=trained.tokens,
        notes={"trainable_parameters": trainable},
    )


def locate(params: Params, cell: str | None) -> tuple[dict[str, Path], dict[str, Path]]:  # noqa: ARG001
    """Reads what `pretrain` gave, and the shards."""
    return {"pretrain": OUT / "pretrain", "tokens": OUT / "tokens"}, {"checkpoint": OUT / "adapt"}


STAGE = Stage("adapt", run, reads=("adapt", "seed", "threads", "device"), locate=locate, checkpoint=True)
