"""params.yaml for sources other than the embedded world: every block fits what the sources declare."""

from __future__ import annotations

from typing import Any


def fitting(values: dict[str, Any], suite: str = "suite") -> dict[str, Any]:
    """`values` with mixes, rules and suites that fit `corpus.sources`; the world's stay where it is there."""
    sources = values["corpus"]["sources"]
    if any(source["type"] == "world" for source in sources):
        return values
    mix = {source["subset"]: 1.0 for source in sources}
    rules = [{"metric": "total", "margin": 0.02}]
    rules += [
        {"metric": f"bpc_{language}", "margin": 0.03, "relative": True}
        for language in sorted({source["language"] for source in sources})
    ]
    bootstrap = values["base"]["bootstrap"] and values["base"]["bootstrap"] | {"mix": mix}
    return {
        **values,
        "base": values["base"] | {"bootstrap": bootstrap},
        **{block: values[block] | {"mix": mix} for block in ("pretrain", "adapt", "distill")},
        "quantize": {"qat": values["quantize"]["qat"] | {"mix": mix}},
        "evaluate": values["evaluate"] | {"suites": [suite], "questions": 0},
        "judge": values["judge"] | {"enabled": False},
        "gate": values["gate"] | {"against_champion": rules, "against_parent": rules},
    }
