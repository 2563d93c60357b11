"""Stage `distill`: a smaller student learns the distribution of the frozen teacher.

The teacher is what `adapt` gave, and the student half of it or a model that was brought along. After a cut
the student may be the cut model itself: then the teacher is its own parent, what `pretrain` gave, and
distillation recovers what the cut cost (logits only, as Minitron does, Muralidharan et al. 2024,
arXiv 2407.14679).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.common import manifest
from stages.common.errors import UserError
from stages.common.manifest import Facts
from stages.common.params import Params
from stages.common.params.training import EVERY_SECOND, SHRUNK
from stages.common.stage import OUT, Paths, Stage

if TYPE_CHECKING:
    from stages.common.training.session import Session


def run(params: Any, inputs: Paths, outputs: Paths) -> Facts:
    """Train the student with forward KL to the teacher and some cross entropy, and write it.

    Raises `UserError` for a foreign tokenizer, and when `student: adapt` meets a model that was not cut.
    """
    import torch

    from stages.common.checkpoint import load_model, save_model
    from stages.common.training.losses import distillation
    from stages.common.training.session import CURVE, Session
    from stages.distill.student import every_second_layer

    block, out, ready = params.distill, outputs["checkpoint"], "student" in inputs
    if block.student == SHRUNK:
        _check_cut(inputs["student"])
    # The first one's tokenizer is written: what `adapt` gave may have a chat template that its parent lacks.
    first = "student" if block.student == SHRUNK else "teacher"
    checkpoints = (first, *(name for name in ("teacher", "student") if name in inputs and name != first))
    session = Session.begin("distill", params, inputs, checkpoints)
    teacher = load_model(inputs["teacher"], dtype=torch.float32, device=session.device).requires_grad_(False)
    student = load_model(inputs["student"], dtype=torch.float32) if ready else every_second_layer(teacher)
    loss = distillation(teacher, block.cross_entropy_weight, block.temperature, session.shards.vocab_size)
    trained = session.train(student, loss, block.training, block.mix, "distill.mix", evaluations=1)
    save_model(student.cpu(), session.tokenizer, out)
    trained.write(out / CURVE)
    session.resume.clear()
    return Facts(lineage=_lineage(session, block, inputs), tokens=trained.tokens)


def _lineage(session: Session, block: Any, inputs: Paths) -> dict[str, Any]:
    """That of the teacher, or of the cut model; a student that was brought along was not adapted here."""
    lineage = session.lineage(block.mix, inputs["student" if block.student == SHRUNK else "teacher"])
    if block.folder is not None:
        lineage.pop("adaptation", None)
    return {**lineage, "student": block.student}


def _check_cut(folder: Path) -> None:
    if "removed" not in manifest.read(folder).get("notes", {}):
        raise UserError(
            f"distill: `student: {SHRUNK}` recovers a model that was cut, and {folder} was not; set "
            f"adapt.method to one that cuts, or distill.student to {EVERY_SECOND}"
        )


def locate(params: Params, cell: str | None) -> tuple[dict[str, Path], dict[str, Path]]:  # noqa: ARG001
    """Reads teacher and shards, and a student that is not made here."""
    inputs = {"teacher": OUT / "adapt", "tokens": OUT / "tokens"}
    if params.distill.student == SHRUNK:
        inputs |= {"teacher": OUT / "pretrain", "student": OUT / "adapt"}
    elif params.distill.folder is not None:
        inputs |= {"student": Path(params.distill.folder), "sources": OUT / "sources"}
    return inputs, {"checkpoint": OUT / "distill"}


STAGE = Stage("distill", run, reads=("distill", "seed", "threads", "device"), locate=locate, checkpoint=True)
