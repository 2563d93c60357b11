"""The zip that MERA's server scores, and what is wrong with one.

The archive holds `<TaskName>.json` for every task: {"data": {"test": [{"outputs", "meta": {"id"}}]}}. USE's
meta also has id_task and variant; ruTiE's has dialog_id and question_id and no id; ruEthics gives one answer
for all five labels; code tasks give a list that holds ONE list with the results of every sample (sheet 1.5
and 1.8). What was generated goes into a second archive.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from evals import tasks as declarations
from evals.errors import EvalError
from evals.items import Answer
from evals.mera import answers as read_as
from evals.mera.metrics import LABELS
from evals.records import Record
from evals.suites import Task

SPLIT = "test"
# What names an item of these tasks; of all others `id` does.
_NAMED = {"USE": ("id", "id_task", "variant"), "ruTiE": ("dialog_id", "question_id")}
# The first moment that a zip can name: equal answers give equal bytes.
_MOMENT = (1980, 1, 1, 0, 0, 0)
# What every sample of a program gave: task -> id -> samples -> tests.
Results = Mapping[str, Mapping[str, Sequence[Sequence[str | None]]]]


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong: its kind as the server names it, the task, and a line that says where."""

    kind: str
    task: str
    message: str


def export(
    tasks: Sequence[Task], answers: Mapping[str, Sequence[Answer]], results: Results, folder: Path
) -> dict[str, str]:
    """Write `submission.zip` and `logs.zip` into `folder`; give MERA's name -> why it is not in the zip.

    `results`: what programs gave, for code tasks. An incomplete archive is written all the same: the server
    counts the tasks that it lacks as 0. Raises `EvalError` when a MERA task has no answers, or an item none.
    """
    files, logs, missing = {}, {}, dict.fromkeys(titles(), "it was not asked")
    for task in tasks:
        if not task.declared:
            continue
        title = task.spec["title"]
        given = _in_order(task, answers.get(task.name, ()))
        logs[f"{task.name}.json"] = _log(given)
        if task.spec.get("code") and task.name not in results:
            missing[title] = "the programs that the model wrote were not run; allow it with `execute_code`"
            continue
        rows = [_row(task, record, answer, results) for record, answer in given]
        files[f"{title}.json"] = {"data": {SPLIT: rows}}
        del missing[title]
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "submission.zip", files)
    _write(folder / "logs.zip", logs)
    return dict(sorted(missing.items()))


def _in_order(task: Task, answers: Sequence[Answer]) -> list[tuple[Record, Answer]]:
    given = {answer.id: answer for answer in answers}
    for record in task.test:
        if record.id not in given:
            raise EvalError(f"task `{task.name}`, item {record.id}: no answer to export; ask the task first")
    return [(record, given[record.id]) for record in task.test]


def _row(task: Task, record: Record, answer: Answer, results: Results) -> dict[str, Any]:
    meta = {key: record.meta[key] for key in _names(task.spec["title"])}
    if task.spec.get("answer") == "labels":
        return {"outputs": dict.fromkeys(LABELS, answer.text), "meta": meta}
    if task.spec.get("code"):
        return {"outputs": [[list(sample) for sample in results[task.name][record.id]]], "meta": meta}
    return {"outputs": answer.text, "meta": meta}


def _names(title: str) -> tuple[str, ...]:
    return _NAMED.get(title, ("id",))


def _log(given: Sequence[tuple[Record, Answer]]) -> list[dict[str, Any]]:
    return [
        {"id": record.id, "answer": answer.text, "logprobs": answer.logprobs, "written": answer.written}
        for record, answer in given
    ]


def _write(path: Path, files: Mapping[str, Any]) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, value in sorted(files.items()):
            text = json.dumps(value, ensure_ascii=False, indent=1)
            archive.writestr(zipfile.ZipInfo(name, _MOMENT), text, zipfile.ZIP_DEFLATED)
    temporary.replace(path)


@cache
def titles() -> dict[str, str]:
    """MERA's name of every task -> our name."""
    return {(declarations.declaration(n) or {})["metadata"]["title"]: n for n in declarations.mera()}


