"""Dynamic bit allocation: the predicted rise of the loss against the measured one, and against every fixed
format at its own bytes. Needs the optional extra `baselines`.

Models: the default run's adapted one, and that of profiles/classics.yaml where the public data are. The
loss is the mean cross entropy of held-out tokens in nats, and the mean over the seeds of the rotation's signs
is compared: five, and ten where a prediction is judged, which is done by the first five and by all. The
standard error is that of the documents, whose rises are paired, and of the seeds.
"""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

from tests.proof.classics import DATA
from tests.proof.classics import profile as classics_profile
from tests.proof.common import piece, run, workspace, write_result

CLAIM = "allocation"
SIGN_SEEDS, PLANNED_SEEDS = 5, 10
BITS = (2.25, 2.75, 3.25, 3.5, 4.0, 4.5, 5.0, 6.0)
UNIFORM = tuple(f"higgs-{grid}" for grid in ("p2n16", "p2n64", "p2n88", "p2n256", "p2n1024", "p1n64"))
SOURCES = ("sample", "random")
BASELINES = ("nf4", "hqq-4bit", "int4-rtn")
SAMPLE_SEED = 1
TOKENS = 60_000  # held out, at most, on which the loss is measured
ROW = 128  # tokens, as in training
CLEAR = 5.0  # standard errors that a rise must exceed to be compared with
WITHIN, TRUSTED = 0.25, (3.2, 6.0)


def measure() -> None:
    """Per model: alphas from data and without, every budget and every uniform grid, measured."""
    models = {"world": None, **({"classics": classics_profile} if DATA.is_dir() else {})}
    found = {}
    for name, profile in models.items():
        folder = workspace(CLAIM, name, profile)
        piece(CLAIM, f"{name}-model", lambda folder=folder: run(["dvc", "repro", "adapt"], folder).returncode)
        found[name] = piece(
            CLAIM, f"{name}-rises", lambda name=name, folder=folder: _model(name, folder / "out")
        )
    write_result(
        CLAIM,
        {
            "models": found,
            "sign_seeds": SIGN_SEEDS,
            "planned_seeds": PLANNED_SEEDS,
            "clear": CLEAR,
            "within": WITHIN,
        },
    )


def _model(name: str, out: Path) -> dict[str, Any]:
    """Every plan of one model: stored bits, predicted and measured rise, standard error."""
    import torch
    from lowbit import allocate
    from lowbit.integration import linears

    from stages.common.checkpoint import load_model

    torch.set_num_threads(2)
    model = load_model(out / "adapt", dtype=torch.float32).eval()
    shapes, heads = linears(model)
    layers = {name: shape for name, shape in shapes.items() if name not in heads}
    found = {
        source: piece(CLAIM, f"{name}-alphas-{source}", lambda source=source: _alphas(model, out, source))
        for source in SOURCES
    }
    text = _Text(out / "tokens", model)
    rows = []

    def measured(label: str, plan: Any, size: int, seeds: int = SIGN_SEEDS) -> None:
        key = f"{name}-{label.replace(' ', '-')}"
        rows.append(piece(CLAIM, key, lambda: _row(model, text, label, plan, size, seeds)))

    for recipe in (*UNIFORM, *BASELINES):
        size = _bytes(recipe, layers)
        # The baselines have no rotation, so one seed says it all.
        measured(recipe, recipe, size, 1 if recipe in BASELINES else SIGN_SEEDS)
        # What the same bytes do when they go where the alphas say.
        for source in SOURCES:
            plan = allocate(layers, found[source]["alphas"], {"bytes": size})
            measured(f"{source} at the bytes of {recipe}", plan, plan.bytes)
    for bits in BITS:
        plan = allocate(layers, found["sample"]["alphas"], {"bits": bits})
        measured(f"sample {bits:g}", plan, plan.bytes, PLANNED_SEEDS)
    weights = sum(math.prod(shape) for shape in layers.values())
    rows = [{"bits": 8 * row["bytes"] / weights, **row} for row in rows]
    return {
        "weights": weights,
        "heldout_tokens": text.tokens,
        "documents": text.documents,
        "alphas": found,
        "plans": rows,
        "judged": _judged(rows),
    }


def _alphas(model: Any, out: Path, source: str) -> dict[str, Any]:
    """Alphas from the sample that the recipe `higgs-dynamic` takes, or without data."""
    from lowbit import sensitivity

    from stages.quantize.dynamic import SAMPLE_LENGTH, sample

    length = min(SAMPLE_LENGTH, int(model.config.max_position_embeddings))
    batches = sample(out / "tokens", length, SAMPLE_SEED) if source == "sample" else None
    found = sensitivity.estimate(model, batches, seed=SAMPLE_SEED)
    return {"alphas": found.alphas, "shrinking": found.shrinking, "not_linear": found.bent}


def _bytes(recipe: str, layers: dict[str, tuple[int, int]]) -> int:
    """Stored bytes of all layers under one recipe."""
    from lowbit import recipes

    parts = [
        part
        for spec in recipes.specs(recipe, layers).values()
        for part in recipes.kind_of(spec, "layer").layout(spec).values()
    ]
    return sum(math.prod(shape) * dtype.itemsize for shape, dtype in parts)


