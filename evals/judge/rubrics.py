"""Rubrics: files that say what is judged, in which words, and how the verdict is written."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from evals.errors import EvalError
from evals.judge import layout, parsing
from evals.judge.verdicts import Pair, Single

FOLDER = Path(__file__).with_name("rubrics")
Form = Literal["pair", "grade"]
_KEYS = {"form", "language", "reference", "system", "prompt", "cue"}
_NO_ANSWER = {"ru": layout.NO_ANSWER, "en": "no answer"}
_JSON_LINE = {"ru": "Ответь объектом JSON: ", "en": "Reply with a JSON object: "}
_TAG = re.compile(r"</?[\w-]+>")


@dataclass(frozen=True)
class Rubric:
    """How a judge is asked.

    `labels`: the words of its verdict (first, second and, with ties, neither; or the grades). `scale`: what
    each grade means. `cue` opens the verdict for a model without a chat template. `one_line`: answers are put
    on one line.
    """

    name: str
    form: Form
    language: str
    reference: bool
    system: str
    prompt: str
    cue: str
    labels: tuple[str, ...]
    scale: tuple[str, ...] = ()
    one_line: bool = False

    @property
    def digest(self) -> str:
        """SHA-256 of all that the judge is told; comments of the file do not count."""
        return hashlib.sha256(json.dumps(asdict(self), ensure_ascii=False).encode()).hexdigest()

    @property
    def ties(self) -> bool:
        """Whether the judge may say that two answers are equal."""
        return self.form == "pair" and len(self.labels) == 3

    def schema(self) -> dict[str, Any]:
        """JSON schema of the verdict, for servers that hold a model to one."""
        return {
            "type": "object",
            "properties": {self.form_key: {"type": "string", "enum": list(self.labels)}},
            "required": [self.form_key],
            "additionalProperties": False,
        }

    @property
    def form_key(self) -> str:
        """The key under which the verdict stands in JSON."""
        return "verdict" if self.form == "pair" else "grade"

    def json_line(self) -> str:
        """The sentence that asks for the verdict as JSON."""
        return f'{_JSON_LINE[self.language]}{{"{self.form_key}": "{"|".join(self.labels)}"}}'

    def read(self, text: str) -> str | None:
        """The label that a judge's words mean, None when they cannot be read for certain."""
        if text.strip() in self.labels:
            return text.strip()
        if self.form == "grade":
            grade = parsing.grade(text, map(int, self.labels))
            return None if grade is None else str(grade)
        side = parsing.pair(text)
        place = ("first", "second", "tie").index(side) if side else len(self.labels)
        return self.labels[place] if place < len(self.labels) else None

    def pair(self, item: Pair) -> tuple[str, str]:
        """The prompts with `ours` shown first and second. Raises `EvalError` where a reference is missing."""
        ours, theirs = self._answer(item.ours), self._answer(item.theirs)
        return (
            self._fill(item, {"first": ours, "second": theirs}),
            self._fill(item, {"first": theirs, "second": ours}),
        )

    def single(self, item: Single) -> str:
        """The prompt for one answer. Raises `EvalError` where a reference is missing."""
        return self._fill(item, {"answer": self._answer(item.answer)})

    def _answer(self, text: str) -> str:
        text = " ".join(text.split()) if self.one_line else text.strip()
        return text or _NO_ANSWER[self.language]

    def _fill(self, item: Pair | Single, answers: Mapping[str, str]) -> str:
        """The prompt with its places filled in one pass; braces in the texts stay as they are."""
        texts = {**answers, "question": item.question.strip()}
        if self.reference:
            if not item.reference:
                raise EvalError(f"item {item.id}: rubric `{self.name}` needs a reference answer; it has none")
            texts["reference"] = item.reference.strip()
        tags = set(_TAG.findall(self.prompt))
        values = {name: _without(tags, text) for name, text in texts.items()}
        values["scale"] = "\n".join(
            f"{grade}: {meaning}" for grade, meaning in zip(self.labels, self.scale, strict=False)
        )
        return re.sub(r"\{(\w+)\}", lambda match: values[match[1]], self.prompt)


