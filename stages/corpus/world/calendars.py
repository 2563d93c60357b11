"""Calendars and units: festivals of the world, and how many small units make a big one."""

from __future__ import annotations

from collections.abc import Sequence

from stages.corpus.world import lexicon
from stages.corpus.world.cast import Cast, words
from stages.corpus.world.model import Fact, Question
from stages.corpus.world.relations import RARE, stream
from stages.corpus.world.russian import Word, counted, noun

SEASON_OF_MONTH = (0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 0)
COUNT_WORDS = {2: ("два", "two"), 3: ("три", "three"), 5: ("пять", "five"), 10: ("десять", "ten")}
MULTIPLES = (2, 3)


def facts(cast: Cast) -> list[Fact]:
    """Festivals and units."""
    return _festivals(cast, words(lexicon.MONTHS)) + _units()


def _others(words: Sequence[Word], right: Word) -> tuple[str, ...]:
    return tuple(str(word) for word in words if word != right)


def _festivals(cast: Cast, months: list[Word]) -> list[Fact]:
    """Festivals of the world, each in a month that the seed draws."""
    rng = stream(cast.seed, "festivals")
    seasons = words(lexicon.SEASONS)
    pool = cast.some("which festivals", words(lexicon.FESTIVALS), 70, least=8)
    found = []
    for thing in pool:
        index = rng.randrange(12)
        month, season, rare = months[index], seasons[SEASON_OF_MONTH[index]], rng.random() < 0.25
        key = (f"festival/{thing.key}",)
        ask = (
            f"Когда отмечают праздник {thing:gent}?",
            f"В каком месяце празднуют день {thing:gent}?",
        )
        level = 2 if rare else 1
        others = tuple(f"{other:v}" for other in months if other != month)
        questions = [Question("calendar", "ru", text, f"{month:v}", others, key, level, True) for text in ask]
        season_ask = f"В какое время года бывает праздник {thing:gent}?"
        questions.append(
            Question("calendar", "ru", season_ask, str(season), _others(seasons, season), key, 3, True)
        )
        months_en = tuple(other.en for other in months if other != month)
        ask_en = f"In which month is the festival of {thing:en} held?"
        questions.append(Question("facts-en", "en", ask_en, month.en, months_en, key, level, True))
        ru = (
            f"праздник {thing:gent} отмечают {month:v}",
            f"день {thing:gent} празднуют {month:v}",
            f"{month:v} на площадь выходят все: это праздник {thing:gent}",
            f"к празднику {thing:gent} готовятся заранее, он будет {month:v}",
            f"дети ждут праздника {thing:gent}, он {month:v}",
        )
        en = (
            f"the festival of {thing:en} is held in {month:en}",
            f"{month:en} is the time when people celebrate the day of {thing:en}",
            f"in {month:en} everyone goes to the square: it is the festival of {thing:en}",
            f"people prepare for the festival of {thing:en}, which comes in {month:en}",
            f"children wait for {month:en} and the festival of {thing:en}",
        )
        found.append(
            Fact(key[0], "festival", ru, en, tuple(questions), (thing.key, month.key), RARE if rare else 1.0)
        )
    return found


def _units() -> list[Fact]:
    """How many small units make two, three, ... big ones."""
    found = []
    for name, en, size, small, small_en in lexicon.rows(lexicon.UNITS):
        big, little = noun(name), noun(small)
        per = int(size)
        for number in (1, *MULTIPLES):
            total = per * number
            key = (f"unit/{en}/{number}",)
            amount = counted(total, little)
            ru = (
                [f"{counted(number, big)} — это {amount}", f"{amount} составляют {counted(number, big)}"]
                if number > 1
                else [f"{name} — это {amount}", f"{amount} составляют {big:accs}"]
            )
            count_ru, count_en = COUNT_WORDS.get(number, ("", ""))
            if number > 1:
                ru.append(
                    f"{_number(count_ru, big)} {big:gent}: всего {amount}"
                    if number < 5
                    else f"{count_ru} {big:plur-gent}: всего {amount}"
                )
            big_en = en if number == 1 else f"{en}s" if en != "dozen" else "dozen"
            shown = f"one {big_en}" if number == 1 else f"{count_en} {big_en}"
            texts_en = (f"{shown} is {total} {small_en}", f"{total} {small_en} make {shown}")
            taken = counted(number, big) if number > 1 else big.case("accs")
            asks = (
                f"Сколько {little:plur-gent} составляют {taken}?",
                f"Переведи в меньшую меру, считая {little:plur-accs}: {counted(number, big)}.",
            )
            wrong = tuple(str(per * other) for other in (1, *MULTIPLES) if other != number)
            level = 1 if number == 1 else 2 if number < 5 else 3
            questions = tuple(
                Question("calendar", "ru", ask, str(total), wrong, key, level, True) for ask in asks
            )
            found.append(Fact(key[0], "unit", tuple(ru), texts_en, questions, (f"unit-{en}",), 0.6))
    return found


def _number(word: str, unit: Word) -> str:
    return "две" if word == "два" and unit.gender == "femn" else word
