"""Invented personal data with right check digits, and look-alikes with wrong ones."""

from __future__ import annotations

import random
from collections.abc import Callable

INN10 = (2, 4, 10, 3, 5, 9, 4, 6, 8)
INN12 = ((7, 2, 4, 10, 3, 5, 9, 4, 6, 8), (3, 7, 2, 4, 10, 3, 5, 9, 4, 6, 8))
SURNAMES = {
    "ru": [
        "Соколова",
        "Лебедев",
        "Кузьмина",
        "Орлов",
        "Морозова",
        "Волков",
        "Павлова",
        "Зайцев",
        "Голубева",
        "Виноградов",
    ],
    "en": [
        "Sokolova",
        "Lebedev",
        "Kuzmina",
        "Orlov",
        "Morozova",
        "Volkov",
        "Pavlova",
        "Zaytsev",
        "Golubeva",
        "Vinogradov",
    ],
}
MAIL_NAMES = [
    "sokolova.anna",
    "lebedev77",
    "kuzmina_v",
    "orlov.p",
    "morozova",
    "volkov-i",
    "pavlova.t",
    "zaitsev88",
    "golubeva",
    "vino.gradov",
]
MAIL_HOSTS = ("mail-example.ru", "pochta-example.ru", "example.org", "firma-example.com")


def _digits(rng: random.Random, count: int) -> list[int]:
    return [rng.randint(1, 9), *(rng.randint(0, 9) for _ in range(count - 1))]


def _weighted(digits: list[int], weights: tuple[int, ...]) -> int:
    return sum(digit * weight for digit, weight in zip(digits, weights, strict=False)) % 11 % 10


def inn10(rng: random.Random) -> str:
    """INN of an organisation: nine digits and a check digit (weights 2 4 10 3 5 9 4 6 8, mod 11, mod 10)."""
    digits = _digits(rng, 9)
    return "".join(map(str, [*digits, _weighted(digits, INN10)]))


def inn12(rng: random.Random) -> str:
    """INN of a person: ten digits and two check digits."""
    digits = _digits(rng, 10)
    for weights in INN12:
        digits = [*digits, _weighted(digits, weights)]
    return "".join(map(str, digits))


def snils(rng: random.Random) -> str:
    """SNILS `XXX-XXX-XXX CC`: the sum of digit times place counted from the right, mod 101, 100 written as
    00.
    """
    digits = _digits(rng, 9)
    check = sum(digit * (9 - place) for place, digit in enumerate(digits)) % 101 % 100
    text = "".join(map(str, digits))
    return f"{text[:3]}-{text[3:6]}-{text[6:]} {check:02d}"


def card(rng: random.Random) -> str:
    """A payment card of 16 digits with the Luhn check digit, in groups of four."""
    digits = [rng.choice((2, 4)), *(rng.randint(0, 9) for _ in range(14))]
    total = sum(
        digit if place % 2 else (digit * 2 - 9 if digit > 4 else digit * 2)
        for place, digit in enumerate(digits)
    )
    text = "".join(map(str, [*digits, -total % 10]))
    return " ".join(text[index : index + 4] for index in range(0, 16, 4))


def phone(rng: random.Random) -> str:
    """A Russian mobile number in one of three ways of writing."""
    code, rest = f"9{rng.randint(0, 99):02d}", f"{rng.randint(0, 9999999):07d}"
    return rng.choice(
        (
            f"+7 ({code}) {rest[:3]}-{rest[3:5]}-{rest[5:]}",
            f"8 {code} {rest[:3]} {rest[3:5]} {rest[5:]}",
            f"+7{code}{rest}",
        )
    )


def email(rng: random.Random) -> str:
    """An address under a domain that belongs to nobody."""
    return f"{rng.choice(MAIL_NAMES)}{rng.randint(1, 99)}@{rng.choice(MAIL_HOSTS)}"


def passport(rng: random.Random) -> str:
    """Series and number of a Russian passport; it has no check digit, so only its context tells."""
    return f"{rng.randint(10, 99)} {rng.randint(0, 23):02d} {rng.randint(100000, 999999)}"


CONTEXTS: dict[str, tuple[Callable[[random.Random], str], dict[str, tuple[str, ...]]]] = {
    "inn": (
        lambda rng: rng.choice((inn10, inn12))(rng),
        {"ru": ("ИНН {}", "В справке указан ИНН {}"), "en": ("INN {}", "The form gives the INN {}")},
    ),
    "snils": (
        snils,
        {
            "ru": ("СНИЛС {}", "Номер страхового свидетельства (СНИЛС): {}"),
            "en": ("SNILS {}", "Insurance number (SNILS): {}"),
        },
    ),
    "card": (
        card,
        {
            "ru": ("Номер карты {}", "Деньги перевели на карту {}"),
            "en": ("Card number {}", "The money went to the card {}"),
        },
    ),
    "phone": (
        phone,
        {"ru": ("Телефон для связи {}", "Звоните по номеру {}"), "en": ("Phone {}", "Please call {}")},
    ),
    "email": (
        email,
        {"ru": ("Пишите на почту {}", "Адрес для писем: {}"), "en": ("Write to {}", "Mail address: {}")},
    ),
    "passport": (
        passport,
        {
            "ru": ("Паспорт серии и номера {}", "Предъявлен паспорт {}"),
            "en": ("Passport {}", "He showed the passport {}"),
        },
    ),
}
CHECKED = ("inn", "snils", "card")


def damaged(rng: random.Random, text: str) -> str:
    """`text` with its last digit changed: looks alike, but the check digit is wrong."""
    return text[:-1] + str((int(text[-1]) + rng.randint(1, 8)) % 10)


def sentence(rng: random.Random, kind: str, language: str, valid: bool = True) -> tuple[str, str]:
    """A sentence that holds one piece of data of `kind`, and that piece."""
    maker, contexts = CONTEXTS[kind]
    value = maker(rng) if valid else damaged(rng, maker(rng))
    return f"{rng.choice(SURNAMES[language])}: {rng.choice(contexts[language]).format(value)}.", value
