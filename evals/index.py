"""`index.json` of a folder of tasks: what each task beside it is.

`{name: {language, type: choice | generate, choices, options, metric, test, train}}`; the last three tell
readers what follows from the rest.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from evals.errors import EvalError

METRICS = {"choice": "acc", "generate": "exact_match"}


class Entry(BaseModel):
    """One task. `choices` are the possible outputs of a choice task; `options` names, in the same order, the
    fields of `inputs` whose texts stand for them (see `evals.suites.Task`).
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    language: str = Field(min_length=1)
    type: Literal["choice", "generate"]
    choices: list[str] | None = None
    options: list[str] | None = None
    metric: str | None = None
    test: int | None = None
    train: int | None = None

    @model_validator(mode="after")
    def _whole(self) -> Entry:
        if (self.type == "choice") != (self.choices is not None):
            raise ValueError("a choice task needs `choices`, a generate task has none")
        if self.choices is not None and (len(self.choices) < 2 or not all(map(str.strip, self.choices))):
            raise ValueError("`choices` must hold two texts or more, none of them blank")
        for name, texts in (("choices", self.choices), ("options", self.options)):
            if texts is not None and len(set(texts)) < len(texts):
                raise ValueError(f"`{name}` holds one text twice")
        if self.options is not None and len(self.options) != len(self.choices or ()):
            raise ValueError("`options` must name one field of inputs for each of `choices`")
        if self.metric not in (None, METRICS[self.type]):
            raise ValueError(f"metric `{self.metric}` is not built for type {self.type}")
        return self


def read(folder: Path) -> dict[str, Entry]:
    """The entries of `index.json` in `folder`; none where there is no such file.

    Raises `EvalError` that names file, task and key of what is wrong, missing or unknown.
    """
    path = folder / "index.json"
    if not path.is_file():
        return {}
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise EvalError(f"{path}: not readable as JSON ({error})") from error
    if not isinstance(index, dict):
        raise EvalError(f"{path}: expected an object of tasks, found {type(index).__name__}")
    return {name: _entry(value, f"{path}: task `{name}`") for name, value in index.items()}


def _entry(value: Any, where: str) -> Entry:
    try:
        return Entry.model_validate(value)
    except ValidationError as error:
        raise EvalError(f"{where}: {_explain(error)}") from error


def _explain(error: ValidationError) -> str:
    """The first thing that is wrong, in words."""
    found = error.errors()[0]
    key = ".".join(map(str, found["loc"]))
    match found["type"]:
        case "missing":
            return f"key `{key}` is missing"
        case "extra_forbidden":
            return f"key `{key}` is unknown; an entry has {', '.join(Entry.model_fields)}"
        case "value_error":
            return str(found["ctx"]["error"])
        case "model_type":
            given = type(found["input"]).__name__
            return f"expected an object with the keys language and type, found {given}"
        case _:
            return f"key `{key}` is {json.dumps(found['input'], ensure_ascii=False)}; {found['msg']}"
