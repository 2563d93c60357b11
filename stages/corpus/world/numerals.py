"""Numbers in digits and in words: a held-out number is put together from parts that the text names.

Most have three digits: the 72 that have two could be learnt by heart, and the held-out ones ruled out.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from stages.corpus.world.cast import Cast
from stages.corpus.world.model import Question
from stages.corpus.world.skills import reserved

# units, tens from twenty on, hundreds
WORDS = {
    "ru": (
        "один два три четыре пять шесть семь восемь девять",
        "двадцать тридцать сорок пятьдесят шестьдесят семьдесят восемьдесят девяносто",
        "сто двести триста четыреста пятьсот шестьсот семьсот восемьсот девятьсот",
    ),
    "en": (
        "one two three four five six seven eight nine",
        "twenty thirty forty fifty sixty seventy eighty ninety",
        "one-hundred two-hundred three-hundred four-hundred five-hundred six-hundred seven-hundred "
        "eight-hundred nine-hundred",
    ),
}
SAID = {
    "ru": ("{words} — это {n}", "число {n} пишут словами: {words}"),
    "en": ("{words} is {n}", "the number {n} in words: {words}"),
}
ASK_DIGITS = {"ru": "Запиши цифрами число {words}.", "en": "Write in digits the number {words}."}
ASK_WORDS = {"ru": "Как написать словами число {n}?", "en": "How is the number {n} written in words?"}
HUNDREDS_SHARE = 0.4  # of statements and questions


def spelt(number: int, language: str) -> str:
    """A number in words, whose last two digits are 21 to 99 and not a full ten: spelt(147, "ru") is сто сорок
    семь.
    """
    units, tens, hundreds = (words.split() for words in WORDS[language])
    parts = [tens[number % 100 // 10 - 2], units[number % 10 - 1]]
    if number >= 100:
        parts.insert(0, hundreds[number // 100 - 1].replace("-", " "))
    return " ".join(parts)


@dataclass(frozen=True)
class Numerals:
    """The cluster is the number; it stands in no text of the other split in either form."""

    cast: Cast
    name: str = "numeral"
    levels: tuple[int, ...] = (1, 2, 3)

    def _draw(self, rng: random.Random, held_out: bool) -> tuple[int, str]:
        while True:
            number = 10 * rng.randint(2, 9) + rng.randint(1, 9)
            if rng.random() < HUNDREDS_SHARE:
                number += 100 * rng.randint(1, 9)
            key = f"numeral/{number}"
            if reserved(self.cast.seed, key) == held_out:
                return number, key

    def statement(self, rng: random.Random, language: str) -> str:
        """A number in both forms."""
        number, _ = self._draw(rng, held_out=False)
        return rng.choice(SAID[language]).format(n=number, words=spelt(number, language))

    def question(self, rng: random.Random, language: str, held_out: bool) -> Question:
        """Level 1: words to digits; level 2: digits to words; level 3: digits to words beyond a hundred."""
        number, key = self._draw(rng, held_out)
        near = number + 1 if number % 10 < 9 else number - 2
        far = number + 10 if number % 100 < 90 else number - 20
        if rng.random() < 0.5:
            level = 1
            text, answer = ASK_DIGITS[language].format(words=spelt(number, language)), str(number)
            wrong = (str(near), str(far))
        else:
            level = 2 if number < 100 else 3
            text, answer = ASK_WORDS[language].format(n=number), spelt(number, language)
            wrong = (spelt(near, language), spelt(far, language))
        return Question("arithmetic", language, text, answer, wrong, (key,), level)
