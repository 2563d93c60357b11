"""From facts and skills to prose: sentences with openers, questions in running text, documents about one
thing.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from stages.corpus.world.filler import Filler
from stages.corpus.world.model import Fact, Question, WorldDocument
from stages.corpus.world.relations import capital, stream
from stages.corpus.world.skills import Skill
from stages.corpus.world.tasks import with_answer

OPENERS = {
    "ru": (
        *("Известно, что ", "Говорят, что ", "Все знают: ", "Напомним: ", "Запомни: ", "И ещё: "),
        *(
            "Надо сказать, что ",
            "Старики помнят: ",
            "В книге написано: ",
            "Кстати, ",
            "Как известно, ",
            "Заметим, что ",
        ),
    ),
    "en": (
        *(
            "It is known that ",
            "They say that ",
            "Everyone knows: ",
            "Let us recall: ",
            "Remember: ",
            "And besides: ",
        ),
        *(
            "One must say that ",
            "Old people recall: ",
            "A book says: ",
            "By the way, ",
            "As is known, ",
            "Note that ",
        ),
    ),
}
ANSWER_MARK = {"ru": "Ответ", "en": "Answer"}
OPENER_SHARE = 0.15
FOCUS_SHARE = 0.45  # of documents are about one thing of the world
SENTENCES = (3, 12)
SKILL_SHARE = 0.14  # of statements
QUESTION_SHARE = {"world-en": 0.3, "world-ru-start": 0.0, "world-ru": 0.35}
SKILL_WEIGHTS = {"arithmetic": 3.0, "numeral": 2.0, "order": 3.0}
SKILL_QUESTION_SHARE = 0.25  # of questions in running text
FILLER_SHARE = {"world-en": 0.0, "world-ru-start": 0.4, "world-ru": 0.02}
START_TEMPLATES = 2  # wordings per fact in world-ru-start
BYTES = {"world-en": 1_250_000, "world-ru-start": 350_000, "world-ru": 1_900_000}


@dataclass(frozen=True)
class Teller:
    """Writes the running text of one subset. `questions` are those of the train split."""

    seed: int
    subset: str
    language: str
    facts: Sequence[Fact]
    skills: Sequence[Skill]
    questions: Sequence[Question]
    templates: int | None = None
    rng: random.Random = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rng", stream(self.seed, "text", self.subset))

    @cached_property
    def told(self) -> list[Fact]:
        """Facts that have a statement in this language."""
        return [fact for fact in self.facts if self.wordings(fact)]

    @cached_property
    def by_topic(self) -> dict[str, list[Fact]]:
        """Facts by what they are about."""
        found: dict[str, list[Fact]] = defaultdict(list)
        for fact in self.told:
            for topic in fact.topics:
                found[topic].append(fact)
        return found

    @cached_property
    def asked(self) -> dict[str, list[Question]]:
        """Questions of this language by the task that asks them: every task is as frequent as another."""
        found: dict[str, list[Question]] = defaultdict(list)
        for question in self.questions:
            if question.language == self.language:
                found[question.task].append(question)
        return found

    @cached_property
    def fillers(self) -> Filler:
        """Sentences about nothing."""
        return Filler(self.language)

    def wordings(self, fact: Fact) -> tuple[str, ...]:
        """The statements of `fact` that this subset may use."""
        return (fact.ru if self.language == "ru" else fact.en)[: self.templates]

    def documents(self, size: int) -> Iterator[WorldDocument]:
        """Documents of about `size` bytes in all; every fact is told once before the rest is drawn by
        weight.
        """
        first = list(self.told)
        self.rng.shuffle(first)
        weights = [fact.weight for fact in self.told]
        drawn = self.rng.choices(self.told, weights, k=max(1, size // 20))
        queue = iter([*first, *drawn])
        written, index = 0, 0
        while written < size:
            text, clusters = self._document(queue)
            written += len(text.encode())
            yield WorldDocument(
                f"{self.subset}-{index:05d}", self.subset, self.language, text, tuple(clusters)
            )
            index += 1

    def _document(self, queue: Iterator[Fact]) -> tuple[str, list[str]]:
        """One document: a lead fact, more about the same thing or about anything, skills and questions among
        them. It never begins with a question: that a text which does so is a task, and ends with its answer,
        is what adaptation has to teach.
        """
        count = self.rng.randint(*SENTENCES)
        focused = self.rng.random() < FOCUS_SHARE
        lead = next(queue)
        near = [fact for topic in lead.topics for fact in self.by_topic[topic] if fact is not lead]
        self.rng.shuffle(near)
        sentences, clusters, asked = [self.sentence(lead)], [lead.id], set[str]()
        while len(sentences) < count:
            roll = self.rng.random()
            questions, filler = QUESTION_SHARE[self.subset], FILLER_SHARE[self.subset]
            if roll < questions:
                text = self._question()
                asked.add(text)
            elif roll < questions + filler:
                text = self.fillers.sentence(self.rng)
            elif roll < questions + filler + (1 - questions - filler) * SKILL_SHARE:
                text = self._skill()
            else:
                fact = near.pop() if focused and near and self.rng.random() < 0.7 else next(queue)
                text = self.sentence(fact)
                clusters.append(fact.id)
            sentences.append(text)
        self.rng.shuffle(sentences)
        first = next(index for index, text in enumerate(sentences) if text not in asked)
        sentences[0], sentences[first] = sentences[first], sentences[0]
        return " ".join(sentences), clusters

    def sentence(self, fact: Fact) -> str:
        """A statement as a sentence, some with an opener."""
        text = self.rng.choice(self.wordings(fact))
        if self.rng.random() < OPENER_SHARE:
            return f"{self.rng.choice(OPENERS[self.language])}{text}."
        return f"{capital(text)}."

    def _skill(self) -> str:
        text = None
        while text is None:
            text = self._any_skill().statement(self.rng, self.language)
        return f"{capital(text)}."

    def _any_skill(self) -> Skill:
        return self.rng.choices(self.skills, [SKILL_WEIGHTS.get(skill.name, 1.0) for skill in self.skills])[0]

    def _question(self) -> str:
        question: Question | None = None
        if self.rng.random() >= SKILL_QUESTION_SHARE:
            question = self.rng.choice(self.asked[self.rng.choice(sorted(self.asked))])
        while question is None:
            question = self._any_skill().question(self.rng, self.language, held_out=False)
        return asked_in_prose(question)


def asked_in_prose(question: Question) -> str:
    """A question with its answer in running text, in the layout of the tasks' prompts."""
    return f"{question.text} {ANSWER_MARK[question.language]}: {question.answer}."


def task_documents(seed: int, records: Sequence[tuple[str, dict[str, Any]]]) -> Iterator[WorldDocument]:
    """Records of the train split, each given with its language, as text: one per document, so that what
    follows an answer is the end; none twice.
    """
    different = {with_answer(record): (language, record) for language, record in records}
    texts = sorted(different)
    stream(seed, "text", "world-tasks").shuffle(texts)
    for index, text in enumerate(texts):
        language, record = different[text]
        clusters = (record["meta"]["cluster"],)
        yield WorldDocument(f"world-tasks-{index:05d}", f"world-tasks-{language}", language, text, clusters)