def _row(model: Any, text: _Text, label: str, plan: Any, size: int, seeds: int) -> dict[str, Any]:
    from lowbit import Plan, quantize_model

    rises = [text.rise(quantize_model(copy.deepcopy(model), plan, seed=seed)) for seed in range(seeds)]
    mean, error = text.mean(rises)
    planned = plan if isinstance(plan, Plan) else None
    return {
        "plan": label,
        "bytes": size,
        "predicted": planned.predicted if planned else None,
        "measured": mean,
        "standard_error": error,
        "by_seed": [float(rise.sum() / text.tokens) for rise in rises],
        "warned": bool(planned and planned.warnings),
    }


def _judged(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What the issue asks of the rows: predictions in the trusted range, warnings below it, equal bytes."""
    found = {row["plan"]: row for row in rows}
    clear = {name for name, row in found.items() if row["measured"] > CLEAR * row["standard_error"]}
    low, high = TRUSTED
    planned = [row for row in rows if row["plan"].startswith("sample")]
    trusted = {
        row["plan"]: {
            str(seeds): row["predicted"] * seeds / sum(row["by_seed"][:seeds]) - 1
            for seeds in sorted({SIGN_SEEDS, len(row["by_seed"])})
        }
        for row in planned
        if low <= row["bits"] <= high and row["plan"] in clear
    }
    beside = {
        recipe: {"fixed": found[recipe]["measured"]}
        | {source: found[f"{source} at the bytes of {recipe}"]["measured"] for source in ("sample", "random")}
        for recipe in (*UNIFORM, *BASELINES)
        if recipe in clear
    }
    return {
        "prediction_error": trusted,
        "within": all(abs(error) <= WITHIN for found in trusted.values() for error in found.values()),
        "warned_below_3_bits": all(row["warned"] for row in planned if row["bits"] < 3),
        "equal_bytes": beside,
    }


class _Text:
    """Held-out documents in rows, and the loss of the unquantised model on each."""

    def __init__(self, folder: Path, model: Any) -> None:
        import numpy as np

        from stages.common.training.shards import Shards

        shards = Shards.open(folder)
        pieces = []
        for subset in sorted(shards.subsets):
            stream, ends = shards.tokens(subset, "heldout"), shards.ends(subset, "heldout")
            starts = [0, *(int(end) for end in ends[:-1])]
            pieces += [stream[begin : int(end)] for begin, end in zip(starts, ends, strict=True)]
        total = sum(len(document) for document in pieces)
        kept = pieces[:: max(1, math.ceil(total / TOKENS))]
        self.rows, owners = [], []
        for number, document in enumerate(kept):
            # The document opens with the end-of-text token, as in training.
            opened = np.concatenate([[shards.eos_id], document]).astype(np.int64)
            for begin in range(0, len(opened) - 1, ROW):
                self.rows.append(opened[begin : begin + ROW + 1])
                owners.append(number)
        order = sorted(range(len(self.rows)), key=lambda at: len(self.rows[at]))
        self.rows, self._owners = [self.rows[at] for at in order], [owners[at] for at in order]
        self.documents = len(kept)
        self.tokens = sum(len(row) - 1 for row in self.rows)
        self._clean = self._losses(model)

    def rise(self, model: Any) -> Any:
        """Rise of the summed loss of every document in nats, (documents,)."""
        return self._losses(model) - self._clean

    def mean(self, rises: list[Any]) -> tuple[float, float]:
        """Rise per token, averaged over the seeds, and its standard error: documents and seeds."""
        import numpy as np

        mean = np.mean(rises, axis=0)
        sizes = np.bincount(self._owners, [len(row) - 1 for row in self.rows], self.documents)
        ratio = mean.sum() / sizes.sum()
        spread = np.square(mean - ratio * sizes).sum() * self.documents / (self.documents - 1)
        seeds = np.var(np.sum(rises, axis=1), ddof=1) / len(rises) if len(rises) > 1 else 0.0
        return float(ratio), float(math.sqrt(spread + seeds) / sizes.sum())

    def _losses(self, model: Any) -> Any:
        import numpy as np
        import torch
        from torch.nn.functional import cross_entropy

        losses = np.zeros(self.documents)
        with torch.inference_mode():
            for first in range(0, len(self.rows), 32):
                rows = self.rows[first : first + 32]
                width = max(len(row) for row in rows)
                padded = np.stack([np.pad(row, (0, width - len(row)), constant_values=-100) for row in rows])
                table = torch.from_numpy(padded)
                inputs, targets = table[:, :-1].clamp(min=0), table[:, 1:]
                logits = model(input_ids=inputs, use_cache=False).logits.float()
                found = cross_entropy(logits.transpose(1, 2), targets, reduction="none", ignore_index=-100)
                np.add.at(losses, self._owners[first : first + 32], found.sum(1).double().numpy())
        return losses
