"""Where everything came from: seeds, licences, digests and versions, out of the manifests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.common.atomic import read_json


@dataclass(frozen=True)
class Provenance:
    """What the page says about origins; every list is of (name, value) in a fixed order."""

    seeds: list[tuple[str, str]]
    lineage: list[tuple[str, str]]
    versions: list[tuple[str, str]]


def read_provenance(manifests: Mapping[str, Path]) -> Provenance:
    """Join the manifests (name of an out -> file); what two of them tell differently is listed under both."""
    read = {name: dict(read_json(path)) for name, path in manifests.items()}
    return Provenance(
        seeds=_seeds(read),
        lineage=_joined({name: flat(manifest.get("lineage", {})) for name, manifest in read.items()}),
        versions=_joined({name: flat(manifest.get("versions", {})) for name, manifest in read.items()}),
    )


def flat(value: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Nested mappings as (dotted key, text) pairs; lists are joined with commas."""
    if isinstance(value, Mapping):
        return [
            pair
            for key in sorted(value)
            for pair in flat(value[key], f"{prefix}.{key}" if prefix else str(key))
        ]
    if isinstance(value, Sequence) and not isinstance(value, str):
        if any(isinstance(item, Mapping) for item in value):
            return [pair for place, item in enumerate(value) for pair in flat(item, f"{prefix}.{place}")]
        return [(prefix, ", ".join(str(item) for item in value))]
    return [] if value is None else [(prefix, str(value))]


def _joined(pairs: Mapping[str, list[tuple[str, str]]]) -> list[tuple[str, str]]:
    values: dict[str, dict[str, list[str]]] = {}
    for name, found in pairs.items():
        for key, value in found:
            values.setdefault(key, {}).setdefault(value, []).append(name)
    rows = []
    for key, by_value in sorted(values.items()):
        if len(by_value) == 1:
            rows.append((key, next(iter(by_value))))
        else:
            rows += [(f"{key} ({', '.join(names)})", value) for value, names in sorted(by_value.items())]
    return rows


def _seeds(read: Mapping[str, dict[str, Any]]) -> list[tuple[str, str]]:
    rows: dict[str, set[str]] = {}
    for manifest in read.values():
        if manifest.get("seed") is not None:
            rows.setdefault("training", set()).add(str(manifest["seed"]))
        for source in manifest.get("params", {}).get("corpus", {}).get("sources", []):
            if source.get("seed") is not None:
                rows.setdefault("embedded world", set()).add(str(source["seed"]))
    return [(name, ", ".join(sorted(values))) for name, values in sorted(rows.items())]
