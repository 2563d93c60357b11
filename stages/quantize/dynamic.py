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
    """Batches of token ids (rows, length), padded on the right: training documents, as the model reads them.

    A document opens with the end-of-text token and is cut into rows of `length`, of which `SAMPLE_ROWS` are
    drawn. Windows that cross documents would show contexts that training masks.
    """
    import numpy as np
    import torch
    from lowbit.sensitivity import PADDING

    from stages.common.training.shards import Shards

    shards = Shards.open(folder)
    step = length - 1  # predicted tokens of a row
    generator = np.random.default_rng(seed)
    ends = {subset: shards.ends(subset, "train") for subset in sorted(shards.subsets)}
    sizes = {subset: np.diff(found, prepend=0) for subset, found in ends.items()}
    # Where the rows of each document end in the list of all rows of its subset.
    rows = {subset: np.cumsum(-(-found // step)) for subset, found in sizes.items() if len(found)}
    bounds = np.cumsum([counts[-1] for counts in rows.values()])
    table = np.full((min(SAMPLE_ROWS, bounds[-1]), length), PADDING, dtype=np.int64)
    for row, at in zip(table, generator.choice(bounds[-1], len(table), replace=False), strict=True):
        which = int(np.searchsorted(bounds, at, side="right"))
        subset = list(rows)[which]
        inside = at - (bounds[which - 1] if which else 0)
        document = int(np.searchsorted(rows[subset], inside, side="right"))
        begin = (inside - (rows[subset][document - 1] if document else 0)) * step
        size = sizes[subset][document]
        opened = ends[subset][document] - size + begin  # of the first predicted token in the stream
        stream = shards.tokens(subset, "train")
        row[0] = stream[opened - 1] if begin else shards.eos_id
        found = stream[opened : opened + min(step, size - begin)]
        row[1 : len(found) + 1] = found
    return list(torch.from_numpy(table).split(SAMPLE_BATCH))
