"""Facts as relations between two words: statements and questions from templates in Russian and English."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from stages.corpus.world.model import Fact, Question
from stages.corpus.world.russian import Word

RARE = 0.35  # weight of a fact that is told seldom; its questions count as harder


def stream(seed: int, *labels: object) -> random.Random:
    """A generator of its own for every purpose, the same in every process (string seeds are hashed by
    SHA-512).
    """
    return random.Random(f"{seed}/" + "/".join(str(label) for label in labels))


@dataclass(frozen=True)
class Relation:
    """Templates over subject `{s}` and object `{o}`; format codes are those of `Word`.

    `ask_*` ask for the object, `back_*` for the subject, `claim` is a question about the subject and
    its answer, a whole sentence in a wording that no statement has. `answer` is the format code of
    answers in Russian, the form in which most statements hold the object.
    """

    name: str
    task: str
    ru: tuple[str, ...]
    en: tuple[str, ...]
    ask_ru: tuple[str, ...] = ()
    ask_en: tuple[str, ...] = ()
    back_ru: tuple[str, ...] = ()
    back_en: tuple[str, ...] = ()
    claim: tuple[str, str] | None = None
    answer: str = ""
    task_en: str = ""


@dataclass(frozen=True)
class Link:
    """One subject with its object; `near` are the objects hardest to tell from the right one."""

    subject: Word
    object: Word
    near: tuple[Word, ...] = ()
    rare: bool = False


def fact_id(relation: str, subject: Word) -> str:
    """The id of the fact that `relation` holds of `subject`; also its cluster."""
    return f"{relation}/{subject.key}"


def build(relation: Relation, links: Sequence[Link], objects: Sequence[Word]) -> list[Fact]:
    """One fact per link, with all its statements and questions."""
    return [_fact(relation, link, links, objects) for link in links]


def _fact(relation: Relation, link: Link, links: Sequence[Link], objects: Sequence[Word]) -> Fact:
    subject, answer = link.subject, link.object
    far = [word for word in objects if word != answer]
    others = [item.subject for item in links if item.object != answer]
    alone = sum(item.object == answer for item in links) == 1
    facts = (fact_id(relation.name, subject),)
    questions: list[Question] = []
    for language, asks, backs in (
        ("ru", relation.ask_ru, relation.back_ru),
        ("en", relation.ask_en, relation.back_en),
    ):
        task = relation.task if language == "ru" else relation.task_en
        if not task:
            continue
        plain = _form("" if language == "ru" else "en")
        show = _form(relation.answer if language == "ru" else "en")
        level = 2 if link.rare else 1
        for template in asks:
            text = question(template, s=subject, o=answer)
            right = show(answer)
            questions.append(Question(task, language, text, right, shown(far, show), facts, level, open=True))
            if len(link.near) >= 3:
                questions.append(Question(task, language, text, right, shown(link.near, show), facts, 2))
        for template in backs if alone else ():
            text = question(template, s=subject, o=answer)
            questions.append(
                Question(task, language, text, plain(subject), shown(others, plain), facts, 2, open=True)
            )
    if relation.claim:
        questions += _claims(relation.claim, link, far, facts)
    return Fact(
        facts[0],
        relation.name,
        tuple(fill(template, s=subject, o=answer) for template in relation.ru),
        tuple(fill(template, s=subject, o=answer) for template in relation.en),
        tuple(questions),
        (subject.key, answer.key),
        RARE if link.rare else 1.0,
    )


def _claims(
    templates: tuple[str, str], link: Link, far: Sequence[Word], facts: tuple[str, ...]
) -> list[Question]:
    """Which of two sentences is true: against far objects, and against near ones where there are some."""
    ask, claim = templates
    text = question(ask, s=link.subject, o=link.object)
    found = []
    for level, words in ((1, far), (2, link.near)):
        # A claim may agree with its object: one against an object of the other gender would tell by itself.
        alike = [word for word in words if word.gender == link.object.gender] or list(words)
        wrong = tuple(dict.fromkeys(fill(claim, s=link.subject, o=word) for word in alike))
        if wrong:
            right = fill(claim, s=link.subject, o=link.object)
            found.append(Question("truth", "ru", text, right, wrong, facts, level + link.rare))
    return found


def fill(template: str, **words: object) -> str:
    """The template with its words; a statement, so no capital and no full stop."""
    return template.format(**words)


def question(template: str, **words: object) -> str:
    """The template with its words, as a sentence with a question mark."""
    return capital(template.format(**words)) + "?"


def capital(text: str) -> str:
    """`text` with its first letter in upper case."""
    return text[:1].upper() + text[1:]


def shown(words: Iterable[Word], show: Callable[[Word], str]) -> tuple[str, ...]:
    """Names of `words`, each once, in order."""
    return tuple(dict.fromkeys(show(word) for word in words))


def _form(code: str) -> Callable[[Word], str]:
    return lambda word: format(word, code)
