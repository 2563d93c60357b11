"""Russian words in all their forms: pymorphy3 for the dictionary, real analogues for invented names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

CASES = ("nomn", "gent", "datv", "accs", "ablt", "loct")
GENDERS = ("masc", "femn", "neut")
VOWELS = "аеёиоуыэюя"
_INFLECTED_POS = ("NOUN", "ADJF")


@cache
def _analyzer() -> Any:
    import pymorphy3

    return pymorphy3.MorphAnalyzer(lang="ru")


@cache
def _parse(lemma: str, pos: str, *grammemes: str) -> Any:
    """The dictionary parse of `lemma` that is itself the base form, with the given part of speech and
    grammemes.
    """
    for parse in _analyzer().parse(lemma):
        base_form = parse.normal_form == lemma.lower() and pos == parse.tag.POS
        if (
            base_form
            and (pos == "INFN" or "nomn" in parse.tag)
            and all(item in parse.tag for item in grammemes)
        ):
            return parse
    raise ValueError(f"{lemma}: no dictionary parse as {pos} {' '.join(grammemes)}")


@cache
def inflect(lemma: str, pos: str, *grammemes: str) -> str:
    """The form of `lemma` with `grammemes`, for example `inflect("книга", "NOUN", "gent",
    "plur")` -> книг.
    """
    known = tuple(item for item in grammemes if item == "Name")
    wanted = {item for item in grammemes if item != "Name"}
    form = _parse(lemma, pos, *known).inflect(wanted)
    if form is None:
        raise ValueError(f"{lemma}: no form {' '.join(sorted(wanted))}")
    word = str(form.word)
    return word.capitalize() if lemma[0].isupper() else word


@dataclass(frozen=True)
class Word:
    """A noun in its six singular cases, with an English name; `plural` holds the plural cases if it has any.

    In a template, `{x}` is the nominative, `{x:gent}` a case, `{x:plur-gent}` a plural case, `{x:v}` `{x:s}`
    `{x:o}` a preposition that fits (в/во, с/со, о/об) with its case, `{x:пришёл|пришла}` a choice by gender,
    `{x:en}` the English name.
    """

    forms: tuple[str, ...]
    gender: str
    en: str
    plural: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.forms[0]

    @cached_property
    def key(self) -> str:
        """The English name as part of a fact id."""
        return re.sub(r"[^a-z0-9]+", "-", self.en.lower())

    def case(self, name: str) -> str:
        """The singular form in the case `name`."""
        return self.forms[CASES.index(name)]

    def __format__(self, spec: str) -> str:
        if not spec:
            return str(self)
        if "|" in spec:
            return spec.split("|")[GENDERS.index(self.gender)]
        if spec == "en":
            return self.en
        if spec.startswith("plur-"):
            return self.plural[CASES.index(spec.removeprefix("plur-"))]
        if spec in PREPOSITIONS:
            return PREPOSITIONS[spec](self)
        return self.case(spec)


def _v(word: Word) -> str:
    form = word.case("loct")
    return f"{'во' if re.match(r'[вф][^аеёиоуыэюя]', form.lower()) else 'в'} {form}"


def _s(word: Word) -> str:
    form = word.case("ablt")
    return f"{'со' if re.match(r'([сзшж][^аеёиоуыэюя]|щ|ль|вс)', form.lower()) else 'с'} {form}"


def _o(word: Word) -> str:
    form = word.case("loct")
    return f"{'об' if form[0].lower() in 'аиоуэ' else 'о'} {form}"


PREPOSITIONS = {"v": _v, "s": _s, "o": _o}


@cache
def noun(lemma: str, en: str = "") -> Word:
    """A dictionary noun in both numbers. Raises `ValueError` when pymorphy3 does not know it as a noun."""
    gender = str(_parse(lemma, "NOUN").tag.gender)
    singular = tuple(inflect(lemma, "NOUN", case, "sing") for case in CASES)
    try:
        plural = tuple(inflect(lemma, "NOUN", case, "plur") for case in CASES)
    except ValueError:
        plural = ()
    return Word(singular, gender, en, plural)


@cache
def person(name: str) -> Word:
    """A given name; gender from the dictionary, English name by transliteration."""
    gender = str(_parse(name, "NOUN", "Name").tag.gender)
    forms = tuple(inflect(name, "NOUN", case, "sing", "Name") for case in CASES)
    return Word(forms, gender, transliterate(name))


# An invented name takes the endings of a real one: ending -> (its length that changes, the real name).
ANALOGUES = {
    "град": ("Волгоград", 0),
    "ск": ("Омск", 0),
    "бург": ("Екатеринбург", 0),
    "поль": ("Севастополь", 1),
    "ия": ("Россия", 1),
    "на": ("Двина", 1),
    "ва": ("Нева", 1),
    "ра": ("Ангара", 1),
    "ла": ("Кола", 1),
    "ма": ("Кама", 1),
}


@cache
def place(name: str) -> Word:
    """An invented place name, declined like the real name with the same ending."""
    for ending, (real, changing) in ANALOGUES.items():
        if name.endswith(ending):
            kept = len(real) - changing
            stem = name[: len(name) - changing]
            forms = tuple(stem + inflect(real.lower(), "NOUN", case, "sing")[kept:] for case in CASES)
            return Word(forms, str(_parse(real.lower(), "NOUN").tag.gender), transliterate(name))
    raise ValueError(f"{name}: no analogue for its ending")


@cache
def agree(adjective: str, gender: str, case: str = "nomn", animate: bool = False) -> str:
    """The singular form of `adjective` in gender and case; the masculine accusative needs `animate`."""
    grammemes = {gender, case, "sing"}
    if case == "accs" and gender == "masc":
        grammemes.add("anim" if animate else "inan")
    form = _parse(adjective, "ADJF").inflect(grammemes)
    return str(form.word)


def counted(number: int, word: Word) -> str:
    """`number` in digits with the noun in the form that it governs: 1 книга, 3 книги, 5 книг."""
    if number % 10 == 1 and number % 100 != 11:
        return f"{number} {word}"
    if number % 10 in (2, 3, 4) and number % 100 not in (12, 13, 14):
        return f"{number} {word:gent}"
    return f"{number} {word:plur-gent}"


_LATIN = dict(
    zip(
        "абвгдеёжзийклмнопрстуфхцчшщъыьэюя",
        [
            "a",
            "b",
            "v",
            "g",
            "d",
            "e",
            "yo",
            "zh",
            "z",
            "i",
            "y",
            "k",
            "l",
            "m",
            "n",
            "o",
            "p",
            "r",
            "s",
            "t",
            "u",
            "f",
            "kh",
            "ts",
            "ch",
            "sh",
            "shch",
            "",
            "y",
            "",
            "e",
            "yu",
            "ya",
        ],
        strict=True,
    )
)


def transliterate(name: str) -> str:
    """A Russian name in Latin letters, with -ия as -ia and -ий as -y, as English texts write them."""
    lower = re.sub(r"ий$", "й", re.sub(r"ия$", "иа", name.lower()))
    return "".join(_LATIN[letter] for letter in lower).capitalize()
