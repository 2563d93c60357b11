"""Where records come from: files in MERA's form, crowd items completed by an adapter, the hub's data set."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evals.errors import EvalError
from evals.mera import adapter
from evals.minimal_pairs import PAIR_FILES
from evals.records import read_jsonl

HUB = "hub:"
SHOT_SPLITS = ("train", "public_test")
_OFFLINE = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")


@dataclass(frozen=True)
class Split:
    """One split: `rows` gives (place, JSON value); `label` names it in errors, `key` in the digests.

    `refused`: why its records cannot be used, where an adapter lacks something.
    """

    label: str
    key: str
    digest: str
    rows: Callable[[], Iterable[tuple[str, Any]]]
    refused: str = ""


def folder_splits(folder: Path) -> dict[str, tuple[Split, Split | None]]:
    """Task name -> (test, shots or None) of a folder in MERA's form, sorted by name."""
    found: dict[str, tuple[Split, Split | None]] = {}
    for path in folder.glob("*.jsonl"):
        if not any(path.match(pattern) for pattern in PAIR_FILES):
            found[path.stem] = (_file(path.stem, path), None)
    for path in folder.glob("*/test.jsonl"):
        name = path.parent.name
        shots = [path.with_name(f"{split}.jsonl") for split in SHOT_SPLITS]
        train = next((_file(name, shown) for shown in shots if shown.exists()), None)
        found[name] = (_file(name, path), train)
    return dict(sorted(found.items()))


def _file(name: str, path: Path) -> Split:
    key = f"{name}/{path.name}"
    if not adapter.needed(name, path):
        return Split(str(path), key, digest(path), lambda: read_jsonl(path))
    cards = adapter.cards(path)
    refused = "" if cards.is_file() else f"its records have no instruction, and {cards} is absent"
    return Split(str(path), key, digest(path), lambda: adapter.rows(name, path, cards), refused)


def hub_splits(dataset: str, task: str) -> tuple[Split, Split | None]:
    """The splits of one configuration of the hub's data set (`MERA-evaluation/MERA`, or a folder with it).

    Raises `EvalError` when it is no folder and offline mode is on, and when the data set cannot be fetched.
    """
    if not Path(dataset).is_dir() and (
        named := [name for name in _OFFLINE if os.environ.get(name, "").upper() in ("1", "TRUE", "ON", "YES")]
    ):
        raise EvalError(
            f"`evaluate.suites` names {HUB}{dataset}, but {named[0]} forbids the network;"
            " unset it, or name a folder with the data set's files"
        )
    import datasets

    try:
        found = datasets.load_dataset(dataset, task)
    except Exception as error:  # the client has no common base class for what can go wrong
        reason = " ".join(str(error).split())[:200]
        raise EvalError(f"{HUB}{dataset}: configuration `{task}` cannot be read ({reason})") from error
    if "test" not in found:
        raise EvalError(f"{HUB}{dataset}: configuration `{task}` has no split `test`")
    shots = next((split for split in SHOT_SPLITS if split in found), None)
    return _rows(dataset, task, "test", found), _rows(dataset, task, shots, found) if shots else None


def _rows(dataset: str, task: str, split: str, found: Any) -> Split:
    label = f"{dataset}/{task}/{split}"
    values = [dict(value) for value in found[split]]
    text = "\n".join(json.dumps(value, ensure_ascii=False, sort_keys=True) for value in values)
    rows = [(f"{label}:{number}", value) for number, value in enumerate(values, start=1)]
    return Split(label, f"{task}/{split}", hashlib.sha256(text.encode()).hexdigest(), lambda: rows)


def digest(path: Path) -> str:
    """Hex SHA-256 of a data file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
