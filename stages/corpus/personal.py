"""Personal data: found by form, context and check digits, replaced by placeholders, counted, never logged.

A form that random digits meet often (INN of 10 digits: 1 in 10) counts only beside a word that names it; a
form with separators or a strong check stands for itself. The list is what Federal Law 152-FZ calls personal
data and a pattern can find; names of people need a model and are left alone.
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from stages.corpus import check_digits

PLACEHOLDERS = {
    "email": ("[ПОЧТА]", "[EMAIL]"),
    "handle": ("[АККАУНТ]", "[HANDLE]"),
    "ip": ("[IP-АДРЕС]", "[IP]"),
    "passport": ("[ПАСПОРТ]", "[PASSPORT]"),
    "account": ("[СЧЁТ]", "[ACCOUNT]"),
    "card": ("[КАРТА]", "[CARD]"),
    "snils": ("[СНИЛС]", "[SNILS]"),
    "inn": ("[ИНН]", "[INN]"),
    "ogrn": ("[ОГРН]", "[OGRN]"),
    "phone": ("[ТЕЛЕФОН]", "[PHONE]"),
    "plate": ("[ГОСНОМЕР]", "[PLATE]"),
}
CONTEXT = 40  # characters before a number that may name it
_POSSIBLE = re.compile(
    r"@|t\.me/|(?:\d[\s()./-]*){5}|[АВЕКМНОРСТУХ]\d{3}|[0-9a-fA-F]:[0-9a-fA-F:]*:|\d\.\d+\.\d"
)
_BIK = re.compile(r"(?<!\d)04\d{7}(?!\d)")

Named = Callable[[str], bool]
Check = Callable[[str, str, str], bool]  # of (match, what stands before it, whole text)


@dataclass(frozen=True)
class Find:
    """A place in the text: `kind` of PLACEHOLDERS, characters `start` to `end`."""

    kind: str
    start: int
    end: int


def _named(pattern: str) -> Named:
    compiled = re.compile(pattern, re.IGNORECASE)
    return lambda before: compiled.search(before) is not None


_SAYS_INN = _named(r"\bинн\b|\binn\b|taxpayer|\btin\b")
_SAYS_SNILS = _named(r"\bснилс|\bsnils|страхов\w+ (?:номер|свидетельств)|insurance")
_SAYS_OGRN = _named(r"\bогрн|\bogrn|registration n")
_SAYS_CARD = _named(r"\bкарт[аыеуо]|\bcard|\bvisa\b|\bmastercard\b|\bмир\b|\bmir\b")
_SAYS_PASSPORT = _named(r"паспорт|\bсери[яию]|passport")
_SAYS_PHONE = _named(r"\bтел\b|\bтел\.|телефон|звон|моб|факс|whats\s?app|phone|\bcall|\btel\b|mobile|\bfax")
_SAYS_ACCOUNT = _named(r"\bр/с|\bк/с|сч[её]т|\baccount|\bacc\b|iban")
_SAYS_VERSION = _named(r"верси\w*\s*$|version\s*$|\bv\.?\s*$|release\s*$|раздел\w*\s*$|section\s*$|п\.\s*$")
_SAYS_HANDLE = _named(
    r"(?:телеграм\w*|telegram|\btg|\bтг|инстаграм\w*|instagram|twitter|skype|скайп)\W{0,6}(?:@)?$"
)


def _ip(value: str, before: str, text: str) -> bool:  # noqa: ARG001
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        return False
    return not (_SAYS_VERSION(before) or address.is_loopback or address.is_unspecified)


def _card(value: str, before: str, text: str) -> bool:  # noqa: ARG001
    digits = re.sub(r"\D", "", value)
    if not check_digits.luhn(digits):
        return False
    strong = len(digits) == 16 and digits[0] in "23456"
    return strong or _SAYS_CARD(before)


def _snils(value: str, before: str, text: str) -> bool:  # noqa: ARG001
    if not check_digits.snils(value):
        return False
    return not value.isdigit() or _SAYS_SNILS(before)


def _inn(value: str, before: str, text: str) -> bool:  # noqa: ARG001
    return check_digits.inn(value) and (len(value) == 12 or _SAYS_INN(before))


def _ogrn(value: str, before: str, text: str) -> bool:  # noqa: ARG001
    return check_digits.ogrn(value) and _SAYS_OGRN(before)


def _always(value: str, before: str, text: str) -> bool:  # noqa: ARG001
    return True


def _beside(named: Named) -> Check:
    return lambda value, before, text: named(before)  # noqa: ARG005


def _phone(value: str, before: str, text: str) -> bool:  # noqa: ARG001
    digits = re.sub(r"\D", "", value)
    if value.startswith("+"):
        return 10 <= len(digits) <= 15
    bare = value.isdigit()
    russian = len(digits) == 11 and digits[0] in "78"
    return (russian and not (bare and digits[:2] not in ("89", "79"))) or _SAYS_PHONE(before) or "(" in value


def _account(value: str, before: str, text: str) -> bool:
    return _SAYS_ACCOUNT(before) or any(check_digits.account(value, bik) for bik in _BIK.findall(text))


_RULES: tuple[tuple[str, re.Pattern[str], Check], ...] = (
    (
        "email",
        re.compile(r"(?<![\w.+-])[\w.+-]+@[\w-]+(?:\.[\w-]+)+(?<![.-])"),
        _always,
    ),
    ("handle", re.compile(r"(?<![\w/])(?:https?://)?t\.me/\w{4,32}"), _always),
    ("handle", re.compile(r"(?<![\w@])@[A-Za-z]\w{3,31}"), _beside(_SAYS_HANDLE)),
    ("ip", re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.]*\d)"), _ip),
    ("ip", re.compile(r"(?<![\w:])(?:[0-9a-fA-F]{0,4}:){2,7}[0-9a-fA-F]{1,4}(?![\w:])"), _ip),
    (
        "passport",
        re.compile(r"(?<!\d)\d{2}\s?\d{2}[\s,]*(?:№|N|номер|no\.?|number)?\s*\d{6}(?!\d)", re.IGNORECASE),
        _beside(_SAYS_PASSPORT),
    ),
    ("account", re.compile(r"(?<!\d)[34]\d{19}(?!\d)"), _account),
    ("card", re.compile(r"(?<![\d+-])\d{4}(?:[ -]\d{4}){2}[ -]\d{1,7}(?![\d-]*\d)"), _card),
    ("card", re.compile(r"(?<![\d+])\d{13,19}(?!\d)"), _card),
    ("snils", re.compile(r"(?<!\d)\d{3}[- ]\d{3}[- ]\d{3}[- ]\d{2}(?!\d)|(?<![\d+])\d{11}(?!\d)"), _snils),
    ("inn", re.compile(r"(?<![\d+])(?:\d{12}|\d{10})(?!\d)"), _inn),
    (
        "ogrn",
        re.compile(r"(?<!\d)(?:\d{15}|\d{13})(?!\d)"),
        _ogrn,
    ),
    ("phone", re.compile(r"(?<![\w+])\+7(?:[ \u00a0().-]{0,2}\d){10}(?!\d)"), _phone),
    ("phone", re.compile(r"(?<![\w+])\+[1-9](?:[ \u00a0().-]{0,2}\d){9,14}(?!\d)"), _phone),
    (
        "phone",
        re.compile(r"(?<![\d+.,-])[78][ -]?\(?\d{3}\)?[ -]?\d{3}[ -]?\d{2}[ -]?\d{2}(?![\d]|[.,]\d)"),
        _phone,
    ),
    ("phone", re.compile(r"(?<![\d+.,-])(?:\(\d{3,5}\) ?|\d{3}-)\d{2,3}-\d{2,4}(?:-\d{2})?(?!-?\d)"), _phone),
    (
        "phone",
        re.compile(r"(?<![\d+.,-])\d{2,3}-\d{2}-\d{2}(?!-?\d)"),
        _beside(_SAYS_PHONE),
    ),
    (
        "plate",
        re.compile(r"(?<!\w)[АВЕКМНОРСТУХ]\s?\d{3}\s?[АВЕКМНОРСТУХ]{2}\s?\d{2,3}(?!\w)"),
        _always,
    ),
)


def find(text: str) -> list[Find]:
    """Places of personal data in `text`, in order, without overlaps; an earlier rule wins over a later."""
    if not _POSSIBLE.search(text):
        return []
    found: list[Find] = []
    for kind, pattern, check in _RULES:
        for match in pattern.finditer(text):
            place = Find(kind, *match.span())
            before = text[max(0, place.start - CONTEXT) : place.start]
            if check(match[0], before, text) and not any(_overlap(place, other) for other in found):
                found.append(place)
    return sorted(found, key=lambda place: place.start)


def _overlap(a: Find, b: Find) -> bool:
    return a.start < b.end and b.start < a.end


def redact(text: str, language: str) -> tuple[str, Counter[str]]:
    """(`text` with typed placeholders in the language of the document, counts by kind)."""
    counts: Counter[str] = Counter()
    # What two matches shared belongs to one of them; the rest of the other may need a second look.
    while found := find(text):
        text = "".join(_pieces(text, found, language))
        counts.update(place.kind for place in found)
    return text, counts


def _pieces(text: str, found: list[Find], language: str) -> Iterator[str]:
    end = 0
    for place in found:
        yield text[end : place.start]
        yield PLACEHOLDERS[place.kind][language != "ru"]
        end = place.end
    yield text[end:]
