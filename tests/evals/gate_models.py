"""Simulated evaluations for the tests of the gate: two tasks, 200 documents, planted quality."""

from __future__ import annotations

import numpy as np
import pandas as pd

from evals.gate.decide import Vote
from evals.gate.tables import Evaluation

CONDITIONS = {
    "data": "d1",
    "shots": 0,
    "task_versions": {"cities": "1"},
    "batch_size": 32,
    "precision": "fp32",
}
SILENT = Vote(False, "it is switched off")


def model(
    name: str,
    accuracy: float,
    bits: float = 1.0,
    digest: str = "",
    items: int = 300,
    seed: int = 1,
    damage: float = 0.0,
) -> Evaluation:
    """Two tasks of `items` items, 200 documents. Equal seeds: right on equal items; `damage` flips some."""
    rng, noise, rows = np.random.default_rng(seed), np.random.default_rng(len(name)), []
    for task in ("cities", "sums"):
        right = rng.random(items) < accuracy
        right ^= noise.random(items) < damage
        rows += [
            (task, f"{task}{i}", f"p{task}{i}", f"{task}-{i // 2}", "acc", float(right[i]))
            for i in range(items)
        ]
    for document in range(200):
        chars = 100.0 + document
        value = chars * bits * (1 + 0.02 * noise.standard_normal())
        head = ("bpc_ru", f"doc{document}", f"text{document}", f"doc{document}")
        rows += [(*head, "bits", value), (*head, "chars", chars)]
    columns = ["task", "doc_hash", "prompt_hash", "cluster", "metric", "value"]
    return Evaluation(name, digest or f"digest-{name}", dict(CONDITIONS), pd.DataFrame(rows, columns=columns))


CHAMPION = model("champion", 0.6)
