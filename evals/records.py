"""Records in MERA's form and the prompts made of them.

A record is one JSON object: `instruction` (a template with `{field}` places), `inputs` (object or string),
`outputs` (the answer) and `meta` (`id`, and `cluster`: items that depend on one fact share it). MERA: arXiv
2401.04531, section 3.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evals.errors import EvalError

_PLACE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
_FIELDS = ("instruction", "inputs", "outputs", "meta")


@dataclass(frozen=True)
class Record:
    """One item of a task. `outputs` is empty when the item has no answer; `where` is its file and line."""

    instruction: str
    inputs: str | dict[str, str]
    outputs: str
    id: str
    cluster: str
    where: str

    def fill(self, template: str) -> str:
        """`template` with its places filled from the inputs; see `fill`."""
        return fill(template, self.inputs, self.where)


def fill(template: str, inputs: str | dict[str, str], where: str) -> str:
    """Replace the named places of `template` in one pass; all other braces stay as they are.

    String inputs fill `{inputs}`, or the template's only place when that has another name (MERA's ruDetox).
    Object inputs fill places of the same name. Raises `EvalError` when a place has no field.
    """
    if isinstance(inputs, str):
        places = set(_PLACE.findall(template))
        only = places.pop() if len(places) == 1 else "inputs"
        values = {only: inputs}
    else:
        values = inputs

    def value(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in values:
            raise EvalError(
                f"{where}: the instruction names `{{{name}}}`, but `inputs` has no such field; add it"
            )
        return values[name]

    return _PLACE.sub(value, template)


@dataclass(frozen=True)
class Layout:
    """How the prompts of one task look (MERA v1.2, checked against its own code: data/mera_golden).

    `strip`: whether a filled instruction loses its outer blanks. `frame`: the short form that stands for
    every turn but the first when shots are shown; without one every turn carries its full instruction.
    `shot_suffix`: what is appended to the instruction of the first shot.
    """

    strip: bool = True
    frame: str | None = None
    shot_suffix: str = ""

    def full(self, record: Record) -> str:
        """The record's own instruction, filled: the prompt without shots."""
        text = record.fill(record.instruction)
        return text.strip() if self.strip else text

    def first_shot(self, record: Record) -> str:
        """The prompt of the first shot."""
        return record.fill(record.instruction) + self.shot_suffix if self.shot_suffix else self.full(record)

    def later_turn(self, record: Record) -> str:
        """The prompt of any turn after the first shot, the tested item included."""
        return self.full(record) if self.frame is None else record.fill(self.frame).strip()


def read_jsonl(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield (file and line, JSON value) of a `.jsonl` or `.jsonl.gz` file.

    Raises `EvalError` on a missing file, broken JSON or text that is not UTF-8.
    """
    name, number = f"{path.parent.name}/{path.name}", 0
    try:
        opener = gzip.open if path.suffix == ".gz" else Path.open
        with opener(path, "rt", encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield f"{name}:{number}", _json(line, path, number)
    except FileNotFoundError as error:
        raise EvalError(f"{path}: no such file; run `dvc repro`, or mend `evaluate.suites`") from error
    except (UnicodeDecodeError, gzip.BadGzipFile, EOFError) as error:
        raise EvalError(f"{path}: not readable as UTF-8 text after line {number} ({error})") from error


def _json(line: str, path: Path, number: int) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        found = f"{error.msg} at character {error.pos + 1}"
        raise EvalError(f"{path}: line {number} is not JSON ({found})") from error


def read_records(path: Path) -> list[Record]:
    """All records of a file, in its order.

    Raises `EvalError` that names file, line and field when a field is missing or of a wrong type, when two
    records share an id, or when the file holds no record.
    """
    records: list[Record] = []
    seen: dict[str, str] = {}
    for where, value in read_jsonl(path):
        record = parse(value, where)
        if record.id in seen:
            raise EvalError(
                f"{path}: {where} and {seen[record.id]} share meta.id {record.id}; make ids unique"
            )
        seen[record.id] = where
        records.append(record)
    if not records:
        raise EvalError(f"{path}: the split is empty; a task needs at least one record")
    return records


def parse(value: Any, where: str) -> Record:
    """Check one JSON value against the schema. Raises `EvalError` naming `where` and the field."""
    if not isinstance(value, dict):
        raise EvalError(f"{where}: expected a JSON object, found {type(value).__name__}")
    for field in _FIELDS:
        if field not in value:
            raise EvalError(f"{where}: field `{field}` is missing; a record has {', '.join(_FIELDS)}")
    meta, inputs = value["meta"], value["inputs"]
    if not isinstance(meta, dict) or meta.get("id") is None:
        raise EvalError(f"{where}: field `meta.id` is missing; every record needs an id")
    if not isinstance(value["instruction"], str):
        raise EvalError(
            f"{where}: field `instruction` is {type(value['instruction']).__name__}, expected text"
        )
    if not isinstance(value["outputs"], str):
        raise EvalError(f"{where}: field `outputs` is {type(value['outputs']).__name__}, expected text")
    if isinstance(inputs, dict):
        inputs = {
            str(name): item if isinstance(item, str) else json.dumps(item) for name, item in inputs.items()
        }
    elif not isinstance(inputs, str):
        raise EvalError(f"{where}: field `inputs` is {type(inputs).__name__}, expected an object or text")
    record_id = str(meta["id"])
    cluster = meta.get("cluster")
    return Record(
        value["instruction"],
        inputs,
        value["outputs"],
        record_id,
        record_id if cluster is None else str(cluster),
        where,
    )


def is_record(value: Any) -> bool:
    """Whether a JSON value looks like a MERA record at all (answers and ids may be broken)."""
    return isinstance(value, dict) and {"inputs", "outputs", "meta"} <= value.keys()


def sort_key(*parts: str) -> str:
    """A stable pseudo-random key: capped samples are the items with the smallest keys."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
