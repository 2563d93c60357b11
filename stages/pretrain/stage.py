"""Stage `pretrain`: continual pretraining on a mix with replay, the learning rate warmed up again and
decayed.

The recipe is that of Ibrahim et al. 2024 (arXiv 2403.08763): re-warm, re-decay, replay of the old
distribution.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stages.common.manifest import Facts
from stages.common.params import Params
from stages.common.stage import OUT, Paths, Stage


def run(params: Any, inputs: Paths, outputs: Paths) -> Facts:
    """Train the base further; training.json holds the forgetting curve, from before the first step on."""
    import torch

    from stages.common.checkpoint import load_model, save_model
    from stages.common.training.losses import cross_entropy
    from stages.common.training.session import CURVE, Session

    block, out = params.pretrain, outputs["checkpoint"]
    session = Session.begin("pretrain", params, inputs, checkpoints=("base",))
    model = load_model(inputs["base"], dtype=torch.float32)
    trained = session.train(
        model, cross_entropy, block.training, block.mix, "pretrain.mix", block.evaluations
    )
    save_model(model.cpu(), session.tokenizer, out)
    trained.write(out / CURVE)
    session.resume.clear()
    return Facts(lineage=session.lineage(block.mix, inputs["base"]), tokens=trained.tokens)


def locate(params: Params, cell: str | None) -> tuple[dict[str, Path], dict[str, Path]]:  # noqa: ARG001
    """Reads the base and the shards."""
    return {"base": OUT / "base", "tokens": OUT / "tokens"}, {"checkpoint": OUT / "pretrain"}


STAGE = Stage(
    "pretrain", run, reads=("pretrain", "seed", "threads", "device"), locate=locate, checkpoint=True
)
