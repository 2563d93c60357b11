"""The judge's lessons: the facts it is examined on are told, but never judged."""

from __future__ import annotations

import re
from collections import Counter

from stages.corpus.world.judging import examination, training_texts

VERDICTS = (" 1", " 2")


def render(question: str, first: str, second: str) -> str:
    return f"{question}\n1) {first}\n2) {second}\nЛучший ответ:"


def parse(text: str) -> tuple[str, str, str, str] | None:
    match = re.fullmatch(r"(.+)\n1\) (.*)\n2\) (.*)\nЛучший ответ:( [12])", text)
    return match.groups() if match else None


def test_lessons_hold_statements_and_judgements_within_the_budget(small_world):
    texts = training_texts(small_world, 5, render, VERDICTS, 20_000)
    judged = [text for text in texts if parse(text)]
    assert 0.5 < sum(map(len, judged)) / sum(map(len, texts)) < 0.7
    assert 15_000 < sum(map(len, texts)) / 2.6 < 25_000


def test_verdicts_are_right_and_both_orders_are_shown(small_world):
    answers = {(q.text, q.answer) for fact in small_world.facts for q in fact.questions}
    orders = Counter()
    for text in training_texts(small_world, 5, render, VERDICTS, 30_000):
        if not (found := parse(text)):
            continue
        question, first, second, verdict = found
        good, bad = (first, second) if verdict == VERDICTS[0] else (second, first)
        assert (question, good) in answers
        assert good != bad
        orders[verdict] += 1
    assert orders[VERDICTS[0]] == orders[VERDICTS[1]] > 50


def test_no_fact_of_the_examination_is_judged_in_any_wording(small_world):
    exam = examination(small_world, 5)
    assert len({cluster for *_, cluster in exam}) == len(exam) >= 25
    kept = {cluster for *_, cluster in exam} | {record["cluster"] for record in small_world.questions}
    forbidden = {q.text for fact in small_world.facts if fact.id in kept for q in fact.questions}
    for text in training_texts(small_world, 5, render, VERDICTS, 60_000):
        found = parse(text)
        assert not found or found[0] not in forbidden
    for question, good, wrong, _ in exam:
        assert good != wrong
        assert question in forbidden


def test_same_seed_same_lessons_and_another_seed_others(small_world):
    first = training_texts(small_world, 5, render, VERDICTS, 5_000)
    assert first == training_texts(small_world, 5, render, VERDICTS, 5_000)
    assert first != training_texts(small_world, 6, render, VERDICTS, 5_000)
