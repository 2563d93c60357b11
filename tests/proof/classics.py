"""Real input: profiles/classics.yaml on the public data beside the checkout, whatever its numbers are."""

from __future__ import annotations

from typing import Any

import yaml

from stages.common.atomic import read_json
from tests.proof.common import ROOT, piece, run, workspace, write_result

CLAIM = "classics"
DATA = ROOT.parent / "shared" / "data"


def measure() -> None:
    """Run the whole graph with the profile; keep every model's scores with intervals beside the baselines."""
    if not DATA.is_dir():
        raise SystemExit(f"{CLAIM}: {DATA} is absent; this claim needs the public data beside the checkout")
    folder = workspace(CLAIM, "run", profile)
    piece(CLAIM, "graph", lambda: run(["dvc", "repro"], folder).returncode)
    out = folder / "out"
    cells = sorted(path.name for path in (out / "evaluate").iterdir() if path.is_dir())
    scores = {cell: read_json(out / "evaluate" / cell / "scores.json") for cell in cells}
    write_result(
        CLAIM,
        {
            "profile": "profiles/classics.yaml",
            "scores": {
                cell: {key: found[key] for key in ("total", "tasks", "bpc", "refused")}
                for cell, found in scores.items()
            },
            "forgetting_curve": read_json(out / "pretrain" / "training.json")["points"],
            "decision": read_json(out / "gate" / "decision.json"),
            "corpus": {
                key: read_json(out / "corpus" / "summary.json")[key] for key in ("actions", "reasons")
            },
        },
    )


def profile(params: dict[str, Any]) -> None:
    """Put the profile into the place of `params`, with the data beside this checkout."""
    text = (ROOT / "profiles" / "classics.yaml").read_text(encoding="utf-8")
    params.clear()
    params.update(yaml.safe_load(text.replace("../shared/data", str(DATA))))
