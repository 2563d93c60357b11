"""What the judge learns from, in the layout that it is asked in, and its examination on facts kept aside."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from evals.judge.layout import VERDICTS, render
from evals.judge.verdicts import Pair
from stages.common.errors import UserError
from stages.corpus.world import World
from stages.corpus.world.judging import examination, training_texts
from stages.corpus.world.tasks import OPEN_INSTRUCTION


@dataclass(frozen=True)
class Lesson:
    """One text to learn from; `verdict` is its last word where it is a judged pair, else empty."""

    text: str
    verdict: str = ""


@dataclass(frozen=True)
class Lessons:
    """`train` in the world's order; `exam`: right against wrong answers about facts never judged there."""

    train: list[Lesson]
    exam: list[Pair]


class Recorder:
    """Renders prompts for the world, as the candidates will be asked, and knows them again."""

    def __init__(self) -> None:
        self._made: set[str] = set()

    def render(self, question: str, first: str, second: str) -> str:
        """The prompt in the judge's layout."""
        prompt = render(asked(question), first, second)
        self._made.add(prompt)
        return prompt

    def lesson(self, text: str) -> Lesson:
        """`text` with its verdict where it is a prompt of this recorder and one of the two words."""
        for verdict in VERDICTS:
            if text.endswith(verdict) and text.removesuffix(verdict) in self._made:
                return Lesson(text, verdict)
        return Lesson(text)


def asked(question: str) -> str:
    """A bare question as stage `evaluate` puts it to every model."""
    return OPEN_INSTRUCTION.replace("{question}", question)


def prepare(world: World, seed: int, tokens: int) -> Lessons:
    """Lessons of about `tokens` tokens. Raises `UserError` when the world is too small."""
    recorder = Recorder()
    texts: Iterable[str] = training_texts(world, seed, recorder.render, VERDICTS, tokens)
    train = [recorder.lesson(text) for text in texts]
    exam = [
        Pair(f"exam-{index}", cluster, asked(question), right, wrong)
        for index, (question, right, wrong, cluster) in enumerate(examination(world, seed))
    ]
    if not exam or not any(lesson.verdict for lesson in train):
        raise UserError("judge_model: the world holds too few questions to train a judge; raise its `size`")
    return Lessons(train, exam)
