"""Brings everything that was found out about every candidate before the rules, and writes decision.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stages.common.atomic import write_json
from stages.common.champion import CHAMPION, CHAMPION_FILE
from stages.common.manifest import Facts
from stages.common.params import Params
from stages.common.params.schema import parent_of
from stages.common.stage import OUT, Paths, Stage


def locate(params: Params, cell: str | None) -> tuple[dict[str, Path], dict[str, Path]]:  # noqa: ARG001
    """champion.json, the validation's verdict, what every cell's stages wrote, and the anchors' scores."""
    inputs = {
        "champion": CHAMPION_FILE,
        "validate": OUT / "validate",
        f"evaluate/{CHAMPION}": OUT / "evaluate" / CHAMPION,
    }
    inputs |= {f"evaluate/{name}": OUT / "evaluate" / name for name in params.gate.against_anchor}
    for name in params.candidates:
        for stage in ("evaluate", "judge", "measure", "quantize"):
            inputs[f"{stage}/{name}"] = OUT / stage / name
    return inputs, {"gate": OUT / "gate"}


def run(params: Any, inputs: Paths, outputs: Paths) -> Facts:
    """Apply the rules of block `gate` to every candidate and name the winner, or none."""
    from evals.gate.decide import SCHEMA, Entry, Reference, decide
    from stages.gate import reading

    reading.check_validation(inputs["validate"])
    named = reading.champion(inputs["champion"])
    champion = reading.evaluation(CHAMPION, inputs[f"evaluate/{CHAMPION}"])
    reading.same_champion(champion.digest, named["digest"], inputs[f"evaluate/{CHAMPION}"])
    entries = {}
    for name in sorted(params.candidates):
        evaluation = reading.evaluation(name, inputs[f"evaluate/{name}"])
        checkpoint = inputs[f"quantize/{name}"]
        reading.same_checkpoint(evaluation, checkpoint, inputs[f"evaluate/{name}"])
        measures = reading.measures(inputs[f"measure/{name}"])
        entries[name] = Entry(
            evaluation=evaluation,
            parent=parent_of(name, params.candidates),
            bytes=reading.bytes_on_disk(measures),
            vote=reading.vote(inputs[f"judge/{name}"], evaluation.digest, champion.digest),
            measures=measures,
            lineage=reading.lineage(checkpoint) if params.gate.licences else {},
        )
    anchors = {
        name: reading.evaluation(name, inputs[f"evaluate/{name}"]) for name in params.gate.against_anchor
    }
    reference = Reference(anchors, reading.contamination(inputs["validate"]))
    decision = {
        "schema": SCHEMA,
        "champion": {"version": named["version"], "digest": named["digest"], "compared": champion.digest},
        **decide(entries, champion, reading.policy(params), reference),
    }
    write_json(outputs["gate"] / "decision.json", decision)
    return Facts(notes={"winner": decision["winner"]})


STAGE = Stage("gate", run, reads=("gate", "candidates", "seed"), locate=locate, torch=False)
