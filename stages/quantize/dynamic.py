"""Recipe `higgs-dynamic`: bits where the model needs them, by the linearity theorem (lowbit.allocate)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.common import manifest
from stages.common.atomic import write_json

if TYPE_CHECKING:
    from lowbit.allocation import Plan
    from lowbit.sensitivity import Sensitivity
    from torch import Tensor

    from stages.common.params.shipping import Candidate

PLAN = "plan.json"  # beside the weights
# Of the sample that alphas are measured on. Rows longer than those of training would show places that the
# model never learnt.
SAMPLE_ROWS, SAMPLE_LENGTH = 512, 128
SAMPLE_BATCH = 16

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Dynamic:
    """The plan of one candidate and the alphas behind it."""

    plan: Plan
    sensitivity: Sensitivity
    alphas_from: str

    def write(self, folder: Path) -> None:
        """Write plan.json: recipe, group size and predicted loss of every layer, as `quantize_folder` takes
        it.
        """
        write_json(folder / PLAN, self.plan.to_json())

    def notes(self) -> dict[str, Any]:
        """What the manifest keeps beside the plan: losses in nats per token, and where not to trust them."""
        return {
            "alphas_from": self.alphas_from,
            "alphas": {
                name: manifest.rounded(alpha) for name, alpha in sorted(self.sensitivity.alphas.items())
            },
            "shrinking": {
                name: manifest.rounded(steep) for name, steep in sorted(self.sensitivity.shrinking.items())
            },
            "predicted_loss": manifest.rounded(self.plan.predicted),
            "not_linear": self.sensitivity.bent,
            "warnings": self.plan.warnings,
        }


def plan_for(
    candidate: Candidate, source: Path, tokens: Path, seed: int, progress: Progress | None = None
) -> Dynamic:
    """Measure the alphas of the checkpoint `source` and divide the candidate's budget among its layers.

    `tokens` is the folder of shards, which `alphas: sample` reads. Raises `LowbitError` for a budget that no
    plan fits.
    """
    import torch
    from lowbit import allocate, sensitivity
    from lowbit.integration import linears

    from stages.common.checkpoint import load_model

    model = load_model(source, dtype=torch.float32)
    shapes, heads = linears(model)
    layers = {name: shape for name, shape in shapes.items() if name not in heads}
    limit = int(model.config.max_position_embeddings)
    batches = sample(tokens, min(SAMPLE_LENGTH, limit), seed) if candidate.alphas == "sample" else None
    found = sensitivity.estimate(model, batches, seed=seed, progress=progress)
    rest = 2 * (
        sum(value.numel() for value in model.parameters())
        - sum(shape[0] * shape[1] for shape in layers.values())
    )
    budget = (
        {"bits": candidate.bits} if candidate.bits is not None else {"bytes": float(candidate.bytes or 0)}
    )
    plan = allocate(layers, found.alphas, budget, rest_bytes=rest)
    return Dynamic(plan, found, str(candidate.alphas))


def sample(folder: Path, length: int, seed: int) -> list[Tensor]:
    """Batches of token ids (rows, length): windows of the training shards, every subset by its tokens.

    Rows are shorter where a subset has fewer tokens.
    """
    import numpy as np
    import torch

    from stages.common.training.shards import Shards

    shards = Shards.open(folder)
    streams = [shards.tokens(subset, "train") for subset in sorted(shards.subsets)]
    streams = [stream for stream in streams if len(stream) > 1]
    length = min(length, *(len(stream) for stream in streams))
    sizes = np.array([len(stream) for stream in streams], dtype=np.float64)
    generator = np.random.default_rng(seed)
    rows = []
    for at in generator.choice(len(streams), SAMPLE_ROWS, p=sizes / sizes.sum()):
        begin = int(generator.integers(0, len(streams[at]) - length + 1))
        rows.append(np.asarray(streams[at][begin : begin + length], dtype=np.int64))
    table = torch.from_numpy(np.stack(rows))
    return list(table.split(SAMPLE_BATCH))
