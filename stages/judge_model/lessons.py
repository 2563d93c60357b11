"""What the judge learns from: texts of the world in its layout, and questions kept aside to examine it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from evals.judge.layout import VERDICTS, render
from evals.judge.verdicts import Pair
from stages.common.errors import UserError
from stages.common.hashing import sha256_bytes

HELD_OUT = 0.06  # of the judged questions


@dataclass(frozen=True)
class Lesson:
    """One text to learn from; `verdict` is its last word where it is a judged pair, else empty."""

    text: str
    verdict: str = ""


@dataclass(frozen=True)
class Lessons:
    """`train` in the world's order, and one pair (right against wrong) for every question kept aside."""

    train: list[Lesson]
    exam: list[Pair]


class Recorder:
    """Renders prompts for the world and remembers what each was made of."""

    def __init__(self) -> None:
        self._made: dict[str, tuple[str, str, str]] = {}

    def render(self, question: str, first: str, second: str) -> str:
        """The prompt in the judge's layout."""
        prompt = render(question, first, second)
        self._made[prompt] = (question, first, second)
        return prompt

    def judged(self, text: str) -> tuple[str, Pair] | None:
        """The verdict and the pair (right, wrong) behind `text`, or None for any other text."""
        for place, verdict in enumerate(VERDICTS):
            made = self._made.get(text.removesuffix(verdict)) if text.endswith(verdict) else None
            if made is not None:
                question, *answers = made
                name = sha256_bytes(question.encode())
                return verdict, Pair(name, name, question, answers[place], answers[1 - place])
        return None


def split(texts: Iterable[str], recorder: Recorder) -> Lessons:
    """Keep aside the questions whose hash says so, with every text that judges them.

    Raises `UserError` when the world gave no judged pair, or too few questions to keep any aside.
    """
    train: list[Lesson] = []
    exam: dict[str, Pair] = {}
    for text in texts:
        found = recorder.judged(text)
        if found is None:
            train.append(Lesson(text))
        elif _aside(found[1].id):
            exam.setdefault(found[1].id, found[1])
        else:
            train.append(Lesson(text, found[0]))
    if not exam or not any(lesson.verdict for lesson in train):
        raise UserError("judge_model: the world holds too few questions to train a judge; raise its `size`")
    return Lessons(train, [exam[name] for name in sorted(exam)])


def _aside(name: str) -> bool:
    return int(name[:8], 16) < HELD_OUT * 2**32
