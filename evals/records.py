"""Records in MERA's form and the prompts made of them.

A record is one JSON object: `instruction` (a template with `{field}` places), `inputs` (object or string),
`outputs` (the answer) and `meta` (`id`, or `dialog_id` and `question_id`; `cluster`: items that depend on one
fact share it). MERA: arXiv 2401.04531, section 3.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from evals.errors import EvalError

_PLACE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
_FIELDS = ("instruction", "inputs", "outputs", "meta")
# The shape of an answer: text; a list of texts (the outcomes of a program's tests); an object of labels.
AnswerShape = Literal["text", "list", "labels"]
_SHAPES: dict[str, tuple[type, str]] = {
    "text": (str, "text"),
    "list": (list, "a list of texts"),
    "labels": (dict, "an object of labels"),
}


@dataclass(frozen=True)
class Record:
    """One item of a task. `outputs` is empty when the item has no answer, and JSON text when the answer is
    a list or an object; `cluster` is the fact that it is about, None when it names none; `where` is its file
    and line; `meta` is all of the record's own.
    """

    instruction: str
    inputs: str | dict[str, str]
    outputs: str
    id: str
    cluster: str | None
    where: str
    meta: Mapping[str, Any] = field(default_factory=dict)

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

    `strip`, `strip_shot`: whether a filled instruction loses its outer blanks as an item and as a first shot.
    `frame`: the short form that stands for every turn but the first when shots are shown; without one every
    turn carries its full instruction; several by the value of the meta field `frame_by`. `frame_strip`: which
    outer blanks a filled frame loses. `shot_suffix`: what is appended to the instruction of the first shot.
    """

    strip: bool = True
    strip_shot: bool = True
    frame: str | Mapping[str, str] | None = None
    frame_by: str | None = None
    frame_strip: Literal["both", "left", "none"] = "both"
    shot_suffix: str = ""

    def full(self, record: Record) -> str:
        """The record's own instruction, filled: the prompt without shots."""
        text = record.fill(record.instruction)
        return text.strip() if self.strip else text

    def first_shot(self, record: Record) -> str:
        """The prompt of the first shot."""
        text = record.fill(record.instruction)
        return (text.strip() if self.strip_shot else text) + self.shot_suffix

    def later_turn(self, record: Record) -> str:
        """The prompt of any turn after the first shot, the tested item included. Raises `EvalError`."""
        if self.frame is None:
            return self.full(record)
        text = record.fill(self._frame(self.frame, record))
        return {"both": text.strip(), "left": text.lstrip(), "none": text}[self.frame_strip]

    def _frame(self, frame: str | Mapping[str, str], record: Record) -> str:
        if isinstance(frame, str):
            return frame
        kind = str(record.meta.get(str(self.frame_by)))
        if kind not in frame:
            raise EvalError(
                f"{record.where}: meta.{self.frame_by} is `{kind}`; this task knows {', '.join(frame)}"
            )
        return frame[kind]


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


def read_records(path: Path, shape: AnswerShape = "text") -> list[Record]:
    """All records of a file, in its order. Raises `EvalError` as `check`."""
    return check(read_jsonl(path), str(path), shape)


def check(rows: Iterable[tuple[str, Any]], source: str, shape: AnswerShape = "text") -> list[Record]:
    """All records of (place, JSON value) pairs, in their order; `source` names the split.

    Raises `EvalError` that names place and field when a field is missing or of a wrong type, when two
    records share an id, or when there is no record.
    """
    records: list[Record] = []
    seen: dict[str, str] = {}
    for where, value in rows:
        record = parse(value, where, shape)
        if record.id in seen:
            raise EvalError(
                f"{source}: {where} and {seen[record.id]} share meta.id {record.id}; make ids unique"
            )
        seen[record.id] = where
        records.append(record)
    if not records:
        raise EvalError(f"{source}: the split is empty; a task needs at least one record")
    return records


def parse(value: Any, where: str, shape: AnswerShape = "text") -> Record:
    """Check one JSON value against the schema. Raises `EvalError` naming `where` and the field."""
    if not isinstance(value, dict):
        raise EvalError(f"{where}: expected a JSON object, found {type(value).__name__}")
    for name in _FIELDS:
        if name not in value:
            raise EvalError(f"{where}: field `{name}` is missing; a record has {', '.join(_FIELDS)}")
    instruction, meta = value["instruction"], value["meta"]
    if not isinstance(instruction, str):
        raise EvalError(f"{where}: field `instruction` is {type(instruction).__name__}, expected text")
    if not instruction.strip():
        raise EvalError(f"{where}: field `instruction` is empty; it is what a model is asked")
    record_id = _id(meta, where)
    outputs = _answer(value["outputs"], shape, where)
    cluster = None if meta.get("cluster") is None else _name(meta, "cluster", where)
    return Record(instruction, _inputs(value["inputs"], where), outputs, record_id, cluster, where, meta)


def _inputs(inputs: Any, where: str) -> str | dict[str, str]:
    """Text, or an object of texts: a number becomes text, and a field that is null is absent."""
    if isinstance(inputs, str):
        return inputs
    if not isinstance(inputs, dict):
        raise EvalError(f"{where}: field `inputs` is {type(inputs).__name__}, expected an object or text")
    for name, value in inputs.items():
        if isinstance(value, bool) or not isinstance(value, str | int | float | None):
            found = type(value).__name__
            raise EvalError(f"{where}: field `inputs.{name}` is {found}, expected text or a number")
    return {name: str(value) for name, value in inputs.items() if value is not None}


def _id(meta: Any, where: str) -> str:
    """`meta.id`, or the places of a turn in its dialogue where a record has no other id."""
    if isinstance(meta, dict):
        if meta.get("id") is not None:
            return _name(meta, "id", where)
        if meta.get("dialog_id") is not None and meta.get("question_id") is not None:
            return f"{_name(meta, 'dialog_id', where)}:{_name(meta, 'question_id', where)}"
    raise EvalError(f"{where}: field `meta.id` is missing; every record needs an id")


def _name(meta: Mapping[str, Any], key: str, where: str) -> str:
    """Text or a whole number by which something is called, as text."""
    value = meta[key]
    if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
        raise EvalError(f"{where}: field `meta.{key}` is {value!r:.40}, expected text or a whole number")
    return str(value)


def _answer(outputs: Any, shape: AnswerShape, where: str) -> str:
    """`outputs` as text; a list or an object becomes JSON text, or nothing where all of it is withheld."""
    expected, words = _SHAPES[shape]
    if isinstance(outputs, str) and not outputs:
        return ""
    if not isinstance(outputs, expected) or not isinstance(outputs, (str, list, dict)):
        raise EvalError(f"{where}: field `outputs` is {type(outputs).__name__}, expected {words}")
    if isinstance(outputs, str):
        return outputs
    values: list[Any] = list(outputs.values() if isinstance(outputs, dict) else outputs)
    if wrong := [item for item in values if not isinstance(item, str)]:
        raise EvalError(f"{where}: field `outputs` holds {type(wrong[0]).__name__}, expected {words}")
    return json.dumps(outputs, ensure_ascii=False) if any(values) else ""


def is_record(value: Any) -> bool:
    """Whether a JSON value looks like a MERA record at all (answers and ids may be broken)."""
    return isinstance(value, dict) and {"inputs", "outputs", "meta"} <= value.keys()


def sort_key(*parts: str) -> str:
    """A stable pseudo-random key: capped samples are the items with the smallest keys."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
