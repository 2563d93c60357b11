"""Repair, normal form, recoding, language and parts of long texts."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.corpus.language import identify
from stages.corpus.parts import cut
from stages.corpus.recode import russian_recoding, suspicious
from stages.corpus.repair import damage, normalise, repair

RUSSIAN = "Город стоит на реке, и в нём живёт много людей. Каждый день они ходят на рынок за хлебом."
ENGLISH = "The town stands on a river, and many people live in it. Every day they go to the market."


def _decode_as_browsers_do(data: bytes, encoding: str) -> str:
    """cp1251 and cp1252 leave bytes undefined; browsers show the control character of the same number."""
    found = []
    for byte in data:
        try:
            found.append(bytes([byte]).decode(encoding))
        except UnicodeDecodeError:
            found.append(chr(byte))
    return "".join(found)


@pytest.mark.parametrize("encoding", ["cp1251", "cp1252", "latin-1"])
def test_misread_utf8_is_repaired(encoding: str) -> None:
    broken = _decode_as_browsers_do(RUSSIAN.encode(), encoding)
    assert damage(broken) > 0.1
    assert normalise(repair(broken)) == RUSSIAN


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("cp1251", "latin-1"),
        ("cp1251", "cp1252"),
        ("koi8-r", "cp1251"),
        ("cp1251", "koi8-r"),
        ("cp1251", "cp866"),
    ],
)
def test_russian_in_the_wrong_single_byte_encoding_is_read_anew(written: str, read: str) -> None:
    broken = RUSSIAN.encode(written).decode(read)
    assert suspicious(broken)
    assert russian_recoding(broken) == RUSSIAN


def test_sound_text_is_left_alone() -> None:
    for text in (RUSSIAN, ENGLISH, "Он сказал: «№ 5» — “five”… 3 > 2"):
        assert normalise(repair(text)) == text
        assert damage(text) == 0
    assert not suspicious(RUSSIAN)
    assert russian_recoding(ENGLISH) is None


def test_lost_letters_are_damage() -> None:
    assert damage(RUSSIAN.replace("о", "\ufffd")) > 0.05


@pytest.mark.parametrize(
    ("given_text", "expected"),
    [
        ("a\r\nb\rc", "a\nb\nc"),
        ("й и\u0306", "й й"),
        ("сло\u00adво\u200b \ufeffдва", "слово два"),
        ("a\u00a0 \t b\x00\x07", "a b"),
        ("  a  \n\n\n\n  b ", "a\n\nb"),
        ("один\u2028два", "один\nдва"),
    ],
)
def test_normal_form(given_text: str, expected: str) -> None:
    assert normalise(given_text) == expected


@given(st.text(max_size=200))
def test_normal_form_is_reached_at_once(text: str) -> None:
    once = normalise(text)
    assert normalise(once) == once


@pytest.mark.parametrize(
    ("text", "declared", "kept"),
    [
        (RUSSIAN, "ru", True),
        (ENGLISH, "en", True),
        ("17 + 25 = 42", "ru", True),
        ("Сколько будет 6 + 5? Ответ: 11", "ru", True),
        ("Andrey lives in Krabinsk. For dinner Savely chooses borscht.", "en", True),
        ("Kuzmina: Mail address: orlov.p10@mail-example.ru. What is the name of the river?", "en", True),
        (ENGLISH, "ru", False),
        (RUSSIAN, "en", False),
        ("Київ є столицею України, він стоїть на Дніпрі, і в ньому живе багато людей.", "ru", False),
        ("Столицата на България е София и тя е голям град, в който живеят много хора.", "ru", False),
        ("La ville est au bord de la rivière, et beaucoup de gens y habitent depuis longtemps.", "en", False),
        ("Die Stadt liegt am Fluss, und viele Menschen wohnen dort seit langer Zeit.", "en", False),
    ],
)
def test_language_against_what_the_source_declares(text: str, declared: str, kept: bool) -> None:
    assert (identify(text, declared).declared >= 0.5) is kept


def test_language_identification_needs_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    from stages.corpus import language

    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("a network call")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    language._detector.cache_clear()
    assert identify(RUSSIAN, "ru").lang == "ru"


def test_short_text_is_not_cut() -> None:
    assert cut(RUSSIAN, 1000) == [RUSSIAN]
    assert cut("", 1000) == []


def test_cuts_fall_on_paragraphs_and_sizes_are_even() -> None:
    paragraphs = [f"Абзац {n}. " + RUSSIAN for n in range(40)]
    parts = cut("\n\n".join(paragraphs), 1000)
    assert "\n\n".join(parts) == "\n\n".join(paragraphs)
    assert all(part.startswith("Абзац") and len(part) <= 1000 for part in parts)
    assert min(map(len, parts)) > 400


@settings(max_examples=60)
@given(st.text(alphabet="аб. \n", max_size=600), st.integers(5, 80))
def test_cutting_loses_white_space_only(text: str, size: int) -> None:
    parts = cut(text, size)
    assert "".join("".join(parts).split()) == "".join(text.split())
    assert all(0 < len(part) <= size for part in parts)
