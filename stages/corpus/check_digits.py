"""Check digits of Russian identifiers and of payment cards."""

from __future__ import annotations

from collections.abc import Sequence

_INN_10 = (2, 4, 10, 3, 5, 9, 4, 6, 8)
_INN_11 = (7, *_INN_10)
_INN_12 = (3, *_INN_11)
_ACCOUNT = (7, 1, 3)
_SNILS_WITHOUT_CHECK = 1_001_998


def _digits(number: str) -> list[int]:
    return [int(char) for char in number if char.isdigit()]


def _weighted(digits: Sequence[int], weights: Sequence[int]) -> int:
    return sum(digit * weight for digit, weight in zip(digits, weights, strict=False))


def inn(number: str) -> bool:
    """Taxpayer number of 10 digits (organisations) or 12 (persons): weighted sum mod 11 mod 10."""
    digits = _digits(number)
    match len(digits):
        case 10:
            return _weighted(digits, _INN_10) % 11 % 10 == digits[9]
        case 12:
            first = _weighted(digits, _INN_11) % 11 % 10 == digits[10]
            return first and _weighted(digits, _INN_12) % 11 % 10 == digits[11]
    return False


def snils(number: str) -> bool:
    """Insurance number of 11 digits: sum of digit * (9..1) mod 101, 100 as 00; early ones carry no check."""
    digits = _digits(number)
    if len(digits) != 11:
        return False
    if int("".join(map(str, digits[:9]))) <= _SNILS_WITHOUT_CHECK:
        return False
    check = _weighted(digits, range(9, 0, -1)) % 101 % 100
    return check == digits[9] * 10 + digits[10]


def ogrn(number: str) -> bool:
    """State registration number: 13 digits (first 12 mod 11 mod 10) or 15 (first 14 mod 13 mod 10)."""
    digits = "".join(map(str, _digits(number)))
    modulus = {13: 11, 15: 13}.get(len(digits))
    return modulus is not None and int(digits[:-1]) % modulus % 10 == int(digits[-1])


def luhn(number: str) -> bool:
    """Payment card number of 13 to 19 digits (ISO/IEC 7812-1, annex B)."""
    digits = _digits(number)
    if not 13 <= len(digits) <= 19 or not any(digits):
        return False
    doubled = [digit * 2 - 9 * (digit > 4) for digit in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def account(number: str, bik: str) -> bool:
    """Account of 20 digits at the bank `bik`: weights 7, 1, 3 over the bank's last 3 digits and its own."""
    digits = _digits(bik)[-3:] + _digits(number)
    if len(digits) != 23 or len(_digits(bik)) != 9:
        return False
    return sum(digit * _ACCOUNT[place % 3] % 10 for place, digit in enumerate(digits)) % 10 == 0
