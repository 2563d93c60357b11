"""MERA's tasks as its own code runs them: every prompt and metric value of data/mera_golden, the agreement of
the raters of data/mera_human, and a model of ours on the tasks that have data, both ways of asking.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from stages.common.atomic import read_json
from tests import mera_golden
from tests.proof.classics import CLAIM as CLASSICS
from tests.proof.classics import DATA
from tests.proof.classics import profile as classics_profile
from tests.proof.common import SCRATCH, begin_like, piece, run, workspace, write_result

CLAIM = "mera_golden"
# Figures of data/mera_human/SOURCE.md.
KRIPPENDORFF = {
    "bps": 0.772,
    "lcs": 0.454,
    "simplear": 0.961,
    "rumultiar": 0.826,
    "rcb": 0.471,
    "ruhhh": 0.523,
    "rutie": 0.776,
}
MODES, CELL = ("choice", "generate"), "adapt-bf16"
# MERA's harness scores an answer that is withheld as wrong; here such a record is counted and left out.
WITHHELD = "squad_em_f1.local"


def measure() -> None:
    """Compare with the golden files and recompute the raters' agreement."""
    if not DATA.is_dir():
        raise SystemExit(f"{CLAIM}: {DATA} is absent; this claim needs the public data beside the checkout")
    golden = DATA / "mera_golden"
    write_result(
        CLAIM,
        {
            "prompts": piece(CLAIM, "prompts", lambda: _prompts(golden)),
            "metrics": piece(CLAIM, "metrics", lambda: _metrics(golden)),
            "krippendorff_alpha": piece(CLAIM, "agreement", lambda: _agreement(DATA / "mera_human")),
            "model": {mode: piece(CLAIM, f"model-{mode}", lambda mode=mode: _model(mode)) for mode in MODES},
        },
    )


def _model(mode: str) -> dict[str, Any]:
    """Scores of what the claim `classics` adapted, each with its interval beside the majority class."""
    trained = SCRATCH / CLASSICS / "run"
    if not (trained / "out" / "quantize" / CELL).is_dir():
        raise SystemExit(f"{CLAIM}: the model is missing; first `make proof CLAIM={CLASSICS}`")

    def profile(params: dict[str, Any]) -> None:
        classics_profile(params)
        suites = [str(DATA / name) for name in ("mera_human", "rsg_human")]
        params["evaluate"] |= {"suites": suites, "mode": mode, "shots": None, "draw": "mera"}

    folder = workspace(CLAIM, mode, profile)
    begin_like(folder, trained)
    for stage in (["stages.sources"], ["stages.evaluate", CELL]):
        run([sys.executable, "-m", *stage], folder)
    scores = read_json(folder / "out" / "evaluate" / CELL / "scores.json")
    return {key: scores[key] for key in ("total", "tasks", "refused")}


def _prompts(golden: Path) -> dict[str, Any]:
    """Rows and equal rows by task and mode; a generative twin's prompt is compared with the same string."""
    rows: Counter[str] = Counter()
    equal: Counter[str] = Counter()
    for file in mera_golden.FILES:
        for row, differing in mera_golden.prompts(golden, file):
            name = f"{row['task']} {row['mode']}"
            rows[name] += 1
            equal[name] += not differing
        for row, context, until in mera_golden.twins(golden, file):
            name = f"{row['task']} {row['mode']} generative"
            rows[name] += 1
            equal[name] += (context, until) == (row["context"], ["\n"])
    return {name: {"rows": count, "equal": equal[name]} for name, count in sorted(rows.items())}


def _metrics(golden: Path) -> dict[str, Any]:
    """Values and values within 1e-9 by function."""
    rows: Counter[str] = Counter()
    equal: Counter[str] = Counter()
    for row, found in mera_golden.values(golden):
        rows[row["function"]] += 1
        equal[row["function"]] += row["function"] != WITHHELD and mera_golden.close(found, row["expected"])
    return {name: {"values": count, "equal": equal[name]} for name, count in sorted(rows.items())}


def _agreement(folder: Path) -> dict[str, Any]:
    """Krippendorff's alpha of every task's votes, with its interval, beside the published figure."""
    from evals.stats.agreement import krippendorff_alpha

    votes = [json.loads(line) for line in (folder / "votes.jsonl").read_text(encoding="utf-8").splitlines()]
    found = {}
    for task, published in KRIPPENDORFF.items():
        rows = [vote for vote in votes if vote["task"] == task]
        alpha = krippendorff_alpha([row["id"] for row in rows], [str(row["label"]) for row in rows])
        found[task] = {
            "votes": len(rows),
            "alpha": alpha.mean,
            "low": alpha.lo,
            "high": alpha.hi,
            "published": published,
        }
    return found
