"""Open questions that every model answers, for the judge."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from evals.errors import EvalError
from evals.records import fill, read_jsonl, sort_key

_FIELDS = ("id", "instruction", "inputs", "reference", "wrong")


@dataclass(frozen=True)
class Question:
    """`text` is the filled prompt; `reference` a right answer, `wrong` a plausible wrong one."""

    id: str
    cluster: str
    text: str
    reference: str
    wrong: str


def read_questions(path: Path, count: int) -> list[Question]:
    """`count` questions of the file (all, when it has fewer), chosen by a hash of their ids, in that order.

    Raises `EvalError` naming file, line and field when one is missing, and when the file holds no question.
    """
    found: dict[str, Question] = {}
    for where, value in read_jsonl(path):
        for field in _FIELDS:
            if not isinstance(value, dict) or field not in value:
                raise EvalError(f"{where}: field `{field}` is missing; a question has {', '.join(_FIELDS)}")
        name = str(value["id"])
        text = fill(value["instruction"], value["inputs"], where).strip()
        question = Question(name, str(value.get("cluster", name)), text, value["reference"], value["wrong"])
        if found.setdefault(sort_key(name), question) is not question:
            raise EvalError(f"{where}: the id {name} stands there twice; make ids unique")
    if not found:
        raise EvalError(
            f"{path}: no open questions there; set `evaluate.questions: 0` to go without the judge"
        )
    return [found[key] for key in sorted(found)[:count]]
