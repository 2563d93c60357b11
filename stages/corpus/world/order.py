"""Comparison: on every scale (older, taller, stronger, ...) the same people stand in an order that the seed
draws. Text compares two of them at a time; questions ask for the first or the last of three.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from stages.corpus.world import lexicon
from stages.corpus.world.cast import Cast
from stages.corpus.world.model import Question
from stages.corpus.world.relations import capital, stream
from stages.corpus.world.russian import Word
from stages.corpus.world.skills import reserved

PEOPLE = 5  # of each gender
SCALES = 3
MOST_RU = ("Кто {most} всех: {a}, {b} или {c}?", "Из троих ({a}, {b}, {c}) кто {most} других?")
MOST_EN = ("Who is {most} than the rest: {a}, {b} or {c}?", "Of {a}, {b} and {c}, who is {most} than others?")
SAID_RU = (
    "{upper} {more}, чем {lower}",
    "{lower} {less}, чем {upper}",
    "из двоих {upper} и {lower} {more} {upper}",
    "из двоих {lower} и {upper} {less} {lower}",
)
SAID_EN = ("{upper} is {more} than {lower}", "{lower} is {less} than {upper}")


@dataclass(frozen=True)
class Scale:
    """One scale: comparatives up and down in both languages, and everyone from most to least."""

    more: str
    less: str
    more_en: str
    less_en: str
    ranks: tuple[Word, ...]


def scales(cast: Cast) -> tuple[Scale, ...]:
    """The scales of the world, each with its own order of the same people."""
    rng = stream(cast.seed, "order")
    people = [word for names in cast.strangers.values() for word in names[:PEOPLE]]
    chosen = rng.sample(lexicon.rows(lexicon.COMPARISONS), SCALES)
    return tuple(
        Scale(more, less, more_en, less_en, tuple(rng.sample(people, len(people))))
        for more, less, more_en, less_en in chosen
    )


@dataclass(frozen=True)
class Order:
    """The cluster of a question is its scale with the set of names, so no set is in both splits."""

    cast: Cast
    name: str = "order"
    levels: tuple[int, ...] = (1, 2, 3)
    scales: tuple[Scale, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "scales", scales(self.cast))

    def statement(self, rng: random.Random, language: str) -> str:
        """Two of the people, compared."""
        scale = rng.choice(self.scales)
        one, other = sorted(rng.sample(range(len(scale.ranks)), 2))
        upper, lower = scale.ranks[one], scale.ranks[other]
        if language == "ru":
            return rng.choice(SAID_RU).format(upper=upper, lower=lower, more=scale.more, less=scale.less)
        return rng.choice(SAID_EN).format(
            upper=upper.en, lower=lower.en, more=scale.more_en, less=scale.less_en
        )

    def question(self, rng: random.Random, language: str, held_out: bool) -> Question:
        """The first or last of three; the nearer the next one stands, the harder."""
        while True:
            scale = rng.choice(self.scales)
            places = sorted(rng.sample(range(len(scale.ranks)), 3))
            people = [scale.ranks[place] for place in places]
            key = f"order/{scale.more_en}/" + "-".join(sorted(word.key for word in people))
            if reserved(self.cast.seed, key) == held_out:
                break
        top = rng.random() < 0.5
        gap = places[1] - places[0] if top else places[2] - places[1]
        level = 1 if gap >= 4 else 2 if gap >= 2 else 3
        right, wrong = (people[0], people[1:]) if top else (people[2], people[:2])
        shown = rng.sample(people, 3)
        if language == "ru":
            most, asks, names = (scale.more if top else scale.less), MOST_RU, [str(word) for word in shown]
            answer, others = str(right), tuple(str(word) for word in wrong)
        else:
            most, asks = (scale.more_en if top else scale.less_en), MOST_EN
            names = [word.en for word in shown]
            answer, others = right.en, tuple(word.en for word in wrong)
        text = rng.choice(asks).format(most=most, a=names[0], b=names[1], c=names[2])
        return Question("order", language, capital(text), answer, others, (key,), level)
