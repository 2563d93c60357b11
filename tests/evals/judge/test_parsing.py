"""Verdicts in a judge's words: what is said for certain is read, all else is none."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.judge import parsing

PAIRS = {
    "first": [
        *(
            "1",
            "1.",
            "Ответ 1",
            "**Ответ №1**",
            "ПЕРВЫЙ",
            "первый ответ",
            "[[A]]",
            "[[1]]",
            "[RESULT] 1",
            "Answer A",
        ),
        *(
            "Вердикт: первый",
            "Лучший ответ — первый.",
            "Ответ 1 лучше, чем ответ 2.",
            "Первый явно лучше второго",
        ),
        *(
            "The first answer is better.",
            "I choose answer 1.",
            "Победа за ответом 1.",
            "Ответ 2 хуже первого.",
        ),
        "Ответ 1 лучше ответа 2, потому что не содержит ошибок.",
        "Оба по делу.\nИтог: 1, он полнее",
        "<think>Кажется, ответ 2 лучше. Нет, всё-таки нет.</think>\n1",
    ],
    "second": [
        *(
            "2",
            "Ответ 2",
            "второй",
            "Второго",
            "Вариант 2",
            "[[B]]",
            "Ответ Б",
            "Verdict: 2",
            "лучше второй ответ",
        ),
        *(
            "Предпочтение отдаю второму ответу.",
            "Response 2 is clearly better",
            "Answer 2 is a better answer.",
        ),
        "Плох первый, а лучше второй.",
    ],
    "tie": [
        *("0", "Ничья", "ничью", "Вердикт: ничья.", "Они равноценны", "Оба ответа одинаковы", "[[C]]", "tie"),
        *("It's a tie.", "Ответы одинаково хороши", "Поровну", "Both answers are equally bad."),
    ],
}
NO_PAIR = [
    *("", "не знаю", "1 и 2", "Ответ 1 не лучше", "Ни один ответ не лучше", "3", "ответ 3", "{", "Не ничья"),
    "Ответ 1: Париж\nОтвет 2: Лион",
    "Ответ 1 лучше по стилю. Ответ 2 лучше по сути.",
    '{"verdict": "1"} {"verdict": "2"}',
    '{"verdict": "не уверен"}, хотя ответ 1 лучше',
    "Вердикт: 1\nВердикт: 2",
    "Один лучше, а другой хуже",
    "A better answer would be longer",
]
GRADES = {
    4: [
        *(
            "4",
            "4/5",
            "4 из 5",
            "Оценка: **4**",
            "Четыре",
            "четвёрка",
            "Ставлю 4 из 5.",
            "[[4]]",
            "[RESULT] 4",
        ),
        *(
            "Оценка: 4 балла, так как есть мелочи",
            '```json\n{"grade": 4}\n```',
            '{"оценка": "4"}',
            "Grade: 4 out of 5",
        ),
        *("I give it a 4.", '{"score": 4.0}'),
    ],
    5: ["пятёрка", "Оценка: пять"],
}
NO_GRADE = [
    *(
        "",
        "7",
        "-1",
        "4/10",
        "4.5",
        "Оценка: 4,5",
        "Оценка 4.5",
        "4 или 5",
        "не 4",
        '{"grade": 9}',
        "Оценка: 2\nОценка: 3",
    ),
    '{"grade": true}',
]


@pytest.mark.parametrize(("text", "side"), [(text, side) for side, texts in PAIRS.items() for text in texts])
def test_verdicts_on_pairs(text: str, side: str) -> None:
    assert parsing.pair(text) == side


@pytest.mark.parametrize("text", NO_PAIR)
def test_what_names_no_side_or_both_is_no_verdict(text: str) -> None:
    assert parsing.pair(text) is None


@pytest.mark.parametrize(
    ("text", "grade"), [(text, grade) for grade, texts in GRADES.items() for text in texts]
)
def test_grades(text: str, grade: int) -> None:
    assert parsing.grade(text, range(1, 6)) == grade


@pytest.mark.parametrize("text", NO_GRADE)
def test_what_is_no_grade_of_the_scale_is_none(text: str) -> None:
    assert parsing.grade(text, range(1, 6)) is None


words = st.sampled_from([(text, side) for side, texts in PAIRS.items() for text in texts if "<" not in text])


@given(
    words,
    st.sampled_from([str, str.upper, str.lower, str.title]),
    st.sampled_from(["{}", " {}\n", "«{}»", "**{}**", "> {}"]),
)
def test_case_yo_and_dressing_change_nothing(word: tuple[str, str], case: object, dress: str) -> None:
    text, side = word
    assert callable(case)
    assert parsing.pair(dress.format(case(text).replace("е", "ё"))) in (side, None)
    assert parsing.pair(dress.format(case(text))) == side


@given(
    st.sampled_from(["1", "2", "0", "ничья", "первый", "Ответ 2"]),
    st.sampled_from(["verdict", "Вердикт", "winner", "Лучший ответ", "better_answer"]),
    st.sampled_from(["{}", "```json\n{}\n```", "Вот мой ответ:\n{}\nСпасибо!"]),
    st.dictionaries(st.sampled_from(["reason", "почему"]), st.text(max_size=20)),
)
def test_json_is_read_wherever_it_stands(value: str, key: str, frame: str, more: dict[str, str]) -> None:
    found = parsing.pair(frame.format(json.dumps({**more, key: value}, ensure_ascii=False)))
    assert found == parsing.pair(value) is not None


@given(st.integers(-20, 120), st.integers(0, 4), st.integers(2, 5))
def test_a_grade_is_read_if_and_only_if_it_is_on_the_scale(grade: int, low: int, length: int) -> None:
    scale = range(low, low + length)
    expected = grade if grade in scale else None
    for text in (f"{grade}", f"Оценка: {grade}", f'{{"grade": {grade}}}', f"{grade} балла"):
        assert parsing.grade(text, scale) == expected


@given(st.text())
def test_any_text_is_a_verdict_or_none(text: str) -> None:
    assert parsing.pair(text) in ("first", "second", "tie", None)
    assert parsing.grade(text, range(1, 6)) in (1, 2, 3, 4, 5, None)


@given(st.text(alphabet="абвгдежзклмнпрстуфхцчш \n.,!", max_size=60))
def test_words_without_a_verdict_are_never_a_tie(text: str) -> None:
    if not any(word in text for word in ("нич", "рав", "одинак", "поровн", "оба")):
        assert parsing.pair(text) != "tie" or text.strip(" \n.,!") == "с"
