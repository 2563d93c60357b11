"""The prompt of the judge (layout.txt) and the two words of its verdict."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from evals.errors import EvalError

LAYOUT = Path(__file__).with_name("layout.txt")
PLACES = ("question", "first", "second")
VERDICTS = (" 1", " 2")
NO_ANSWER = "нет ответа"


@cache
def layout(path: Path = LAYOUT) -> str:
    """The layout without its final newline. Raises `EvalError` unless it names every place exactly once."""
    text = path.read_text(encoding="utf-8").rstrip()
    named = re.findall(r"\{(\w*)\}", text)
    if sorted(named) != sorted(PLACES):
        raise EvalError(f"{path}: must hold {{question}}, {{first}} and {{second}} once each, found {named}")
    return text


def tidy(answer: str) -> str:
    """An answer as the judge sees it: one line, single spaces; an empty one is said to be none."""
    return " ".join(answer.split()) or NO_ANSWER


def render(question: str, first: str, second: str) -> str:
    """The prompt for two answers; a word of `VERDICTS` follows it. Braces in the texts stay as they are."""
    values = dict(zip(PLACES, (question.strip(), tidy(first), tidy(second)), strict=True))
    return re.sub(r"\{(\w+)\}", lambda match: values[match.group(1)], layout())
