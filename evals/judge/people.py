"""Items for people to judge: a CSV for spreadsheets, tasks for Label Studio, guidelines, and a key kept back.

Raters see neither who answered nor in which order: items and the two answers of each are shuffled by a seed,
and ids are replaced by marks that only the key can undo.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import random
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from evals.errors import EvalError
from evals.judge.rubrics import Rubric
from evals.judge.verdicts import Pair, Single, check_ids

GUIDELINES = Path(__file__).with_name("guidelines")
SHEET, TASKS, CONFIG, GUIDE = "items.csv", "tasks.json", "labeling.xml", "guidelines.md"
ANSWERED = ("label", "comment", "rater")
_NAMES = {
    "ru": {
        "question": "Вопрос",
        "reference": "Эталон",
        "answer": "Ответ",
        "answer_1": "Ответ 1",
        "answer_2": "Ответ 2",
        "comment": "Примечание",
        "label": "Оценка",
        "0": "ничья",
    },
    "en": {
        "question": "Question",
        "reference": "Reference",
        "answer": "Answer",
        "answer_1": "Answer 1",
        "answer_2": "Answer 2",
        "comment": "Comment",
        "label": "Label",
        "0": "tie",
    },
}


def key_path(folder: Path) -> Path:
    """Where the key of an export lies: beside its folder, so that the folder can be given away whole."""
    return folder.with_name(f"{folder.name}.key.json")


def export(folder: Path, items: Sequence[Pair] | Sequence[Single], rubric: Rubric, seed: int) -> None:
    """Write sheet, tasks, labeling config and guidelines into `folder`, and the key beside it.

    The same items, rubric and seed give the same bytes. Raises `EvalError` when there is nothing to export,
    when the items are not of the rubric's form, or when the folder or its key is there already.
    """
    _check(folder, items, rubric)
    rows, key = [], {}
    for item in items:
        mark = hashlib.sha256(f"{seed}:{item.id}".encode()).hexdigest()[:12]
        shown, hidden = _blinded(item, random.Random(f"{seed}:{item.id}"))
        texts = {
            "question": item.question,
            **({"reference": item.reference or ""} if rubric.reference else {}),
        }
        rows.append({"item": mark, **texts, **shown})
        key[mark] = {"id": item.id, "cluster": item.cluster, **hidden, "texts": _kept(item)}
    # Two marks that met would give one item the labels of another.
    if len(key) < len(items):
        raise EvalError(f"seed {seed} gives two items one mark; choose another seed")
    random.Random(seed).shuffle(rows)
    told = {"form": rubric.form, "labels": rubric.labels, "rubric": rubric.digest, "seed": seed, "items": key}
    files = {
        SHEET: _sheet(rows),
        TASKS: _json([{"data": row} for row in rows]),
        CONFIG: labeling_config(rubric, list(rows[0])[1:]),
        GUIDE: guidelines(rubric),
    }
    _write(key_path(folder), _json(told))
    partial = folder.with_name(f".{folder.name}.partial")
    partial.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        _write(partial / name, text)
    partial.rename(folder)


def guidelines(rubric: Rubric) -> str:
    """What raters read first, in the language of the rubric, with its scale."""
    text = (GUIDELINES / f"{rubric.form}.{rubric.language}.md").read_text(encoding="utf-8")
    scale = "\n".join(
        f"- `{grade}`: {said}" for grade, said in zip(rubric.labels, rubric.scale, strict=False)
    )
    return text.replace("{scale}", scale)


def labeling_config(rubric: Rubric, fields: Sequence[str]) -> str:
    """Label Studio's labeling configuration (XML): the texts of `fields`, one choice, a comment."""
    names = _NAMES[rubric.language]
    view = ElementTree.Element("View")
    for field in fields:
        ElementTree.SubElement(view, "Header", value=names[field])
        ElementTree.SubElement(view, "Text", name=field, value=f"${field}")
    ElementTree.SubElement(view, "Header", value=names["label"])
    choices = ElementTree.SubElement(
        view, "Choices", name="label", toName="question", choice="single-radio", required="true"
    )
    meanings = rubric.scale or (names["answer_1"], names["answer_2"], names["0"])
    for label, meaning in zip(rubric.labels, meanings, strict=False):
        ElementTree.SubElement(choices, "Choice", value=label, html=f"{label}: {meaning}")
    ElementTree.SubElement(
        view, "TextArea", name="comment", toName="question", placeholder=names["comment"], maxSubmissions="1"
    )
    ElementTree.indent(view)
    return ElementTree.tostring(view, encoding="unicode") + "\n"


def _check(folder: Path, items: Sequence[Pair] | Sequence[Single], rubric: Rubric) -> None:
    form = Pair if rubric.form == "pair" else Single
    if not items:
        raise EvalError(f"{folder}: there is no item to export")
    if not all(isinstance(item, form) for item in items):
        raise EvalError(
            f"{folder}: rubric `{rubric.name}` is for the form `{rubric.form}`; name another rubric"
        )
    check_ids(items)
    if missing := [item.id for item in items if rubric.reference and not item.reference]:
        raise EvalError(f"item {missing[0]}: rubric `{rubric.name}` needs a reference answer; it has none")
    for path in (folder, key_path(folder)):
        if path.exists():
            raise EvalError(f"{path}: there already; labels may be on their way, so name another folder")


def _kept(item: Pair | Single) -> dict[str, str | None]:
    """The texts as they are, for the key: what comes back from raters may have been edited."""
    return {name: text for name, text in asdict(item).items() if name not in ("id", "cluster")}


def _blinded(item: Pair | Single, draw: random.Random) -> tuple[dict[str, str], dict[str, int]]:
    """What raters see of the answers, and what only the key says: the place of `ours`."""
    if isinstance(item, Single):
        return {"answer": item.answer}, {}
    place = draw.randint(1, 2)
    answers = (item.ours, item.theirs) if place == 1 else (item.theirs, item.ours)
    return {"answer_1": answers[0], "answer_2": answers[1]}, {"ours": place}


def _sheet(rows: Sequence[dict[str, str]]) -> str:
    """CSV with a byte order mark, by which spreadsheets know UTF-8."""
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, [*rows[0], *ANSWERED], restval="")
    writer.writeheader()
    writer.writerows({name: _inert(text) for name, text in row.items()} for row in rows)
    return "\ufeff" + file.getvalue()


def _inert(text: str) -> str:
    """`text` as a spreadsheet shows it: a formula would be run on the rater's machine."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1) + "\n"


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", encoding="utf-8", newline="") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
