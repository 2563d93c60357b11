"""Personal data: check digits against known numbers, and both kinds of error of the detectors."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.corpus import check_digits
from stages.corpus.personal import PLACEHOLDERS, find, redact


@pytest.mark.parametrize(
    ("check", "number", "valid"),
    [
        (check_digits.inn, "7707083893", True),  # Sberbank
        (check_digits.inn, "7707083894", False),
        (check_digits.inn, "500100732259", True),
        (check_digits.inn, "500100732258", False),
        (check_digits.inn, "770708389", False),
        (check_digits.snils, "112-233-445 95", True),
        (check_digits.snils, "112-233-445 96", False),
        (check_digits.snils, "087-654-303 00", True),  # sum 202 = 2 * 101
        (check_digits.snils, "001-001-998 00", False),  # carries no check
        (check_digits.ogrn, "1027700132195", True),  # Sberbank
        (check_digits.ogrn, "1027700132196", False),
        (check_digits.ogrn, "304500116000157", True),
        (check_digits.ogrn, "304500116000158", False),
        (check_digits.luhn, "4111 1111 1111 1111", True),
        (check_digits.luhn, "4111 1111 1111 1112", False),
        (check_digits.luhn, "0000 0000 0000 0000", False),
        (check_digits.luhn, "79927398713", False),  # passes the sum, but no card has 11 digits
    ],
)
def test_known_numbers(check: object, number: str, valid: bool) -> None:
    assert check(number) is valid  # type: ignore[operator]


def test_account_at_its_bank() -> None:
    account, bik = "40702810900000005555", "044030001"
    digits = [int(digit) for digit in bik[-3:] + account]
    total = sum(digit * (7, 1, 3)[place % 3] for place, digit in enumerate(digits)) % 10
    valid = total == 0
    assert check_digits.account(account, bik) is valid
    fixed = [account[:8] + str(digit) + account[9:] for digit in range(10)]
    assert sum(check_digits.account(number, bik) for number in fixed) == 1
    assert not check_digits.account(account[:-1], bik)


@given(st.integers(10**14, 10**15 - 1))
def test_luhn_accepts_exactly_one_last_digit(head: int) -> None:
    assert sum(check_digits.luhn(f"{head}{digit}") for digit in range(10)) == 1


@given(st.integers(1_002_000, 999_999_999))
def test_snils_accepts_exactly_one_pair_of_check_digits(head: int) -> None:
    assert sum(check_digits.snils(f"{head:09d}{check:02d}") for check in range(100)) == 1


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("Пишите на ivan.petrov+work@mail-example.ru!", ["email"]),
        ("Позвоните +7 (912) 345-67-89 или 8 912 345 67 89.", ["phone", "phone"]),
        ("Мой номер 89123456789.", ["phone"]),
        ("Call (555) 123-4567 or +44 20 7946 0958.", ["phone", "phone"]),
        ("Тел. 12-34-56", ["phone"]),
        ("ИНН организации 7707083893.", ["inn"]),
        ("ИНН 500100732259", ["inn"]),
        ("СНИЛС 11223344595", ["snils"]),
        ("Его номер 112-233-445 95.", ["snils"]),
        ("ОГРН 1027700132195", ["ogrn"]),
        ("Карта 4111 1111 1111 1111, срок 12/30.", ["card"]),
        ("Деньги ушли на 4111111111111111.", ["card"]),
        ("Паспорт серии 45 10 № 123456 выдан вчера.", ["passport"]),
        ("Паспорт 4510 123456", ["passport"]),
        ("Сервер стоит по адресу 93.184.216.34.", ["ip"]),
        ("адрес 2001:db8::ff00:42:8329", ["ip"]),
        ("Пиши в телеграм @ivan_petrov или t.me/ivan_petrov", ["handle", "handle"]),
        ("Машина А123ВС777 уехала.", ["plate"]),
        ("р/с 40702810900000005555", ["account"]),
    ],
)
def test_personal_data_is_found(text: str, kinds: list[str]) -> None:
    assert [place.kind for place in find(text)] == kinds


@pytest.mark.parametrize(
    "text",
    [
        "Если к 7707083893 прибавить 1, получится 7707083894.",  # an INN in form, but nothing says so
        "ИНН 7707083894",  # wrong check digit
        "Число 1027700132195 простое?",
        "Карта 4111 1111 1111 1112",
        "В 1812 году было 123456 жителей и 45 10 домов.",
        "Ряд чисел: 10, 20, 30, 40, 50. 3 рубля — это 300 копеек.",
        "В версии 1.2.3.4 это исправлено, адрес 127.0.0.1 местный.",
        "Встреча в 12:30:45, счёт 3:2, ссылка на @media и 5 @ 3.",
        "Том 8, страница 912, год 1812-1825, 2024-11-21.",
        "С 2010 по 2020 год, ГОСТ 12345-67.",
    ],
)
def test_innocent_numbers_are_left_alone(text: str) -> None:
    assert find(text) == []


def test_random_digits_are_hardly_ever_taken_for_personal_data() -> None:
    """False alarms on bare digit strings of every length, without context words."""
    rng = random.Random(3)
    texts = [f"Ответ: {rng.randrange(10 ** (n - 1), 10**n)}." for n in range(1, 21) for _ in range(300)]
    wrong = [text for text in texts if find(text)]
    # These count by themselves: 12 digits (INN, 1 %), 16 (card, about 5 %), 11 that begin with 89 or 79.
    lengths = {len(text) - len("Ответ: .") for text in wrong}
    assert lengths <= {11, 12, 16}
    assert len(wrong) <= 0.01 * len(texts)


def test_placeholders_speak_the_language_of_the_document() -> None:
    text = "a@b-example.ru +7 912 345-67-89"
    assert redact(text, "ru")[0] == "[ПОЧТА] [ТЕЛЕФОН]"
    assert redact(text, "en")[0] == "[EMAIL] [PHONE]"
    assert redact(text, "ru")[1] == {"email": 1, "phone": 1}


@given(
    st.lists(
        st.sampled_from(
            [
                "a.b@c-example.ru",
                "+7 912 345-67-89",
                "ИНН 7707083893",
                "112-233-445 95",
                "4111 1111 1111 1111",
                "дом",
                "5",
                ",",
                "и",
                "\n",
            ]
        ),
        max_size=12,
    )
)
def test_redacted_text_has_nothing_left(pieces: list[str]) -> None:
    text, counts = redact(" ".join(pieces), "ru")
    assert find(text) == []
    assert sum(text.count(PLACEHOLDERS[kind][0]) for kind in counts) == sum(counts.values())
    for word in ("дом", "и"):
        assert text.split().count(word) == pieces.count(word)
