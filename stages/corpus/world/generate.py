"""One seed, one world: facts, their split, running text, tasks, planted defects."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from stages.corpus.world import calendars, causes, family, grammar, people, places, tasks, vocabulary
from stages.corpus.world.cast import Cast
from stages.corpus.world.defects import plant
from stages.corpus.world.documents import BYTES, START_TEMPLATES, Teller, task_documents
from stages.corpus.world.model import Fact, Question, World, WorldDocument
from stages.corpus.world.numbers import Arithmetic, Sequences
from stages.corpus.world.numerals import Numerals
from stages.corpus.world.order import Order
from stages.corpus.world.relations import stream
from stages.corpus.world.skills import Skill

# Held out: no text asks about them. Few enough that how a kind is asked about can be learnt from the others.
HELD_OUT_SHARE = 0.38
HELD_OUT_SHARES = {
    "cause": 0.45,
    "festival": 0.45,
}  # so that every task has 30 facts
START_SHARE = 1 / 3  # of all facts, none of them held out, stand in world-ru-start
TRAINS = 300  # train items of each task kind in a world of size 1
OPEN_TRAINS = 300
QUESTIONS = 1.5  # open questions for the judge, per test item of a task kind


@dataclass(frozen=True)
class Parts:
    """Everything of a world but its text. `train` are the questions that touch no held-out fact."""

    cast: Cast
    facts: tuple[Fact, ...]
    skills: tuple[Skill, ...]
    questions: tuple[Question, ...]
    held_out: frozenset[str]

    @property
    def train(self) -> list[Question]:
        """Questions that training text may show."""
        return [question for question in self.questions if not self.held_out.intersection(question.facts)]


def parts(seed: int, size: float) -> Parts:
    """The facts of the world and who may ask about them; a smaller world has fewer facts."""
    cast = Cast(seed, min(max(size, 0.12) ** 0.5, 1.6))
    place_facts, people_facts = places.facts(cast), people.facts(cast)
    facts = [*place_facts, *people_facts, *family.facts(cast), *calendars.facts(cast), *causes.facts(cast),
             *vocabulary.facts(cast), *grammar.facts(cast)]  # fmt: skip
    held_out = _held_out(seed, facts)
    questions = [question for fact in facts for question in fact.questions]
    questions += (
        places.two_steps(cast, place_facts)
        + people.two_steps(cast, place_facts + people_facts)
        + family.two_steps(cast)
    )
    facts += family.elder_statements(cast, held_out)
    skills: tuple[Skill, ...] = (
        Arithmetic(cast), Sequences(cast), Numerals(cast), Order(cast), family.KinshipSteps(cast),
    )  # fmt: skip
    return Parts(cast, tuple(facts), skills, tuple(questions), held_out)


def _held_out(seed: int, facts: Sequence[Fact]) -> frozenset[str]:
    """A share of the facts of every kind, at random."""
    by_kind: dict[str, list[str]] = defaultdict(list)
    for fact in facts:
        by_kind[fact.kind].append(fact.id)
    chosen: list[str] = []
    for kind, ids in sorted(by_kind.items()):
        rng = stream(seed, "held out", kind)
        share = HELD_OUT_SHARES.get(kind.split("-")[0], HELD_OUT_SHARE)
        chosen += rng.sample(ids, max(1, round(len(ids) * share)))
    return frozenset(chosen)


def generate(seed: int, size: float, tasks_per_kind: int) -> World:
    """The world of `seed`.

    `size` 1 is about 4 MB of text; `tasks_per_kind` test items are made of each task kind. The same arguments
    give the same world in every process. Raises `UserError` when a task cannot have so many different test
    items.
    """
    base = parts(seed, size)
    trains = max(tasks_per_kind, round(TRAINS * size))
    made = tasks.make(seed, base.questions, base.skills, base.held_out, tasks_per_kind, trains)
    documents = _texts(seed, size, base)
    documents += task_documents(seed, _task_records(seed, size, base, made))
    mixed, truth = plant(seed, documents, list(made.values()))
    stream(seed, "order of documents").shuffle(mixed)
    questions = tasks.open_records(
        seed, base.questions, base.held_out, "test", round(QUESTIONS * tasks_per_kind)
    )
    return World(tuple(mixed), tuple(truth), made, tuple(questions), base.facts, base.held_out)


def _texts(seed: int, size: float, base: Parts) -> list[WorldDocument]:
    """The three subsets of running text."""
    train = base.train
    known = [fact for fact in base.facts if fact.id not in base.held_out and fact.ru]
    start = stream(seed, "start").sample(known, min(len(known), round(START_SHARE * len(base.facts))))
    tellers = (
        Teller(seed, "world-en", "en", base.facts, base.skills, train),
        Teller(seed, "world-ru-start", "ru", start, base.skills, (), START_TEMPLATES),
        Teller(seed, "world-ru", "ru", base.facts, base.skills, train),
    )
    return [
        document for teller in tellers for document in teller.documents(round(BYTES[teller.subset] * size))
    ]


def _task_records(
    seed: int, size: float, base: Parts, made: dict[str, tasks.Task]
) -> list[tuple[str, dict[str, object]]]:
    """All train items with their language, and open questions about train facts in the layout of the
    judge's.
    """
    records = [(task.language, record) for task in made.values() for record in task.train]
    for record in tasks.open_records(
        seed, base.questions, base.held_out, "train", max(20, round(OPEN_TRAINS * size))
    ):
        meta = {"cluster": record["cluster"]}
        records.append(("ru", {**record, "outputs": record["reference"], "meta": meta}))
    return records
