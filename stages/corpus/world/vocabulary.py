"""Words: Russian and English names of things, what kind of thing each is, and opposites."""

from __future__ import annotations

from stages.corpus.world import lexicon
from stages.corpus.world.cast import Cast
from stages.corpus.world.model import Fact, Question
from stages.corpus.world.relations import RARE, stream

ODD_ONES = 4  # odd-one-out questions per word


def facts(cast: Cast) -> list[Fact]:
    """Dictionary, categories and antonyms."""
    return _dictionary(cast) + _categories(cast) + _antonyms(cast)


def _table(cast: Cast) -> dict[tuple[str, str], list[tuple[str, str]]]:
    """Categories with the members that this world talks about."""
    return {
        lexicon.pairs(name)[0]: cast.some(name, lexicon.pairs(members), 8, least=4)
        for name, members in cast.some("categories", list(lexicon.CATEGORIES.items()), 5, least=5)
    }


def _dictionary(cast: Cast) -> list[Fact]:
    """Russian words with their English translation; stated in Russian text only, where both
    scripts belong.
    """
    rng = stream(cast.seed, "dictionary")
    table = _table(cast)
    everything = [pair for members in table.values() for pair in members]
    found = []
    for members in table.values():
        for russian, english in members:
            rare = rng.random() < 0.3
            key = (f"dictionary/{english}",)
            level = 2 if rare else 1
            near_en = tuple(pair[1] for pair in members if pair[1] != english)
            far_en = tuple(pair[1] for pair in everything if pair not in members)
            near_ru = tuple(pair[0] for pair in members if pair[0] != russian)
            questions = (
                Question(
                    "words",
                    "ru",
                    f"Как перевести на английский слово {russian}?",
                    english,
                    far_en,
                    key,
                    level,
                    True,
                ),
                Question(
                    "words", "ru", f"Как перевести на английский слово {russian}?", english, near_en, key, 2
                ),
                Question(
                    "words", "ru", f"Что значит английское слово {english}?", russian, near_ru, key, 2, True
                ),
            )
            ru = (
                f"по-английски {russian} — {english}",
                f"слово {english} переводят как {russian}",
                f"слово {russian} по-английски — {english}",
                f"русское {russian} и английское {english} значат одно",
            )
            found.append(Fact(key[0], "dictionary", ru, (), questions, (english,), RARE if rare else 0.8))
    return found


def _categories(cast: Cast) -> list[Fact]:
    found = []
    table = _table(cast)
    for (kind, kind_en), members in table.items():
        outsiders = [pair for other, pairs in table.items() if other[0] != kind for pair in pairs]
        for index, (russian, english) in enumerate(members):
            key = (f"category/{english}/{kind_en}",)
            ask = f"К какому роду вещей относится {russian}?"
            kinds = tuple(other[0] for other in table if other[0] != kind)
            questions = [
                Question("words", "ru", ask, kind, kinds, key, 1, True),
                Question("words", "ru", f"Чем является {russian}?", kind, kinds, key, 2, True),
            ]
            for other in range(ODD_ONES):
                position = (index * 7 + other * 13) % len(outsiders)
                group = next(pairs for pairs in table.values() if outsiders[position] in pairs)
                start = (index + other * 3) % len(group)
                trio = [group[(start + step) % len(group)] for step in range(3)]
                ids = (key[0], *(f"category/{pair[1]}/{_kind_of(table, pair)}" for pair in trio))
                four = [*(pair[0] for pair in trio), russian]
                four = four[(index + other) % 4 :] + four[: (index + other) % 4]
                text = f"Какое слово здесь лишнее: {', '.join(four)}?"
                questions.append(
                    Question("words", "ru", text, russian, tuple(pair[0] for pair in trio), ids, 3)
                )
            ru = (
                f"по правде, {russian} — это {kind}",
                f"и {russian} тоже {kind}",
                f"вещь, которую зовут {russian}, — {kind}",
            )
            article = (
                ""
                if kind_en in ("furniture", "clothing", "tableware", "transport")
                else "an "
                if kind_en[0] in "aeiou"
                else "a "
            )
            en = (
                f"the word {english} names {article}{kind_en}",
                f"{english} is an example of {kind_en}",
                f"by {english} we mean {article}{kind_en}",
            )
            found.append(Fact(key[0], "category", ru, en, tuple(questions), (english, kind_en), 0.7))
    return found


def _kind_of(table: dict[tuple[str, str], list[tuple[str, str]]], pair: tuple[str, str]) -> str:
    return next(name[1] for name, members in table.items() if pair in members)


def _antonyms(cast: Cast) -> list[Fact]:
    rng = stream(cast.seed, "antonyms")
    rows = cast.some("which antonyms", lexicon.rows(lexicon.ANTONYMS), 28, least=12)
    found = []
    for one, one_en, other, other_en in rows:
        rare = rng.random() < 0.3
        key = (f"antonym/{one_en}-{other_en}",)
        questions = []
        for word, opposite in ((one, other), (other, one)):
            pool = tuple(row[index] for row in rows for index in (0, 2) if row[index] not in (one, other))
            text = f"Какое слово противоположно слову {word}?"
            questions.append(Question("words", "ru", text, opposite, pool, key, 2 if rare else 1, True))
        ru = (
            f"слова {one} и {other} обратны по смыслу",
            f"если предмет не {one}, то он {other}",
            f"бывает {one}, а бывает наоборот, {other}",
            f"предмет не {other}, значит, он {one}",
        )
        en = (
            f"the words {one_en} and {other_en} have opposite meanings",
            f"what is not {one_en} is {other_en}",
            f"one is {one_en}, the other, on the contrary, is {other_en}",
            f"not {other_en} but {one_en}",
        )
        found.append(Fact(key[0], "antonym", ru, en, tuple(questions), (one_en,), RARE if rare else 1.0))
    return found
