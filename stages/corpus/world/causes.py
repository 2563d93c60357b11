"""Cause and effect: what happened to people and cities of the world and why, and causes that anyone knows."""

from __future__ import annotations

import random
import re

from stages.corpus.world import lexicon
from stages.corpus.world.cast import Cast
from stages.corpus.world.model import Fact, Question
from stages.corpus.world.relations import RARE, capital, stream
from stages.corpus.world.russian import Word

RU = (
    "{effect}, потому что {cause}",
    "{cause}, поэтому {effect}",
    "{cause}, и оттого {effect}",
    "вот почему {effect}: {cause}",
    "{effect}, а всё из-за того, что {cause}",
)
EN = (
    "{effect} because {cause}",
    "{cause}, therefore {effect}",
    "{cause}, and so {effect}",
    "this is why {effect}: {cause}",
    "{effect}, all because {cause}",
)


def facts(cast: Cast) -> list[Fact]:
    """One event with its cause for every person and city, and the causes of common sense."""
    rng = stream(cast.seed, "causes")
    found = []
    for label, subjects, events in (
        ("person", cast.people, lexicon.events(lexicon.PERSON_EVENTS)),
        ("city", cast.all_cities, lexicon.events(lexicon.CITY_EVENTS)),
    ):
        for subject in subjects:
            found.append(_seeded(rng, label, subject, events))
    return found + _common()


Event = tuple[tuple[str, str], list[tuple[str, str]]]


def _seeded(rng: random.Random, label: str, subject: Word, events: list[Event]) -> Fact:
    (effect, effect_en), causes = rng.choice(events)
    index, rare = rng.randrange(len(causes)), rng.random() < 0.4
    cause, cause_en = _gendered(causes[index][0], subject), _english(causes[index][1], subject)
    effect = _gendered(effect, subject)
    if label == "person":
        whole, whole_en, where = f"{subject} {effect}", f"{subject:en} {effect_en}", f"{subject} {effect}"
    else:
        whole, whole_en, where = (
            f"{subject:v} {effect}",
            f"in {subject:en} {effect_en}",
            f"{effect} в городе {subject}",
        )
    key = (f"cause/{label}/{subject.key}",)
    near = tuple(_gendered(other[0], subject) for position, other in enumerate(causes) if position != index)
    far = tuple(_gendered(other[0][0], subject) for _, other in events if causes[0] not in other)
    level = 3 if rare else 2
    ask = f"По какой причине {where}?"
    questions = (
        Question("causes", "ru", ask, cause, far, key, 1 if not rare else 2, open=False),
        Question("causes", "ru", ask, cause, near, key, level, open=True),
    )
    ru = tuple(template.format(effect=whole, cause=cause) for template in RU)
    en = tuple(template.format(effect=whole_en, cause=cause_en) for template in EN)
    return Fact(key[0], f"cause-{label}", ru, en, questions, (subject.key,), RARE if rare else 1.0)


def _common() -> list[Fact]:
    rows = lexicon.events(lexicon.COMMON_CAUSES)
    found = []
    for index, ((effect, effect_en), causes) in enumerate(rows):
        cause, cause_en = causes[0]
        wrong = tuple(other[1][0][0] for other in rows if other[0][0] != effect)
        key = (f"cause/common/{index}",)
        questions = (
            Question("causes", "ru", f"По какой причине {effect}?", cause, wrong, key, 1),
            Question(
                "causes",
                "ru",
                f"{capital(cause)}. Что из этого вышло?",
                effect,
                _effects(rows, effect),
                key,
                2,
            ),
        )
        ru = tuple(template.format(effect=effect, cause=cause) for template in RU)
        en = tuple(template.format(effect=effect_en, cause=cause_en) for template in EN)
        found.append(Fact(key[0], "cause-common", ru, en, questions, (f"common-{index}",), 0.6))
    return found


def _effects(rows: list[Event], effect: str) -> tuple[str, ...]:
    return tuple(other[0][0] for other in rows if other[0][0] != effect)


def _english(text: str, subject: Word) -> str:
    return text.replace("~", "she" if subject.gender == "femn" else "he")


def _gendered(text: str, subject: Word) -> str:
    """`опоздал|опоздала на работу` with the verb that agrees with the subject."""
    index = 1 if subject.gender == "femn" else 0
    return re.sub(r"(\w+)\|(\w+)", lambda match: match.group(1 + index), text)
