"""Recipes `ternary-qat` and `hybrid-ternary`: the parent becomes BitLinear and learns to be ternary.

Quantisation is phased in (lowbit.bitlinear), the parent itself is the teacher (cross entropy and forward KL,
as in `distill`), and of a hybrid the layers with the greatest alphas stay int8.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stages.common import manifest
from stages.common.atomic import write_json
from stages.common.stage import Paths

CODES = "ternary.json"  # beside the weights: what the layers were like at every point of the curve
KEPT = "int8"
CODE = ("stages/quantize",)  # what a saved state of the training is good for


@dataclass(frozen=True)
class Trained:
    """What the stage keeps of a training: facts for the manifest, and tokens by subset."""

    notes: dict[str, Any]
    lineage: dict[str, Any]
    tokens: dict[str, int]


def train(name: str, candidate: Any, params: Any, inputs: Paths, out: Path) -> Trained:
    """Train candidate `name` from its source and write it packed into `out`, with its curve.

    Raises `UserError` for a mix that the shards do not have, a foreign tokenizer or a diverging loss.
    """
    import copy

    import torch
    from lowbit import bitlinear

    from stages.common.checkpoint import load_model, save_model
    from stages.common.training.losses import distillation
    from stages.common.training.session import CURVE, Session

    block = params.quantize.qat
    # Another name than the stage's, because two candidates may train at a time, each with its own state.
    session = Session.begin(f"quantize-{name}", params, inputs, checkpoints=("source",), code=CODE)
    teacher = load_model(inputs["source"], dtype=torch.float32, device=session.device).requires_grad_(False)
    student = copy.deepcopy(teacher).requires_grad_(True)
    kept = _kept(teacher, candidate, block, inputs["tokens"], params.seed)
    bitlinear.convert(student, keep=kept, norm=block.norm, level=block.level, per="row")
    loss = distillation(teacher, block.cross_entropy_weight, block.temperature, session.shards.vocab_size)
    trained = session.train(
        student,
        loss,
        block.training,
        block.mix,
        "quantize.qat.mix",
        block.evaluations,
        before=lambda model, share: bitlinear.set_blend(model, blend(share, block.blend_share)),
        observe=_statistics,
    )
    bitlinear.set_blend(student, 1.0)
    plan = {layer: {"recipe": KEPT} for layer in kept} or None
    stored: Any = student.cpu()  # the wrapped `to` of Transformers has no types
    packed = bitlinear.pack(stored.to(torch.bfloat16), plan, params.seed)
    save_model(packed, session.tokenizer, out)
    trained.write(out / CURVE)
    write_json(out / CODES, [{"step": point["step"], **point["observed"]} for point in trained.points])
    session.resume.clear()
    notes = {"kept": kept, "kept_recipe": KEPT if kept else None, "level": block.level, "norm": block.norm}
    return Trained(notes, session.lineage(block.mix, inputs["source"]), trained.tokens)


def blend(share: float, rise: float) -> float:
    """How much is quantised when `share` of the steps are done: linear up to 1 at `rise`, then 1."""
    return 1.0 if share >= rise else share / rise


def _statistics(model: Any) -> dict[str, Any]:
    """Threshold, level and the shares of -1, 0 and 1 of every BitLinear."""
    from lowbit import bitlinear

    return {
        "layers": {
            name: {key: manifest.rounded(value) for key, value in asdict(found).items()}
            for name, found in bitlinear.statistics(model).items()
        }
    }


def _kept(teacher: Any, candidate: Any, block: Any, tokens: Path, seed: int) -> list[str]:
    """The layers of a hybrid that stay int8; none of `ternary-qat`."""
    from lowbit import hybrid, sensitivity
    from lowbit.integration import linears

    from stages.common.params.shipping import HYBRID
    from stages.quantize.dynamic import SAMPLE_LENGTH, sample

    if candidate.recipe != HYBRID:
        return []
    shapes, heads = linears(teacher)
    layers = {name: shape for name, shape in shapes.items() if name not in heads}
    limit = int(teacher.config.max_position_embeddings)
    alphas = sensitivity.estimate(teacher, sample(tokens, min(SAMPLE_LENGTH, limit), seed), seed=seed).alphas
    return sorted(hybrid(layers, alphas, share=block.int8_share).having(KEPT))
