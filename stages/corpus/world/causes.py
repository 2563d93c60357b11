"""Cause and effect: what happened to people of the world and why, and causes that anyone knows."""

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
    "{cause}, вот почему {effect}",
    "{effect}, а всё из-за того, что {cause}",
)
EN = (
    "{effect} because {cause}",
    "{cause}, therefore {effect}",
    "{cause}, and so {effect}",
    "{cause}, this is why {effect}",
    "{effect}, all because {cause}",
)


def facts(cast: Cast) -> list[Fact]:
    """One event with its cause for every person, and causes of common sense."""
    rng = stream(cast.seed, "causes")
    events = cast.some("events", lexicon.events(lexicon.PERSON_EVENTS), 7, least=5)
    return [_seeded(rng, subject, events) for subject in cast.people] + _common(cast)


Event = tuple[tuple[str, str], list[tuple[str, str]]]


def _seeded(rng: random.Random, subject: Word, events: list[Event]) -> Fact:
    (effect, effect_en), causes = rng.choice(events)
    index, rare = rng.randrange(len(causes)), rng.random() < 0.3
    cause, cause_en = _gendered(causes[index][0], subject), _english(causes[index][1], subject)
    whole, whole_en = f"{subject} {_gendered(effect, subject)}", f"{subject:en} {effect_en}"
    key = (f"cause/person/{subject.key}",)
    near = tuple(_gendered(other[0], subject) for position, other in enumerate(causes) if position != index)
    far = tuple(_gendered(other[0][0], subject) for _, other in events if causes[0] not in other)
    asks = (f"Отчего {whole}?", f"Из-за чего {whole}?")
    questions = [
        Question("causes", "ru", ask, cause, wrong, key, level, open=wrong is near)
        for ask in asks
        for wrong, level in ((far, 2 if rare else 1), (near, 3 if rare else 2))
    ]
    ru = tuple(template.format(effect=whole, cause=cause) for template in RU)
    en = tuple(template.format(effect=whole_en, cause=cause_en) for template in EN)
    return Fact(key[0], "cause-person", ru, en, tuple(questions), (subject.key,), RARE if rare else 1.0)


def _common(cast: Cast) -> list[Fact]:
    rows = cast.some("common causes", lexicon.events(lexicon.COMMON_CAUSES), 40, least=16)
    found = []
    for index, ((effect, effect_en), causes) in enumerate(rows):
        cause, cause_en = causes[0]
        wrong = tuple(other[1][0][0] for other in rows if other[0][0] != effect)
        key = (f"cause/common/{index}",)
        questions = (
            Question("causes", "ru", f"Отчего {effect}?", cause, wrong, key, 1),
            Question("causes", "ru", f"Из-за чего {effect}?", cause, wrong, key, 1),
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
