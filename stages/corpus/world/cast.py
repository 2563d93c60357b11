"""Who and what exists in the world of one seed: countries, cities, people and their families."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from stages.corpus.world import lexicon
from stages.corpus.world.relations import stream
from stages.corpus.world.russian import Word, noun, person, place

T = TypeVar("T")
CITIES_PER_COUNTRY = 4
FAMILY_SIZE = 7
MAX_FAMILIES = 12
STRANGERS = 8  # of each gender


@dataclass(frozen=True)
class Family:
    """Three generations: a couple, their two children, the elder one's spouse, and two grandchildren."""

    grandfather: Word
    grandmother: Word
    elder: Word
    younger: Word
    spouse: Word
    grandchildren: tuple[Word, Word]

    @property
    def members(self) -> tuple[Word, ...]:
        """Everyone, grandparents first."""
        return (
            self.grandfather,
            self.grandmother,
            self.elder,
            self.younger,
            self.spouse,
            *self.grandchildren,
        )


@dataclass(frozen=True)
class Cast:
    """The names of one world. `richness` scales how many there are (1 = the default world)."""

    seed: int
    richness: float = 1.0

    @cached_property
    def countries(self) -> list[Word]:
        """Countries; the richer the world, the more."""
        return [place(name) for name in self.some("countries", lexicon.COUNTRIES, 6, least=4)]

    @cached_property
    def cities(self) -> dict[str, list[Word]]:
        """Cities of every country, by the country's key; the first is the capital."""
        wanted = CITIES_PER_COUNTRY * len(self.countries)
        names = stream(self.seed, "cities").sample(lexicon.CITIES, min(wanted, len(lexicon.CITIES)))
        return {
            country.key: [place(name) for name in names[index :: len(self.countries)]]
            for index, country in enumerate(self.countries)
        }

    @cached_property
    def all_cities(self) -> list[Word]:
        """Every city, country by country."""
        return [city for cities in self.cities.values() for city in cities]

    @cached_property
    def families(self) -> list[Family]:
        """Families without a name in common: every given name belongs to one person."""
        rng = stream(self.seed, "families")
        men = [person(name) for name in rng.sample(lexicon.MEN, len(lexicon.MEN))]
        women = [person(name) for name in rng.sample(lexicon.WOMEN, len(lexicon.WOMEN))]
        count = max(2, min(round(5 * self.richness), MAX_FAMILIES))
        families = []
        for _ in range(count):
            grandfather, grandmother = men.pop(), women.pop()
            elder_is_man = len(men) >= len(women)
            elder, spouse = (men.pop(), women.pop()) if elder_is_man else (women.pop(), men.pop())
            younger, first, second = ((men if len(men) >= len(women) else women).pop() for _ in range(3))
            families.append(Family(grandfather, grandmother, elder, younger, spouse, (first, second)))
        return families

    @cached_property
    def people(self) -> list[Word]:
        """Everyone, family by family."""
        return [member for family in self.families for member in family.members]

    @cached_property
    def strangers(self) -> dict[str, list[Word]]:
        """A few names for exercises, by gender, of people of whom the world knows nothing else."""
        known = {str(word) for word in self.people}
        rng = stream(self.seed, "strangers")
        return {
            gender: [person(name) for name in rng.sample([n for n in names if n not in known], STRANGERS)]
            for gender, names in (("masc", lexicon.MEN), ("femn", lexicon.WOMEN))
        }

    def some(self, label: str, pool: Sequence[T], count: int, least: int) -> list[T]:
        """`count` of `pool` in a default world, more or fewer in a richer or poorer one, at least `least`."""
        wanted = max(least, min(round(count * self.richness), len(pool)))
        return stream(self.seed, label).sample(pool, wanted)


def words(text: str) -> list[Word]:
    """The dictionary nouns of a line of the lexicon, `"кот cat;собака dog"`."""
    return [noun(russian, english) for russian, english in lexicon.pairs(text)]
