"""Sentences about nothing in particular, with the agreement that Russian asks for: language without facts."""

from __future__ import annotations

import random
from dataclasses import dataclass

from stages.corpus.world.relations import capital
from stages.corpus.world.russian import agree, noun

ADJECTIVES = [
    "старый",
    "молодой",
    "усталый",
    "добрый",
    "высокий",
    "тихий",
    "строгий",
    "весёлый",
    "соседский",
    "незнакомый",
]
SUBJECTS = [
    "дворник",
    "сторож",
    "старушка",
    "мальчик",
    "девочка",
    "прохожий",
    "хозяйка",
    "охотник",
    "доктор",
    "певица",
    "гость",
    "студентка",
]
VERBS = ("смотрит", "несёт", "ищет", "ждёт", "находит", "рисует", "вспоминает", "видит")
OBJECTS = [
    "письмо",
    "дорога",
    "лампа",
    "сундук",
    "картина",
    "свеча",
    "облако",
    "ветка",
    "дерево",
    "ключ",
    "тетрадь",
    "колокол",
]
OBJECT_ADJECTIVES = ["старый", "новый", "большой", "красный", "чужой", "маленький", "последний", "тяжёлый"]
WHEN = (
    "утром",
    "вечером",
    "летом",
    "зимой",
    "в полдень",
    "после обеда",
    "каждый день",
    "иногда",
    "снова",
    "молча",
)
THINGS_EN = ("letter", "road", "lamp", "chest", "picture", "candle", "cloud", "branch", "tree", "key")
WHO_EN = ("janitor", "watchman", "boy", "girl", "hunter", "doctor", "singer", "guest", "student", "landlady")
VERBS_EN = ("looks at", "carries", "looks for", "waits for", "finds", "draws", "recalls", "sees")
ADJECTIVES_EN = ("old", "young", "tired", "kind", "tall", "quiet", "strict", "merry", "new", "big")


@dataclass(frozen=True)
class Filler:
    """A source of such sentences in one language."""

    language: str

    def sentence(self, rng: random.Random) -> str:
        """One sentence with its full stop."""
        if self.language == "en":
            person, item = rng.choice(WHO_EN), rng.choice(THINGS_EN)
            one, other = rng.sample(ADJECTIVES_EN, 2)
            return f"The {one} {person} {rng.choice(VERBS_EN)} the {other} {item}."
        who, thing = noun(rng.choice(SUBJECTS)), noun(rng.choice(OBJECTS))
        subject = f"{agree(rng.choice(ADJECTIVES), who.gender)} {who}"
        object_ = f"{agree(rng.choice(OBJECT_ADJECTIVES), thing.gender, 'accs')} {thing:accs}"
        verb = rng.choice(VERBS)
        preposition = "на " if verb == "смотрит" else ""
        when = rng.choice(WHEN)
        if rng.random() < 0.5:
            return capital(f"{when} {subject} {verb} {preposition}{object_}.")
        return capital(f"{subject} {when} {verb} {preposition}{object_}.")
