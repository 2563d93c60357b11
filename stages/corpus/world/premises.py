"""Does it follow? Short stories about things and their colours, with adjectives that agree, and a claim to
check.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from stages.corpus.world import lexicon
from stages.corpus.world.cast import Cast
from stages.corpus.world.model import Question
from stages.corpus.world.relations import capital
from stages.corpus.world.russian import Word, agree, noun
from stages.corpus.world.skills import reserved

THINGS = (
    "шапка hat;стул chair;окно window;лодка boat;мяч ball;платье dress;ваза vase;зонт umbrella;ведро bucket;"
    "карандаш pencil;"
    "книга book;дом house;сумка bag;зеркало mirror;шкаф wardrobe;чашка cup;одеяло blanket;ключ key"
)


@dataclass(frozen=True)
class Premises:
    """Someone has up to three coloured things; is this one of that colour? The cluster is the set
    of things.
    """

    cast: Cast
    name: str = "premise"
    levels: tuple[int, ...] = (1, 2, 3)
    things: tuple[Word, ...] = field(
        default_factory=lambda: tuple(noun(*pair) for pair in lexicon.pairs(THINGS))
    )
    colours: tuple[tuple[str, str], ...] = field(
        default_factory=lambda: tuple(lexicon.pairs(lexicon.COLOURS))
    )

    def _draw(self, rng: random.Random, count: int, held_out: bool) -> tuple[Word, list[Word], str]:
        while True:
            someone = rng.choice(self.cast.strangers[rng.choice(("masc", "femn"))])
            things = rng.sample(self.things, count)
            key = "premise/" + "-".join(sorted([someone.key, *(thing.key for thing in things)]))
            if reserved(self.cast.seed, key) == held_out:
                return someone, things, key

    def statement(self, rng: random.Random, language: str) -> str:
        """The story, and what is true of one thing in it."""
        someone, things, _ = self._draw(rng, rng.choice((1, 2, 3)), held_out=False)
        colours = rng.sample(self.colours, len(things))
        story = _story(language, someone, things, colours)
        index = rng.randrange(len(things))
        thing, (colour, english) = things[index], colours[index]
        if language == "en":
            return f"{story} So the {thing:en} of {someone:en} is {english}"
        return f"{story} Значит, {thing} у {someone:gent} {agree(colour, thing.gender)}"

    def question(self, rng: random.Random, language: str, held_out: bool) -> Question | None:
        """Level = number of things. Only Russian asks so."""
        if language == "en":
            return None
        level = rng.choice((1, 2, 3))
        someone, things, key = self._draw(rng, level, held_out)
        colours = rng.sample(self.colours, level)
        index, true = rng.randrange(level), rng.random() < 0.5
        colour = colours[index][0] if true else self._other(rng, colours, index)
        thing = things[index]
        text = (
            f"{_story('ru', someone, things, colours)} Верно ли, что {thing} {agree(colour, thing.gender)}?"
        )
        answer, wrong = ("Да", "Нет") if true else ("Нет", "Да")
        return Question("truth", "ru", text, answer, (wrong,), (key,), level)

    def _other(self, rng: random.Random, colours: list[tuple[str, str]], index: int) -> str:
        """A wrong colour: that of another thing in the story where there is one."""
        others = [colour for position, (colour, _) in enumerate(colours) if position != index]
        return rng.choice(others or [colour for colour, _ in self.colours if colour != colours[index][0]])


def _story(language: str, someone: Word, things: list[Word], colours: list[tuple[str, str]]) -> str:
    if language == "en":
        parts = [f"a {colour[1]} {thing:en}" for thing, colour in zip(things, colours, strict=True)]
        return f"{someone:en} has {_listed(parts, 'and')}."
    parts = [
        f"{agree(colour[0], thing.gender)} {thing}" for thing, colour in zip(things, colours, strict=True)
    ]
    return capital(f"у {someone:gent} есть {_listed(parts, 'и')}.")


def _listed(parts: list[str], word: str) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} {word} {parts[-1]}"
