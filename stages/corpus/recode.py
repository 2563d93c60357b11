"""Russian text that was read in the wrong single-byte encoding; ftfy mends UTF-8 only."""

from __future__ import annotations

# (encoding it was read in, encoding it was written in), the frequent accidents first.
_ACCIDENTS = (
    ("cp1252", "cp1251"),
    ("latin-1", "cp1251"),
    ("cp1251", "koi8-r"),
    ("koi8-r", "cp1251"),
    ("cp1251", "cp866"),
    ("cp866", "cp1251"),
    ("koi8-r", "utf-8"),
    ("cp866", "utf-8"),
)
_FREQUENT = frozenset("и в на не с что по а к это как из у за от он до для его был".split())


def frequent_share(text: str) -> float:
    """Share of the words of `text` that are among the most frequent of Russian; about 0.2 in prose."""
    words = text.casefold().split()
    return sum(word in _FREQUENT for word in words) / max(len(words), 1)


def recodings(text: str) -> list[str]:
    """What `text` may have been before it was read in the wrong encoding, likeliest accident first."""
    found = []
    for read, written in _ACCIDENTS:
        try:
            found.append(text.encode(read).decode(written))
        except UnicodeError:
            continue
    return found
