"""Addition, subtraction and number sequences; pairs of operands of the test split stand in no text."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from stages.corpus.world.cast import Cast
from stages.corpus.world.model import Question
from stages.corpus.world.russian import Word, counted, noun
from stages.corpus.world.skills import reserved

LIMIT = 99  # of sums and of rows of numbers
STEPS = 3  # the greatest second operand: the last digits follow from a small table
TEST_SHARE = 0.2  # of the pairs of operands
THINGS = (
    ("яблоко", "apple"),
    ("книга", "book"),
    ("камень", "stone"),
    ("карта", "card"),
    ("орех", "nut"),
    ("ключ", "key"),
)
PLURALS = {
    "apple": "apples",
    "book": "books",
    "stone": "stones",
    "card": "cards",
    "nut": "nuts",
    "key": "keys",
}

PLUS = {
    "ru": (
        "{a} + {b} = {c}",
        "{a} плюс {b} будет {c}",
        "если к {a} прибавить {b}, получится {c}",
        "{c} — это {a} и ещё {b}",
    ),
    "en": (
        "{a} + {b} = {c}",
        "{a} plus {b} makes {c}",
        "if you add {b} to {a}, you get {c}",
        "{c} is {a} and {b} more",
    ),
}
MINUS = {
    "ru": ("{c} - {b} = {a}", "{c} минус {b} будет {a}", "если из {c} вычесть {b}, останется {a}"),
    "en": ("{c} - {b} = {a}", "{c} minus {b} makes {a}", "if you take {b} from {c}, {a} is left"),
}
# In words: with signs, the sum and the difference of two numbers would be the same once punctuation is off.
ASK_PLUS = {
    "ru": ("Сколько будет {a} плюс {b}?", "Чему равна сумма чисел {a} и {b}?"),
    "en": ("How much is {a} plus {b}?", "What is the sum of {a} and {b}?"),
}
ASK_MINUS = {
    "ru": ("Сколько будет {c} минус {b}?", "Чему равна разность чисел {c} и {b}?"),
    "en": ("How much is {c} minus {b}?", "What is the difference of {c} and {b}?"),
}


def operands(rng: random.Random) -> tuple[int, int]:
    """Two operands, the greater first, with a sum of at most `LIMIT`."""
    b = rng.randint(1, STEPS)
    return rng.randint(b, LIMIT - b), b


def difficulty(a: int, b: int) -> int:
    """1: by one within the tens; 2: by more; 3: the tens change."""
    if a // 10 != (a + b) // 10:
        return 3
    return 1 if b == 1 else 2


def pair_key(a: int, b: int) -> str:
    """The cluster of a pair of operands, whatever their order and the sign between them."""
    return f"addition/{max(a, b)}+{min(a, b)}"


@dataclass(frozen=True)
class Arithmetic:
    """Sums, differences and little stories about them."""

    cast: Cast
    name: str = "arithmetic"
    levels: tuple[int, ...] = (1, 2, 3)
    things: tuple[Word, ...] = field(default_factory=lambda: tuple(noun(*pair) for pair in THINGS))

    def _pair(self, rng: random.Random, held_out: bool) -> tuple[int, int]:
        while True:
            a, b = operands(rng)
            if reserved(self.cast.seed, pair_key(a, b), TEST_SHARE) == held_out:
                return a, b

    def statement(self, rng: random.Random, language: str) -> str:
        """A sum or difference, in signs or words, or a story with counted things."""
        a, b = self._pair(rng, held_out=False)
        kind = rng.random()
        if kind < 0.15:
            return self._story(rng, language, a, b) + self._ending(language, a + b)
        templates = (PLUS if kind < 0.65 else MINUS)[language]
        return rng.choice(templates).format(a=a, b=b, c=a + b)

    def question(self, rng: random.Random, language: str, held_out: bool) -> Question:
        """A sum (two thirds), a difference, or a story without its end."""
        a, b = self._pair(rng, held_out)
        level = difficulty(a, b)
        kind = rng.random()
        if kind < 0.12:
            ask = " Сколько стало всего?" if language == "ru" else " How many are there in all?"
            text, answer, level = self._story(rng, language, a, b) + ask, a + b, max(2, level)
        elif kind < 0.7:
            text, answer = rng.choice(ASK_PLUS[language]).format(a=a, b=b), a + b
        else:
            text, answer = rng.choice(ASK_MINUS[language]).format(b=b, c=a + b), a
        wrong = tuple(str(n) for n in (answer + 1, answer - 1, answer + 10, answer + 2) if n >= 0)
        return Question("arithmetic", language, text, str(answer), wrong, (pair_key(a, b),), level)

    def _story(self, rng: random.Random, language: str, a: int, b: int) -> str:
        someone = rng.choice(self.cast.strangers[rng.choice(("masc", "femn"))])
        thing = rng.choice(self.things)
        if language == "ru":
            return f"У {someone:gent} было {counted(a, thing)}, принесли ещё {b}."
        plural = PLURALS[thing.en]
        return f"{someone:en} had {a} {thing.en if a == 1 else plural}, and {b} more were brought."

    def _ending(self, language: str, total: int) -> str:
        return f" Стало {total}" if language == "ru" else f" That makes {total}"


@dataclass(frozen=True)
class Sequences:
    """Rows of numbers with a constant step."""

    cast: Cast
    name: str = "sequence"
    levels: tuple[int, ...] = (1, 2, 3)

    def _draw(self, rng: random.Random, held_out: bool) -> tuple[list[int], str, int]:
        while True:
            level = rng.choice((1, 1, 2, 3))
            step = {1: 1, 2: 2, 3: rng.choice((3, 5))}[level]
            start = rng.randint(1, LIMIT - 4 * step)
            if level < 3 and rng.random() < 0.25:
                start, step, level = start + 4 * step, -step, level + 1
            key = f"sequence/{start}/{step}"
            if reserved(self.cast.seed, key) == held_out:
                return [start + index * step for index in range(5)], key, level

    def statement(self, rng: random.Random, language: str) -> str:
        """A row with its rule or its next number."""
        row, _, _ = self._draw(rng, held_out=False)
        head, step = ", ".join(map(str, row)), row[1] - row[0]
        if language == "ru":
            forms = (
                f"ряд чисел: {head}",
                f"в ряду {head} каждое число {'больше' if step > 0 else 'меньше'} прежнего на {abs(step)}",
                f"считаем по {abs(step)}: {head}",
            )
        else:
            direction = "greater" if step > 0 else "less"
            forms = (
                f"a row of numbers: {head}",
                f"in the row {head} each number is {direction} than the last by {abs(step)}",
                f"counting by {abs(step)}: {head}",
            )
        return rng.choice(forms)

    def question(self, rng: random.Random, language: str, held_out: bool) -> Question:
        """The first four numbers of a row; the answer is the fifth."""
        row, key, level = self._draw(rng, held_out)
        head = ", ".join(map(str, row[:4]))
        text = f"Какое число дальше: {head}?" if language == "ru" else f"Which number comes next: {head}?"
        wrong = tuple(str(n) for n in (row[4] + 1, row[4] - 1, row[3] + 1) if n not in (row[4],) and n >= 0)
        return Question("arithmetic", language, text, str(row[4]), wrong, (key,), level)
