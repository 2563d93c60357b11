"""Completes crowd items that lack MERA's instruction: ruethics of mera_human and parus of rsg_human.

Templates are those of the data set cards (mera_cards/prompts.json, a folder beside the items); which item
gets which is stated in mera_golden/SOURCE.md.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from evals.errors import EvalError
from evals.records import read_jsonl

TASKS = ("parus", "ruethics")


def cards(path: Path) -> Path:
    """Where the templates for the items of `path` are looked for."""
    return path.parent.parent / "mera_cards" / "prompts.json"


def needed(task: str, path: Path) -> bool:
    """Whether the records of `path` are crowd items of a task that an instruction can be given to."""
    if task.lower() not in TASKS:
        return False
    first = next(read_jsonl(path), None)
    return first is not None and isinstance(first[1], dict) and "instruction" not in first[1]


def rows(task: str, path: Path, templates: Path) -> Iterator[tuple[str, Any]]:
    """(place, record in MERA's schema) of a file of crowd items.

    Raises `EvalError` for templates that are not as expected, or an item without id or question.
    """
    try:
        known = json.loads(templates.read_text(encoding="utf-8"))[task.lower()]
    except (OSError, ValueError, KeyError) as error:
        raise EvalError(f"{templates}: no templates of task `{task}` ({error})") from error
    for where, value in read_jsonl(path):
        yield where, adapt(task, value, known, where)


def adapt(task: str, value: dict[str, Any], templates: list[str], where: str) -> dict[str, Any]:
    """One crowd item with the instruction and meta fields of MERA's schema. Raises `EvalError`."""
    meta = value.get("meta")
    if not isinstance(meta, dict) or not isinstance(meta.get("id"), int):
        raise EvalError(f"{where}: field `meta.id` is missing or no number; the template depends on it")
    odd = meta["id"] % 2
    if task.lower() == "ruethics":
        question = ("good", "ethical")[odd]
        return {**value, "instruction": templates[odd], "meta": {**meta, "question": question}}
    inputs = dict(value["inputs"])
    relation = inputs.pop("question", None)
    if relation not in ("cause", "effect"):
        raise EvalError(f"{where}: inputs.question is `{relation}`, expected cause or effect")
    instruction = templates[2] if relation == "effect" else templates[odd]
    return {**value, "instruction": instruction, "inputs": inputs, "meta": {**meta, "task": relation}}
