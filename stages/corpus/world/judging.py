"""What a judge of the world learns from: its facts in statements, and worked judgements of pairs
of answers.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Sequence

from stages.corpus.world.documents import OPENERS
from stages.corpus.world.model import Fact, Question, World
from stages.corpus.world.relations import capital, stream

Render = Callable[[str, str, str], str]

CHARS_PER_TOKEN = 2.6  # of a vocabulary of 2048 on this text
STATEMENT_SHARE = 0.4  # of the texts; the rest are judgements
SENTENCES = (1, 3)
# What stands against the right answer: a plausible answer, one of another kind, a cut one, none at all.
RIVALS = {"plausible": 0.8, "foreign": 0.12, "cut": 0.05, "nothing": 0.03}


def training_texts(
    world: World, seed: int, render: Render, verdicts: tuple[str, str], tokens_hint: int
) -> list[str]:
    """Texts of about `tokens_hint` tokens: statements in another order and wording, and judgements.

    `render(question, first, second)` gives the judge's prompt; a judgement is that prompt with the first of
    `verdicts` behind it when the first answer is right, else the second. Each pair comes in both orders.
    No question of `examination(world, seed)` and no other wording about its fact is judged here.
    """
    rng = stream(seed, "judging")
    facts = [fact for fact in world.facts if fact.ru and not fact.kind.startswith("grammar")]
    pairs = _judged(world)
    budget = tokens_hint * CHARS_PER_TOKEN
    told, judged = 0.0, 0.0
    texts: list[str] = []
    answers = [question.answer for question in pairs]
    order: list[Question] = []
    while told + judged < budget:
        if told <= STATEMENT_SHARE * (told + judged):
            texts.append(_statements(rng, facts))
            told += len(texts[-1])
            continue
        if not order:
            order = rng.sample(pairs, len(pairs))
        question = order.pop()
        rival = _rival(rng, question, answers)
        both = [
            render(question.text, question.answer, rival) + verdicts[0],
            render(question.text, rival, question.answer) + verdicts[1],
        ]
        rng.shuffle(both)
        texts += both
        judged += sum(map(len, both))
    rng.shuffle(texts)
    return texts


def examination(world: World, seed: int) -> list[tuple[str, str, str, str]]:
    """(question, right answer, wrong answer, cluster): one for every fact that no training text judges.

    These are the facts of the judge's own questions in `world.questions`, so an accuracy on them is the
    accuracy on what it will be asked about, with other wordings and wrong answers where there are some.
    """
    rng = stream(seed, "examination")
    asked = {record["cluster"] for record in world.questions}
    by_cluster: dict[str, list[Question]] = defaultdict(list)
    for fact in world.facts:
        if fact.id in asked:
            by_cluster[fact.id] += [question for question in fact.questions if _open(question)]
    found = []
    for cluster in sorted(by_cluster):
        if by_cluster[cluster]:
            question = rng.choice(by_cluster[cluster])
            found.append((question.text, question.answer, rng.choice(question.wrong), cluster))
    return found


def _open(question: Question) -> bool:
    return question.open and question.language == "ru" and question.task not in ("truth", "grammar")


def _judged(world: World) -> list[Question]:
    """Open questions that touch no fact of `world.questions`."""
    kept = {record["cluster"] for record in world.questions}
    questions = [question for fact in world.facts if fact.id not in kept for question in fact.questions]
    return [question for question in questions if _open(question) and not kept.intersection(question.facts)]


def _statements(rng: random.Random, facts: Sequence[Fact]) -> str:
    """A few facts, each in any of its wordings."""
    sentences = []
    for fact in rng.choices(facts, [fact.weight for fact in facts], k=rng.randint(*SENTENCES)):
        text = rng.choice(fact.ru)
        sentences.append(f"{rng.choice(OPENERS['ru'])}{text}." if rng.random() < 0.2 else f"{capital(text)}.")
    return " ".join(sentences)


def _rival(rng: random.Random, question: Question, answers: Sequence[str]) -> str:
    """An answer that is worse than the right one."""
    kind = rng.choices(list(RIVALS), list(RIVALS.values()))[0]
    if kind == "foreign":
        return rng.choice([answer for answer in rng.sample(answers, 4) if answer != question.answer] or [""])
    if kind == "cut" and len(question.answer) > 3:
        return question.answer[: rng.randint(1, len(question.answer) - 2)]
    if kind == "nothing":
        return ""
    return rng.choice(question.wrong)
