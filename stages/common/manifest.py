"""The manifest beside every out: what it was made from, with what, and what it descends from."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from stages.common.atomic import read_json
from stages.common.hashing import sha256_file, sha256_path

SCHEMA = 1
CHECKPOINT_MANIFEST = "gorn.json"
DIGITS = 6
# Notes of `adapt` that stay with everything made from its model; which units were kept stays with it alone.
ADAPTATION = ("method", "trainable_parameters", "removed")
VERSIONED = ("gorn", "torch", "transformers", "tokenizers", "peft", "lm-eval", "numpy", "pandas", "pyarrow")


@dataclass
class Facts:
    """What only the stage knows about its out. Everything in it is deterministic: no times, no ids.

    `lineage`: base model and licence, data licences, adaptation (`descent`). `tokens`: tokens consumed per
    subset. `notes`: the rest.
    """

    lineage: dict[str, Any] = field(default_factory=dict)
    tokens: dict[str, int] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)


def build(
    stage: str, cell: str | None, params: dict[str, Any], inputs: dict[str, Path], out: Path, facts: Facts
) -> dict[str, Any]:
    """The manifest of `out` as a JSON value."""
    files = sorted(file for file in out.rglob("*") if file.is_file() and file != out / CHECKPOINT_MANIFEST)
    return {
        "schema": SCHEMA,
        "stage": stage,
        "cell": cell,
        "inputs": {str(path): sha256_path(path) for path in sorted(inputs.values())},
        "params": params,
        "seed": params.get("seed"),
        "versions": versions(),
        "lineage": facts.lineage,
        "tokens": facts.tokens,
        "notes": facts.notes,
        "files": {str(file.relative_to(out)): sha256_file(file) for file in files},
    }


def versions() -> dict[str, str]:
    """Versions of the packages that results depend on."""
    found = {}
    for package in VERSIONED:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def rounded(value: float) -> float:
    """`value` with the significant digits that manifests and measures show."""
    return float(f"{value:.{DIGITS}g}")


def sidecar(out: Path) -> Path:
    """Where the manifest of an out lies that is no checkpoint: `<out>.manifest.json`."""
    return out.with_name(f"{out.name}.manifest.json")


def read(out: Path) -> dict[str, Any]:
    """The manifest of `out`, checkpoint or not. Raises `UserError` when there is none."""
    inside = out / CHECKPOINT_MANIFEST
    return dict(read_json(inside if inside.exists() else sidecar(out)))


def descent(parent: Path) -> dict[str, Any]:
    """The lineage of what is made from the checkpoint `parent`: its own, and how it was adapted.

    `adaptation`: {method, trainable_parameters, removed}; `removed`, where the method cut the model, counts
    parameters. Raises `UserError` when there is no manifest.
    """
    about = read(parent)
    lineage = dict(about["lineage"])
    if about.get("stage") == "adapt":
        notes = about["notes"]
        lineage["adaptation"] = {name: notes[name] for name in ADAPTATION if name in notes}
    return lineage
