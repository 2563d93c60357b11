"""Numbers in digits and in words: a held-out number is put together from parts that the text names."""

from __future__ import annotations

import random
from dataclasses import dataclass

from stages.corpus.world.cast import Cast
from stages.corpus.world.model import Question
from stages.corpus.world.skills import reserved

# units, tens from twenty on, a hundred
WORDS = {
    "ru": (
        "один два три четыре пять шесть семь восемь девять",
        "двадцать тридцать сорок пятьдесят шестьдесят семьдесят восемьдесят девяносто",
        "сто",
    ),
    "en": (
        "one two three four five six seven eight nine",
        "twenty thirty forty fifty sixty seventy eighty ninety",
        "hundred",
    ),
}
SAID = {
    "ru": ("{words} — это {n}", "число {n} пишут словами: {words}"),
    "en": ("{words} is {n}", "the number {n} in words: {words}"),
}
ASK_DIGITS = {"ru": "Запиши цифрами число {words}.", "en": "Write in digits the number {words}."}
ASK_WORDS = {"ru": "Как написать словами число {n}?", "en": "How is the number {n} written in words?"}
HUNDRED_SHARE = 0.3  # of statements


def spelt(number: int, language: str) -> str:
    """A compound number in words, 21 to 99 or 121 to 199: spelt(147, "ru") is сто сорок семь."""
    units, tens, hundred = WORDS[language]
    parts = [tens.split()[number % 100 // 10 - 2], units.split()[number % 10 - 1]]
    return " ".join([hundred, *parts] if number >= 100 else parts)


@dataclass(frozen=True)
class Numerals:
    """The cluster is the number below a hundred; it stands in no text of the other split in either form."""

    cast: Cast
    name: str = "numeral"
    levels: tuple[int, ...] = (1, 2, 3)

    def _draw(self, rng: random.Random, held_out: bool) -> tuple[int, str]:
        while True:
            number = 10 * rng.randint(2, 9) + rng.randint(1, 9)
            key = f"numeral/{number}"
            if reserved(self.cast.seed, key) == held_out:
                return number, key

    def statement(self, rng: random.Random, language: str) -> str:
        """A number in both forms."""
        number, _ = self._draw(rng, held_out=False)
        number += 100 * (rng.random() < HUNDRED_SHARE)
        return rng.choice(SAID[language]).format(n=number, words=spelt(number, language))

    def question(self, rng: random.Random, language: str, held_out: bool) -> Question:
        """Level 1: words to digits; level 2: digits to words; level 3: words to digits beyond a hundred."""
        number, key = self._draw(rng, held_out)
        level = rng.choice(self.levels)
        number += 100 * (level == 3)
        near = number + 1 if number % 10 < 9 else number - 2
        far = number + 10 if number % 100 < 90 else number - 20
        if level == 2:
            text, answer = ASK_WORDS[language].format(n=number), spelt(number, language)
            wrong = (spelt(near, language), spelt(far, language))
        else:
            text, answer = ASK_DIGITS[language].format(words=spelt(number, language)), str(number)
            wrong = (str(near), str(far))
        return Question("arithmetic", language, text, answer, wrong, (key,), level)
