"""Labels that people gave, from the CSV or from Label Studio, with the blinding undone by the key."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evals.errors import EvalError
from evals.judge import parsing

REQUIRED = ("item", "label", "rater")


@dataclass(frozen=True)
class Label:
    """One rater's label of one item. `value`: ours, theirs or tie for pairs, the grade for single answers."""

    id: str
    cluster: str
    rater: str
    value: str
    comment: str = ""


@dataclass(frozen=True)
class Labels:
    """Labels in the order of the key's items, then of the raters; `empty`: items that a rater left blank.

    `texts`: by the id of an item, its question, answers and reference as they were exported.
    """

    labels: tuple[Label, ...]
    empty: int
    texts: dict[str, dict[str, Any]] = field(default_factory=dict)

    def matrix(self) -> tuple[list[str], list[str], list[list[str | None]]]:
        """(ids, raters, value by item and rater), None where a rater has no label; agreement starts here."""
        ids = list(dict.fromkeys(label.id for label in self.labels))
        raters = sorted({label.rater for label in self.labels})
        values = {(label.id, label.rater): label.value for label in self.labels}
        return ids, raters, [[values.get((name, rater)) for rater in raters] for name in ids]


@dataclass(frozen=True)
class _Vote:
    where: str
    item: str
    rater: str
    label: str
    comment: str


def read(paths: Sequence[Path], key: Path) -> Labels:
    """The labels of all files: `.csv` sheets and `.json` exports of Label Studio.

    Raises `EvalError`, naming file and place, for a file that cannot be read, a missing column, an item that
    was not exported, a label that is none of the rubric's, a label without a rater, and two labels of one
    rater on one item.
    """
    told = _key(key)
    found: dict[tuple[str, str], Label] = {}
    empty = 0
    for path in paths:
        for vote in _sheet(path) if path.suffix.lower() == ".csv" else _label_studio(path):
            item = told["items"].get(vote.item)
            if item is None:
                raise EvalError(f"{vote.where}: item `{vote.item}` was not exported with {key.name}")
            if not vote.label:
                empty += 1
                continue
            if not vote.rater:
                raise EvalError(f"{vote.where}: the label has no rater; write a name or number into `rater`")
            if (vote.item, vote.rater) in found:
                raise EvalError(
                    f"{vote.where}: rater {vote.rater} labels item {vote.item} twice; leave one of the labels"
                )
            value = _value(vote, item, told)
            found[vote.item, vote.rater] = Label(item["id"], item["cluster"], vote.rater, value, vote.comment)
    order = {mark: place for place, mark in enumerate(told["items"])}
    marks = sorted(found, key=lambda mark: (order[mark[0]], mark[1]))
    texts = {item["id"]: item["texts"] for item in told["items"].values() if "texts" in item}
    return Labels(tuple(found[mark] for mark in marks), empty, texts)


def _key(path: Path) -> dict[str, Any]:
    value = _json(path)
    if not isinstance(value, dict) or not {"form", "labels", "items"} <= set(value):
        raise EvalError(f"{path}: not the key of an export; it lies beside the exported folder")
    return value


def _value(vote: _Vote, item: Mapping[str, Any], key: Mapping[str, Any]) -> str:
    """The label with its blinding undone. Raises `EvalError` when it is none of the rubric's."""
    if key["form"] == "grade":
        grade = parsing.grade(vote.label, map(int, key["labels"]))
        if grade is not None:
            return str(grade)
    else:
        side = parsing.pair(vote.label)
        if side == "tie" and len(key["labels"]) == 3:
            return "tie"
        if side in ("first", "second"):
            return "ours" if (side == "first") == (item["ours"] == 1) else "theirs"
    raise EvalError(
        f"{vote.where}: label `{vote.label[:40]}` is unknown; it must be one of {', '.join(key['labels'])}"
    )


def _sheet(path: Path) -> Iterator[_Vote]:
    """The rows of a CSV, with commas or, as Russian spreadsheets save it, with semicolons."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise EvalError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise EvalError(f"{path}: not UTF-8; save it as `CSV UTF-8`") from error
    header = text.partition("\n")[0]
    delimiter = ";" if header.count(";") > header.count(",") else ","
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    if missing := [name for name in REQUIRED if name not in (reader.fieldnames or ())]:
        raise EvalError(
            f"{path}: column {', '.join(missing)} is missing; keep the columns of the exported sheet"
        )
    try:
        for row in reader:
            where = f"{path}, line {reader.line_num}"
            cells = [str(row.get(name) or "").strip() for name in ("item", "rater", "label", "comment")]
            yield _Vote(where, *cells)
    except csv.Error as error:
        raise EvalError(f"{path}, line {reader.line_num}: not readable as CSV ({error})") from error


def _label_studio(path: Path) -> Iterator[_Vote]:
    """The annotations of an export in the form `JSON`; skipped ones count as empty."""
    tasks = _json(path)
    if not isinstance(tasks, list) or not all(
        isinstance(task, dict) and "annotations" in task for task in tasks
    ):
        raise EvalError(
            f"{path}: not an export of Label Studio in the form `JSON` (JSON-MIN has no annotations)"
        )
    for number, task in enumerate(tasks, 1):
        where = f"{path}, task {number}"
        try:
            item = str(task["data"]["item"])
            for annotation in task["annotations"]:
                by = annotation["completed_by"]
                rater = str(by["id"] if isinstance(by, dict) else by)
                label = comment = ""
                for result in () if annotation.get("was_cancelled") else annotation["result"]:
                    if result["from_name"] == "label":
                        label = str(result["value"]["choices"][0])
                    elif result["from_name"] == "comment":
                        comment = " ".join(result["value"]["text"])
                yield _Vote(where, item, rater, label, comment)
        except (KeyError, IndexError, TypeError) as error:
            raise EvalError(f"{where}: field {error} is missing or of another form") from error


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise EvalError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise EvalError(f"{path}: not readable as JSON ({error})") from error
