"""Stage `distill`: a smaller student learns the distribution of the frozen teacher, the model that `adapt`
gave.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stages.common.manifest import Facts
from stages.common.params import Params
from stages.common.stage import OUT, Paths, Stage

EVERY_SECOND = "every-second-layer"


def run(params: Any, inputs: Paths, outputs: Paths) -> Facts:
    """Train the student with forward KL to the teacher and some cross entropy, and write it."""
    import torch

    from stages.common.checkpoint import load_model, save_model
    from stages.common.training.losses import distillation
    from stages.common.training.session import CURVE, Session
    from stages.distill.student import every_second_layer

    block, out, own = params.distill, outputs["checkpoint"], "student" in inputs
    session = Session.begin(
        "distill", params, inputs, checkpoints=("teacher", "student") if own else ("teacher",)
    )
    teacher = load_model(inputs["teacher"], dtype=torch.float32, device=session.device).requires_grad_(False)
    student = load_model(inputs["student"], dtype=torch.float32) if own else every_second_layer(teacher)
    loss = distillation(teacher, block.cross_entropy_weight, block.temperature, session.shards.vocab_size)
    trained = session.train(student, loss, block.training, block.mix, "distill.mix", evaluations=1)
    save_model(student.cpu(), session.tokenizer, out)
    trained.write(out / CURVE)
    session.resume.clear()
    lineage = session.lineage(block.mix, inputs["teacher"])
    return Facts(lineage={**lineage, "student": block.student}, tokens=trained.tokens)


def locate(params: Params, cell: str | None) -> tuple[dict[str, Path], dict[str, Path]]:  # noqa: ARG001
    """Reads the teacher, the shards and, if one is named, the student's folder."""
    inputs = {"teacher": OUT / "adapt", "tokens": OUT / "tokens"}
    if params.distill.student != EVERY_SECOND:
        inputs |= {"student": Path(params.distill.student), "sources": OUT / "sources"}
    return inputs, {"checkpoint": OUT / "distill"}


STAGE = Stage("distill", run, reads=("distill", "seed", "threads", "device"), locate=locate, checkpoint=True)
