"""The stage `report`: reads what every other stage found out and writes it down for people."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stages.common.atomic import read_json, write_json, write_text
from stages.common.manifest import CHECKPOINT_MANIFEST, Facts, sidecar
from stages.common.params import Params
from stages.common.stage import OUT, Paths, Stage

FOLDERS = ("corpus", "validate", "tokens", "evaluate", "judge", "measure", "gate")


def locate(params: Params, cell: str | None) -> tuple[dict[str, Path], dict[str, Path]]:  # noqa: ARG001
    """Folders of results, the curve of pretraining, and manifests. Weights are not read."""
    inputs = {name: OUT / name for name in FOLDERS}
    inputs["training"] = OUT / "pretrain" / "training.json"
    inputs["manifest corpus"] = sidecar(OUT / "corpus")
    inputs |= {
        f"manifest {name}": OUT / "quantize" / name / CHECKPOINT_MANIFEST for name in params.candidates
    }
    return inputs, {"report": OUT / "report"}


def run(params: Any, inputs: Paths, outputs: Paths) -> Facts:
    """Write report.html, report.md, table.json and the pictures."""
    from stages.report import pictures
    from stages.report.curve import read_curve
    from stages.report.data import read_data
    from stages.report.models import majority_total, read_beside, read_models, shared_prompt
    from stages.report.page import Page
    from stages.report.provenance import read_provenance
    from stages.report.render import render
    from stages.report.table import table

    out = outputs["report"]
    decision = read_json(inputs["gate"] / "decision.json")
    models = read_models(
        {name: inputs[f"manifest {name}"] for name in params.candidates},
        decision,
        {name: inputs[name] for name in ("evaluate", "judge", "measure")},
    )
    curve = read_curve(read_json(inputs["training"]))
    drawn = {"quality": pictures.quality_size_speed(models), "forgetting": pictures.forgetting(curve)}
    page = Page(
        decision=decision,
        models=models,
        beside=read_beside([*params.gate.against_anchor, *params.evaluate.endpoints], inputs["evaluate"]),
        prompt=shared_prompt(models),
        majority=majority_total(models),
        curve=curve,
        data=read_data(inputs["corpus"], inputs["validate"], inputs["tokens"]),
        provenance=read_provenance(
            {
                name.removeprefix("manifest "): path
                for name, path in inputs.items()
                if name.startswith("manifest ")
            }
        ),
        gate=params.gate,
        pictures=drawn,
    )
    write_text(out / "report.html", render("page.html", page=page))
    write_text(out / "report.md", render("page.md", page=page))
    write_json(out / "table.json", table(models, decision, page.beside))
    for name, svg in drawn.items():
        if svg:
            write_text(out / f"{name}.svg", svg)
    return Facts()


STAGE = Stage("report", run, reads=("candidates", "gate", "evaluate.endpoints"), locate=locate, torch=False)
