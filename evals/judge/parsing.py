"""Verdicts read from a judge's words, Russian or English: JSON, brackets, a labelled line, a sentence.

The first of these that gives a verdict decides. Two different verdicts of the same standing are none: what
cannot be read for certain is unparsable, never a tie.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, TypeVar

Side = Literal["first", "second", "tie"]
Read = TypeVar("Read", Side, int)

_RESULTS = ("verdict", "result", "вердикт", "результат")
_PAIR_KEYS = frozenset(_RESULTS) | {
    *("winner", "better", "best", "answer", "preference", "choice", "better answer", "best answer"),
    *("победитель", "лучший", "лучше", "ответ", "выбор", "решение", "лучший ответ"),
}
_GRADE_KEYS = frozenset(_RESULTS) | {"grade", "score", "rating", "оценка", "балл", "баллы"}
_PAIR_LABEL = re.compile(
    r"^(?:(?:мой|итоговый|окончательный|final|my) )?(?:вердикт|победитель|выбор|решение|итог|результат|ответ|"
    r"лучший(?: ответ| вариант)?|лучше|verdict|winner|choice|result|answer|best(?: answer| response)?|"
    r"better(?: answer| response)?)\s*(?:[:=—–-]|\bis\b)\s*(.+)$"
)
_GRADE_LABEL = re.compile(
    r"^(?:(?:моя|итоговая|окончательная|общая|final|my|overall) )?"
    r"(?:оценка|балл|баллы|результат|вердикт|grade|score|rating|result|verdict)\s*(?:[:=—–-]|\bis\b)\s*(.+)$"
)
_NUMBER = r"(?:№|#|номер|number|no\.?)?\s*"
_NOUN = r"(?:ответ|вариант|модель|ассистент|answer|response|option|model|assistant)"
_NOUN_CASES = (
    r"(?:(?:ответ|вариант|ассистент)(?:а|у|ом|е)?|модел(?:ь|и|ью)|answer|response|option|model|assistant)"
)
# Names of the first and the second answer: in the nominative, in any case, and one that needs a noun.
_NAMES: dict[Side, tuple[str, str, str]] = {
    "first": (
        r"(?:1(?:-?(?:й|ый|st))?|первый|первая|first)",
        r"(?:1(?:-?(?:й|ый|го|му|м|st))?|перв(?:ый|ого|ому|ым|ом|ая|ую|ой)|first)",
        r"(?:a|а|один|one)",
    ),
    "second": (
        r"(?:2(?:-?(?:й|ой|nd))?|второй|вторая|second)",
        r"(?:2(?:-?(?:й|ой|го|му|м|nd))?|втор(?:ой|ого|ому|ым|ом|ая|ую)|second)",
        r"(?:b|б|два|two)",
    ),
}


def _named(noun: str, name: str, letter: str) -> str:
    either = f"(?:{name}|{letter})"
    return rf"(?:the )?(?:{noun} {_NUMBER}{either}|{_NUMBER}{name} {noun}|{_NUMBER}{name})"


# The nominative tells the better answer from what it is better than; a bare phrase may stand in any case.
_SIDES = {side: _named(_NOUN, names[0], names[2]) for side, names in _NAMES.items()}
_SIDES_CASES = {side: _named(_NOUN_CASES, *names[1:]) for side, names in _NAMES.items()}
_TIE = (
    r"(?:0|c|с|ничья|ничью|ничьей|ничьи|tie|draw|equal|поровну|равны|одинаковы|равноценны|равнозначны|"
    r"both|оба|both equal|оба равны|оба одинаковы)"
)
_VERY = (
    r"(?:(?:is|was|a|the|явно|намного|гораздо|значительно|чуть|немного|заметно|much|clearly|slightly|far) )*"
)
_WINS = r"(?:лучше|побеждает|победил|выигрывает|выиграл|предпочтительнее|better|best|wins|preferable)"
_LOSES = r"(?:хуже|проигрывает|проиграл|уступает|worse|loses)"
_CHOOSES = (
    r"(?:лучше|лучший|побеждает|победил|выигрывает|выиграл|выбираю|предпочитаю|prefer|choose|winner is|"
    r"the best is)"
)
_FAVOURS = r"(?:побед[ау] за|в пользу|предпочтение(?: отда\w+)?|голосую за|in favou?r of)"
_NEGATION = re.compile(r"\b(?:не|ни|нельзя|нет|not|neither|nor|no|cannot|can't|isn't|doesn't)\b")
_SAYS_TIE = (
    r"\bнич(?:ья|ью|ьей|ьи)\b|\bравноценны\b|\bравнозначны\b|"
    r"\b(?:ответы|оба)(?: \w+){0,2} (?:равны|одинаковы)\b|"
    r"\bодинаково (?:хорош|плох|верн|неверн)\w+|\b(?:a|is a|it's a) (?:tie|draw)\b|\bequally (?:good|bad)\b"
)
_DIGITS = {
    1: "один одна единица единицу one",
    2: "два двойка двойку two",
    3: "три тройка тройку three",
    4: "четыре четверка четверку four",
    5: "пять пятерка пятерку five",
}
_GRADE = re.compile(
    r"(?:(?:оценка|балл|grade|score)\s+)?(?P<grade>\w+)(?:\.0+)?"
    r"(?:\s*(?:/|из|out of)\s*(?P<top>\d+))?(?:\s*(?:балл\w{0,2}|points?))?"
)
_GIVES = re.compile(
    r"\b(?:ставлю|поставил бы|оцениваю(?: \w+)? (?:на|в)|оценка|score of|grade of|give it an?)\s+"
    r"(\w+(?:\s*(?:/|из|out of)\s*\d+)?)(?![.,]?\d)"
)


_BRACKETED = re.compile(r"(?:\[result\]|\[(?=\[))\s*\[?(\w+)", re.IGNORECASE)


def pair(text: str) -> Side | None:
    """The verdict on two answers, None when `text` holds none or several."""
    return _read(text, _PAIR_KEYS, _side, _PAIR_LABEL, _compared)


def grade(text: str, scale: Iterable[int]) -> int | None:
    """The grade of `scale` that `text` gives, None when it gives none, several or one outside the scale."""
    allowed = frozenset(scale)
    return _read(
        text,
        _GRADE_KEYS,
        lambda words: _number(words, allowed),
        _GRADE_LABEL,
        lambda line: _given(line, allowed),
    )


def plain(text: str) -> str:
    """Lower case without ё, Markdown, quotes and outer punctuation; single spaces."""
    text = re.sub(r"[*_`\"'«»“”„]|^(?:[#>\s]|-\s)+", "", text.casefold().replace("ё", "е"))
    return " ".join(text.split()).strip(" .,!;:()[]{}")


def _read(
    text: str,
    keys: frozenset[str],
    word: Callable[[str], Read | None],
    label: re.Pattern[str],
    sentence: Callable[[str], Iterable[Read]],
) -> Read | None:
    """The verdict of the first kind of place that holds any. `word` reads a phrase, `sentence` prose."""
    # A reasoning model weighs both sides aloud before it decides.
    text = text.rpartition("</think>")[2]
    if values := list(_json_values(text, keys)):
        return _only(word(plain(str(value))) for value in values)
    lines = [plain(line) for part in text.splitlines() for line in re.split(r"(?<=[.!?;])\s", part)]
    named = [match[1] for line in lines if (match := label.match(line))]
    places: list[Iterable[Read | None]] = [
        (
            word(plain(value))
            for value in re.findall(r"(?:\[result\]|\[(?=\[))\s*\[?(\w+)", text, re.IGNORECASE)
        ),
        [word(plain(text))],
        (_first(word(value), word(_opening(value)), _only(sentence(value))) for value in named),
        (found for line in lines for found in sentence(line)),
    ]
    for place in places:
        if found := {verdict for verdict in place if verdict is not None}:
            return _only(found)
    return None


def _first(*verdicts: Read | None) -> Read | None:
    return next((verdict for verdict in verdicts if verdict is not None), None)


def _opening(value: str) -> str:
    """What stands before the reasons that follow a verdict, unless those have figures of their own."""
    opening, _, rest = re.sub(r",\s|;|\s[—–-]\s|\s?\(|\.\s", "\n", value, count=1).partition("\n")
    return "" if re.search(r"\d", rest) else opening


def _only(verdicts: Iterable[Read | None]) -> Read | None:
    different = set(verdicts)
    return different.pop() if len(different) == 1 else None


def _json_values(text: str, keys: frozenset[str]) -> Iterator[Any]:
    """Strings and numbers under one of `keys` in every JSON object of `text`, in a code block or not."""
    decoder, start = json.JSONDecoder(), text.find("{")
    while start >= 0:
        try:
            value, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            end = start + 1
        else:
            for key, inner in value.items():
                known = plain(key.replace("_", " ")) in keys
                if known and isinstance(inner, str | int | float) and not isinstance(inner, bool):
                    yield inner
        start = text.find("{", end)


def _side(words: str) -> Side | None:
    """The verdict that a phrase is, from its first sign to its last."""
    if re.fullmatch(_TIE, words):
        return "tie"
    for side, named in _SIDES_CASES.items():
        if re.fullmatch(_NAMES[side][2], words) or re.fullmatch(rf"{named}(?: {_VERY}{_WINS})?", words):
            return side
    return None


def _compared(sentence: str) -> Iterator[Side]:
    """The verdicts of a sentence of prose; one after a negation says nothing for certain."""
    others: dict[Side, Side] = {"first": "second", "second": "first"}
    subjects: list[tuple[Side, str]] = [("tie", _SAYS_TIE)]
    objects: list[tuple[Side, str]] = []
    for side, named in _SIDES.items():
        subjects.append((side, rf"(?<!\w){named} {_VERY}{_WINS}\b"))
        subjects.append((others[side], rf"(?<!\w){named} {_VERY}{_LOSES}\b"))
        objects.append((side, rf"\b{_CHOOSES}\W+{named}(?!\w)"))
        objects.append((side, rf"\b{_FAVOURS}\W+{_SIDES_CASES[side]}(?!\w)"))
    # "Better than 2" names the other answer, so what follows a verb counts where nothing stands before it.
    yield from _stated(sentence, subjects) or _stated(sentence, objects)


def _stated(sentence: str, statements: Iterable[tuple[Side, str]]) -> list[Side]:
    return [
        side
        for side, pattern in statements
        if (match := re.search(pattern, sentence)) and not _NEGATION.search(sentence[: match.end()])
    ]


def _number(words: str, allowed: frozenset[int]) -> int | None:
    """The grade that a phrase is; a grade out of another number than the top of the scale is none."""
    match = _GRADE.fullmatch(words)
    if not match or (match["top"] and int(match["top"]) != max(allowed)):
        return None
    found = match["grade"]
    if re.fullmatch(r"[0-9]{1,3}", found):
        value = int(found)
    else:
        value = next((number for number, names in _DIGITS.items() if found in names.split()), -1)
    return value if value in allowed else None


def _given(sentence: str, allowed: frozenset[int]) -> Iterator[int]:
    """The grades that a sentence of prose gives."""
    if not _NEGATION.search(sentence):
        for words in _GIVES.findall(sentence):
            if (value := _number(words, allowed)) is not None:
                yield value