def _without(tags: set[str], text: str) -> str:
    """`text` with the rubric's own tags made harmless, so that an answer cannot end itself and go on."""
    for tag in tags:
        text = re.sub(re.escape(tag), f"‹{tag[1:-1]}›", text, flags=re.IGNORECASE)
    return text


def names() -> list[str]:
    """The rubrics that come with the package, as `load` takes them."""
    return sorted(path.name.removesuffix(".yaml") for path in FOLDER.glob("*.yaml"))


def load(name: str | Path) -> Rubric:
    """The rubric `name` of this package (`pair.ru`) or the file at a path that ends with .yaml.

    Raises `EvalError` when there is no such rubric, or a key or a place is missing, unknown or wrong.
    """
    path = Path(name) if str(name).endswith(".yaml") else FOLDER / f"{name}.yaml"
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise EvalError(f"{path}: no such rubric; there are {', '.join(names())}") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise EvalError(f"{path}: not readable as YAML ({' '.join(str(error).split())})") from error
    if not isinstance(value, dict):
        raise EvalError(f"{path}: a rubric is a mapping with the keys {', '.join(sorted(_KEYS))}")
    try:
        rubric = _parse(path.name.removesuffix(".yaml"), value)
    except ValueError as error:
        raise EvalError(f"{path}: {error}") from error
    return rubric


def _parse(name: str, value: dict[str, Any]) -> Rubric:
    """Raises `ValueError` with what is wrong."""
    form = value.get("form")
    if form not in ("pair", "grade"):
        raise ValueError(f"`form` must be pair or grade, not {form!r}")
    expected = _KEYS | ({"labels"} if form == "pair" else {"scale"})
    if set(value) != expected:
        raise ValueError(f"keys {sorted(set(value) ^ expected)} are missing or unknown")
    if value["language"] not in _NO_ANSWER:
        raise ValueError(f"`language` must be ru or en, not {value['language']!r}")
    for key in ("system", "prompt", "cue"):
        if not isinstance(value[key], str):
            raise ValueError(f"`{key}` must be text")
    if not isinstance(value["reference"], bool):
        raise ValueError("`reference` must be true or false")
    labels, scale = _labels(value["labels"]) if form == "pair" else _scale(value["scale"])
    places = {"question", *(("first", "second") if form == "pair" else ("answer", "scale"))}
    places |= {"reference"} if value["reference"] else set()
    found = re.findall(r"\{(\w+)\}", value["prompt"])
    if sorted(found) != sorted(places):
        raise ValueError(f"`prompt` must hold {sorted(places)} once each in braces, found {found}")
    texts = {key: value[key] for key in ("form", "language", "reference", "system", "prompt", "cue")}
    return Rubric(name, labels=labels, scale=scale, **texts)


def _labels(value: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The words of a verdict on a pair; `tie` may be absent."""
    sides = ("first", "second", "tie")
    if not isinstance(value, dict) or set(value) not in (set(sides), set(sides[:2])):
        raise ValueError("`labels` must give first, second and, if ties are allowed, tie")
    words = tuple(value[side] for side in sides[: len(value)])
    for side, word in zip(sides, words, strict=False):
        if not isinstance(word, str) or parsing.pair(word) != side:
            raise ValueError(f"label {word!r} cannot be read as the verdict `{side}`; take 1, 2 and 0")
    return words, ()


def _scale(value: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Grades of one digit, so that each is one token, and what they mean."""
    if not isinstance(value, dict) or not all(type(grade) is int and 0 <= grade <= 9 for grade in value):
        raise ValueError("`scale` must map grades of one digit to what they mean")
    grades = sorted(value)
    if len(grades) < 2 or grades != list(range(grades[0], grades[-1] + 1)):
        raise ValueError(f"`scale` must hold two or more grades without a gap, found {grades}")
    return tuple(map(str, grades)), tuple(str(value[grade]) for grade in grades)


def embedded() -> Rubric:
    """The layout of the embedded world's judge (layout.txt): two verdicts, no tie, no instruction."""
    words = tuple(verdict.strip() for verdict in layout.VERDICTS)
    return Rubric("embedded", "pair", "ru", False, "", layout.layout(), "", words, one_line=True)
