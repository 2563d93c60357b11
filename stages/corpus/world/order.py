"""Comparison: who is older, taller, stronger, from one or two premises that stand in the question itself."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from itertools import pairwise

from stages.corpus.world import lexicon
from stages.corpus.world.cast import Cast
from stages.corpus.world.model import Question
from stages.corpus.world.relations import capital
from stages.corpus.world.russian import Word
from stages.corpus.world.skills import reserved


@dataclass(frozen=True)
class Scale:
    """One scale in both languages: comparatives up and down, superlatives up and down (masculine,
    feminine).
    """

    more: str
    less: str
    most: tuple[str, str]
    least: tuple[str, str]
    more_en: str
    less_en: str
    most_en: str
    least_en: str


def scales() -> list[Scale]:
    """The scales of the lexicon."""
    found = []
    for row in lexicon.rows(lexicon.COMPARISONS):
        more, less, self_most, most, self_least, least, *english = row
        masc_most, femn_most = most.split("|")
        masc_least, femn_least = least.split("|")
        (masc, femn), (masc2, femn2) = self_most.split("|"), self_least.split("|")
        found.append(
            Scale(
                more,
                less,
                (f"{masc} {masc_most}", f"{femn} {femn_most}"),
                (f"{masc2} {masc_least}", f"{femn2} {femn_least}"),
                *english,
            )
        )
    return found


@dataclass(frozen=True)
class Order:
    """Comparisons of two or three people; the cluster is the set of names, so no set is in both splits."""

    cast: Cast
    name: str = "order"
    levels: tuple[int, ...] = (1, 2, 3)
    scales: tuple[Scale, ...] = field(default_factory=lambda: tuple(scales()))

    def _people(self, rng: random.Random, count: int, held_out: bool) -> tuple[list[Word], str]:
        while True:
            people = rng.sample(self.cast.strangers[rng.choice(("masc", "femn"))], count)
            key = "order/" + "-".join(sorted(word.key for word in people))
            if reserved(self.cast.seed, key) == held_out:
                return people, key

    def statement(self, rng: random.Random, language: str) -> str:
        """Premises with their conclusion."""
        people, _ = self._people(rng, rng.choice((2, 3)), held_out=False)
        scale = rng.choice(self.scales)
        premises = _premises(rng, language, scale, people, mixed=rng.random() < 0.5)
        top = rng.random() < 0.5
        winner = people[0] if top else people[-1]
        if language == "ru":
            index = 0 if winner.gender == "masc" else 1
            superlative = (scale.most if top else scale.least)[index]
            comparative = scale.more if top else scale.less
            if len(people) == 2:
                loser = people[1] if top else people[0]
                return f"{premises} Поэтому {winner} {comparative}, чем {loser}"
            return f"{premises} Значит, {superlative} здесь {winner}"
        if len(people) == 2:
            loser = people[1] if top else people[0]
            return f"{premises} So {winner:en} is {scale.more_en if top else scale.less_en} than {loser:en}"
        return f"{premises} So the {scale.most_en if top else scale.least_en} here is {winner:en}"

    def question(self, rng: random.Random, language: str, held_out: bool) -> Question:
        """Level 1: two people; level 2: three in order; level 3: three, premises shuffled and
        turned round.
        """
        level = rng.choice((1, 2, 3))
        people, key = self._people(rng, 2 if level == 1 else 3, held_out)
        scale = rng.choice(self.scales)
        premises = _premises(rng, language, scale, people, mixed=level == 3)
        top = rng.random() < 0.5
        winner = people[0] if top else people[-1]
        others = [word for word in people if word != winner]
        outsider = self._outsider(rng, people)
        if language == "ru":
            index = 0 if winner.gender == "masc" else 1
            ask = (
                f"кто {scale.more if top else scale.less}?"
                if level == 1
                else f"кто {(scale.most if top else scale.least)[index]}?"
            )
            wrong = tuple(str(word) for word in (*others, *outsider))
            return Question(
                "order", "ru", f"{premises} {capital(ask)}", str(winner), wrong[:2], (key,), level
            )
        ask = (
            f"who is {scale.more_en if top else scale.less_en}?"
            if level == 1
            else f"who is the {scale.most_en if top else scale.least_en}?"
        )
        wrong = tuple(word.en for word in (*others, *outsider))
        return Question("order", "en", f"{premises} {capital(ask)}", winner.en, wrong[:2], (key,), level)

    def _outsider(self, rng: random.Random, people: list[Word]) -> list[Word]:
        return [rng.choice([word for word in self.cast.strangers[people[0].gender] if word not in people])]


def _premises(rng: random.Random, language: str, scale: Scale, people: list[Word], mixed: bool) -> str:
    """Sentences that order `people` from most to least; `mixed` shuffles them and turns some round."""
    lines = []
    for upper, lower in pairwise(people):
        turned = mixed and rng.random() < 0.5
        first, second = (lower, upper) if turned else (upper, lower)
        if language == "ru":
            lines.append(f"{first} {scale.less if turned else scale.more}, чем {second}.")
        else:
            lines.append(f"{first:en} is {scale.less_en if turned else scale.more_en} than {second:en}.")
    if mixed:
        rng.shuffle(lines)
    return " ".join(lines)
