"""Decontamination: test items are found in their layout and out of it, and shared forms are not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stages.common.errors import UserError
from stages.corpus.contamination import TestItems, filled_inputs, prompt_words, protected_records
from stages.corpus.words import WordHasher, normal_words

HASHER = WordHasher()
INSTRUCTION = (
    "Прочитай внимательно вопрос ниже и выбери один верный вариант ответа из тех, что даны после него.\n"
    "{question}\nA) {a}\nB) {b}\nОтвет:"
)
QUESTION = "Какой из двух городов стоит на берегу большой северной реки Мокла у самых гор?"
PASSAGE = " ".join(f"предложение{n} рассказа" for n in range(30))


def _item(question: str, a: str = "Рудинск", b: str = "Громск") -> dict[str, Any]:
    return {"instruction": INSTRUCTION, "inputs": {"question": question, "a": a, "b": b}, "outputs": "A"}


def _hits(items: TestItems, text: str) -> int:
    return items.hits(HASHER(normal_words(text)))


def _filled(record: dict[str, Any]) -> str:
    return str(record["instruction"].format(**record["inputs"]))


def test_words_of_a_prompt_know_where_they_come_from() -> None:
    words, own = prompt_words({"instruction": "Вопрос: {q} Ответ {x}:", "inputs": {"q": "Сколько 2 + 2?"}})
    assert list(zip(words, own, strict=True)) == [
        ("вопрос", False),
        ("сколько", True),
        ("2", True),
        ("2", True),
        ("ответ", False),
        ("x", False),
    ]


def test_filled_inputs_of_every_shape() -> None:
    assert filled_inputs({"a": "один", "b": ["два", 3]}) == "один два 3"
    assert filled_inputs("текст") == "текст"


def test_an_item_is_found_in_its_layout_and_out_of_it() -> None:
    record = _item(QUESTION)
    items = TestItems([record], [], HASHER)
    assert items.counts == {"items": 1, "by_13_words": 1, "whole": 0, "too_short": 0}
    assert _hits(items, f"Было так. {_filled(record)} A. И дальше.") > 0
    assert _hits(items, f"Меня спросили: {QUESTION.upper()} Я не знал.") > 0


def test_a_part_of_a_long_passage_is_evidence() -> None:
    items = TestItems([_item(f"{PASSAGE} Кто герой?")], [], HASHER)
    assert _hits(items, " ".join(PASSAGE.split()[20:34])) > 0
    assert _hits(items, " ".join(PASSAGE.split()[20:32])) == 0


def test_the_instruction_alone_is_no_evidence() -> None:
    items = TestItems([_item(QUESTION)], [], HASHER)
    other = _item("Кто из братьев был старше и выше остальных?", "Иван", "Пётр")
    assert _hits(items, _filled(other)) == 0


def test_options_that_items_share_are_no_evidence() -> None:
    record = _item("По какой причине Денис заплатил штраф?", "громко пел ночью", "разбил витрину")
    items = TestItems([record], [], HASHER)
    sibling = _item("По какой причине Артём заплатил штраф?", "громко пел ночью", "разбил витрину")
    assert _hits(items, _filled(sibling)) == 0
    assert _hits(items, _filled(record)) > 0


def test_what_training_items_hold_is_forgiven() -> None:
    shared = _item(f"{PASSAGE} Кто герой?")
    items = TestItems([shared], [_item(f"{PASSAGE} Где он живёт?")], HASHER)
    assert _hits(items, PASSAGE) == 0


def test_short_inputs_must_stand_whole_and_shorter_ones_do_not_count() -> None:
    whole = {"instruction": "{inputs}\nОтвет:", "inputs": "Сколько дней в году, если он не високосный?"}
    sums = {"instruction": "{inputs}\nОтвет:", "inputs": "17 + 25 = "}
    items = TestItems([whole, sums], [], HASHER)
    assert items.counts == {"items": 2, "by_13_words": 0, "whole": 1, "too_short": 1}
    assert _hits(items, "Он спросил: сколько дней в году, если он не високосный? И ушёл.") > 0
    assert _hits(items, "Сколько дней в году, если он високосный? Посчитай сам, не спрашивай меня.") == 0
    assert _hits(items, "Известно, что 17 + 25 = 42, а 17 + 26 = 43.") == 0


def test_no_items_and_no_words() -> None:
    assert _hits(TestItems([], [], HASHER), "любой текст") == 0
    assert _hits(TestItems([_item(QUESTION)], [], HASHER), "") == 0


def test_protected_files_are_read_and_broken_ones_named(tmp_path: Path) -> None:
    path = tmp_path / "task.jsonl"
    path.write_text(json.dumps(_item(QUESTION), ensure_ascii=False) + "\n", encoding="utf-8")
    assert next(iter(protected_records([str(path)])))["inputs"]["question"] == QUESTION
    for line, part in (("{", "not JSON"), ('{"outputs": "A"}', "without the field `inputs`")):
        path.write_text('{"inputs": "a"}\n' + line + "\n", encoding="utf-8")
        with pytest.raises(UserError, match=part) as error:
            list(protected_records([str(path)]))
        assert "task.jsonl, line 2" in str(error.value)


def test_real_benchmarks_are_protected_and_classics_survive(shared_data: Path) -> None:
    folder = shared_data / "mera_human"
    names = ("rcb", "ruethics", "simplear", "rumultiar")
    records = list(protected_records([str(folder / f"{name}.jsonl") for name in names]))
    items = TestItems(records, [], HASHER)
    assert items.counts["items"] == len(records) > 1000
    found = 0
    long = [record for record in records if len(normal_words(filled_inputs(record["inputs"]))) >= 13]
    for record in long[:100]:
        found += _hits(items, f"Начало. {filled_inputs(record['inputs'])} Конец.") > 0
    assert found == min(len(long), 100)