def validate(path: Path, expected: Mapping[str, Sequence[Record]] | None = None) -> list[Fault]:
    """Everything that is wrong with a submission; empty when the server could score all of it.

    `expected`: MERA's name -> the items that must be answered; ids of other tasks are not compared.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            files = {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}
    except (OSError, zipfile.BadZipFile, RuntimeError) as error:
        return [Fault("unreadable_zip", "", f"{path}: not readable as a zip archive ({error})")]
    faults = []
    for title in titles():
        faults += _file_faults(title, files, (expected or {}).get(title))
    return faults + [
        Fault("unknown_file", "", f"{name}: no task of MERA is called so; remove it")
        for name in sorted(files.keys() - {f"{title}.json" for title in titles()})
        if Path(name).stem not in titles() or f"{Path(name).stem}.json" in files
    ]


def _file_faults(title: str, files: Mapping[str, bytes], expected: Sequence[Record] | None) -> list[Fault]:
    text = files.get(f"{title}.json")
    if text is None:
        if other := sorted(name for name in files if Path(name).stem == title):
            return [Fault("extension", title, f"{other[0]}: must be called {title}.json")]
        return [Fault("no_task", title, f"{title}.json is not in the archive")]
    try:
        value = json.loads(text.decode("utf-8"))
    except ValueError as error:
        return [Fault("unreadable_file", title, f"{title}.json: not readable as JSON ({error})")]
    return content_faults(title, value, expected)


def content_faults(title: str, value: Any, expected: Sequence[Record] | None = None) -> list[Fault]:
    """What is wrong with the content of one task's file."""
    if not isinstance(value, dict) or not isinstance(value.get("data"), dict):
        return [Fault("no_data_field", title, f"{title}.json: has no object `data`")]
    rows = value["data"].get(SPLIT)
    if not isinstance(rows, list):
        named = ", ".join(value["data"]) or "none"
        return [Fault("no_split", title, f"{title}.json: `data` has no list `{SPLIT}` (it has {named})")]
    if not rows:
        return [Fault("empty_split", title, f"{title}.json: `data.{SPLIT}` holds no document")]
    faults: list[Fault] = []
    found: dict[str, int] = {}
    for number, row in enumerate(rows):
        faults += _row_faults(title, number, row, found)
    if expected is not None:
        ids = {_key(title, record.meta): record for record in expected}
        for key in ids.keys() - found.keys():
            faults.append(Fault("no_id", title, f"{title}.json: item {key} has no answer"))
        for key in found.keys() - ids.keys():
            where = f"{title}.json: document {found[key]}"
            faults.append(Fault("unknown_id", title, f"{where} answers item {key}, which the task lacks"))
    return sorted(faults, key=lambda fault: (fault.kind, fault.message))


def _row_faults(title: str, number: int, row: Any, found: dict[str, int]) -> list[Fault]:
    where = f"{title}.json: document {number}"
    row = row if isinstance(row, dict) else {}
    faults = []
    if "outputs" not in row:
        faults.append(Fault("no_outputs_field_for_doc", title, f"{where} has no field `outputs`"))
    elif kind := _output_fault(title, row["outputs"]):
        faults.append(Fault(*kind[:1], title, f"{where}: {kind[1]}"))
    if not isinstance(row.get("meta"), dict):
        return [*faults, Fault("no_meta_field_for_doc", title, f"{where} has no object `meta`")]
    key = _key(title, row["meta"])
    if key is None:
        lacking = next(name for name in _names(title) if row["meta"].get(name) is None)
        return [*faults, Fault("no_id_field_for_doc", title, f"{where}: `meta` has no `{lacking}`")]
    if key in found:
        faults.append(Fault("duplicate_id", title, f"{where} answers item {key} again (first {found[key]})"))
    found.setdefault(key, number)
    return faults


def _key(title: str, meta: Mapping[str, Any]) -> str | None:
    values = [meta.get(name) for name in _names(title)]
    return None if None in values else ":".join(map(str, values))


def _output_fault(title: str, outputs: Any) -> tuple[str, str] | None:
    """(kind, words) when the server could not read an answer."""
    config = declarations.declaration(titles()[title]) or {}
    spec = config["metadata"]
    shape = spec.get("answer", "text")
    expected = {"text": str, "labels": dict, "list": list}[shape]
    if not isinstance(outputs, expected):
        given = type(outputs).__name__
        return "doc_output_type_error", f"`outputs` is {given}, expected {expected.__name__}"
    wrong = None
    if shape == "labels" and not (
        outputs.keys() == set(LABELS) and all(_is_choice(spec, text) for text in outputs.values())
    ):
        wrong = f"`outputs` needs one digit for each of {', '.join(LABELS)}"
    elif shape == "list" and not (len(outputs) == 1 and _is_samples(outputs[0], config["repeats"])):
        wrong = f"`outputs` must hold ONE list, of {config['repeats']} lists of results, one per sample"
    elif shape == "text" and "twin" in spec and not _is_choice(spec, outputs):
        wrong = f"`outputs` is {outputs[:20]!r}, no answer that this task can have"
    return None if wrong is None else ("doc_parse_output_error", wrong)


def _is_choice(spec: Mapping[str, Any], text: Any) -> bool:
    """Whether a choice task, or the filter of its generative twin, could give this answer."""
    if not isinstance(text, str):
        return False
    if "gold_outside_choices" in spec and text.isdecimal():
        return True
    return text in (read_as.NO_MATCH, read_as.choice(spec["twin"], text))


def _is_samples(value: Any, count: int) -> bool:
    return (
        isinstance(value, list)
        and len(value) == count
        and all(isinstance(sample, list) for sample in value)
        and all(text is None or isinstance(text, str) for sample in value for text in sample)
    )
