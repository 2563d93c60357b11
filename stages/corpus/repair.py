"""Repair of broken encodings and normal form of text."""

from __future__ import annotations

import functools
import re
import unicodedata
from typing import Any

# UTF-8 read as cp1251 looks like ordinary Cyrillic letters in an order that no language has.
_PAIRS = re.compile(r"[РС][\u00a0-\u00bf\u0402-\u040f\u0452-\u045f\u2018-\u203a\u20ac\u2116\u2122]")
# Nothing outside these characters means that there is nothing to repair: misread UTF-8 always has some.
_SOUND = re.compile(r"[ -%'-~\n\r\tА-яЁё«»—–…№“”’]*")
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u2060\ufeff]")
_SPACES = re.compile(r"[^\S\n]{2,}|[^\S\n ]")
_LINE_EDGE = re.compile(r" ?\n ?")
_BLANK_LINES = re.compile(r"\n{3,}")
_CONTROL = re.compile(r"[\u0000-\u0008\u000e-\u001f\u007f-\u0084\u0086-\u009f]")


@functools.cache
def _config() -> Any:
    import ftfy

    # Quotation marks, ligatures and full-width letters are style, not damage.
    return ftfy.TextFixerConfig(
        uncurl_quotes=False, fix_latin_ligatures=False, fix_character_width=False, unescape_html="auto"
    )


def repair(text: str) -> str:
    """Undo mojibake, HTML entities and terminal escapes with ftfy, line by line."""
    if _SOUND.fullmatch(text):
        return text
    import ftfy

    return ftfy.fix_text(text, _config())


def normalise(text: str) -> str:
    """NFC, LF, no control or invisible characters, single spaces, at most one blank line. Idempotent."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\u2028", "\n").replace("\u2029", "\n\n")
    text = _CONTROL.sub("", _INVISIBLE.sub("", text).replace("\x0b", "\n").replace("\x0c", "\n\n"))
    text = _SPACES.sub(" ", unicodedata.normalize("NFC", text))
    text = _BLANK_LINES.sub("\n\n", _LINE_EDGE.sub("\n", text))
    return text.strip()


def damage(text: str) -> float:
    """Signs of mojibake a character: replacement characters, ftfy's signs, and UTF-8 pairs read as cp1251."""
    if _SOUND.fullmatch(text):
        return 0.0
    from ftfy.badness import badness

    pairs = len(_PAIRS.findall(text))
    return (text.count("\ufffd") + badness(text) + (pairs if pairs > 2 else 0)) / max(len(text), 1)
