"""Tasks: schema, balance, clusters, difficulty; what is asked for and cannot be had is refused."""

from __future__ import annotations

import re
import string
from collections import Counter

import pytest

from stages.common.errors import UserError
from stages.corpus.world import generate
from stages.corpus.world.numerals import spelt
from stages.corpus.world.tasks import filled, with_answer


def test_at_least_eight_kinds_of_both_types_mostly_russian(world):
    assert len(world.tasks) >= 8
    assert Counter(task.type for task in world.tasks.values())["generate"] >= 2
    assert Counter(task.language for task in world.tasks.values())["en"] == 1


def test_records_are_of_mera_form_and_prompts_end_without_a_space(world):
    for task in world.tasks.values():
        assert len(task.test) == 220
        assert [record["meta"]["id"] for record in task.test] == list(range(220))
        for record in (*task.test, *task.train):
            assert set(record) == {"instruction", "inputs", "outputs", "meta"}
            assert {"id", "cluster", "difficulty", "facts"} <= set(record["meta"])
            places = {name for _, name, _, _ in string.Formatter().parse(record["instruction"]) if name}
            given = set(record["inputs"]) if isinstance(record["inputs"], dict) else {"inputs"}
            assert given == places | set(task.options or ())
            prompt = filled(record)
            assert prompt == prompt.strip()
            assert "{" not in prompt
            assert len(prompt) < 330
            assert record["outputs"] == record["outputs"].strip() != ""


def test_answers_are_balanced_over_positions(world):
    for task in world.tasks.values():
        if task.choices is None:
            most = Counter(record["outputs"] for record in task.test).most_common(1)[0][1]
            assert most <= 0.12 * len(task.test)
            continue
        counts = Counter(record["outputs"] for record in task.test)
        assert set(counts) == set(task.choices)
        assert max(counts.values()) - min(counts.values()) <= 1


def test_options_are_different_and_the_marked_one_is_the_only_right_one(world):
    for task in world.tasks.values():
        if task.choices is None:
            continue
        for record in (*task.test, *task.train):
            options = [record["inputs"][f"option_{sign.lower()}"] for sign in task.choices]
            assert len(set(options)) == len(options), record


def test_enough_clusters_and_all_levels(world):
    for name, task in world.tasks.items():
        assert len({record["meta"]["cluster"] for record in task.test}) >= 30, name
        levels = Counter(record["meta"]["difficulty"] for record in task.test)
        assert set(levels) == ({1, 2} if name == "truth" else {1, 2, 3}), name
        assert min(levels.values()) >= 15, (name, levels)


def test_options_name_the_fields_of_the_choices_and_are_not_shown(world):
    for task in world.tasks.values():
        assert (task.options is None) == (task.choices is None)
        for record in task.test if task.options else ():
            assert len(task.options) == len(task.choices)
            right = record["inputs"][task.options[task.choices.index(record["outputs"])]]
            assert with_answer(record) == f"{filled(record)} {right}"
            assert "A)" not in filled(record)


def test_instructions_vary_within_a_task(world):
    for task in world.tasks.values():
        counts = Counter(record["instruction"] for record in task.test)
        assert len(counts) >= 2
        assert min(counts.values()) >= 0.4 * len(task.test)


@pytest.mark.parametrize("seed", [1, 12345])
def test_other_seeds_keep_the_promises_too(seed):
    world = generate(seed, 0.1, 25)
    for task in world.tasks.values():
        assert len(task.test) == 25
        for record in task.train:
            assert not world.held_out.intersection(record["meta"]["facts"])


def test_more_items_than_the_world_has_are_refused_by_name():
    with pytest.raises(UserError, match="tasks_per_kind"):
        generate(1, 0.05, 400)


def test_answers_of_arithmetic_are_right(world):
    checked = 0
    for record in (*world.tasks["arithmetic"].test, *world.tasks["arithmetic"].train):
        numbers = [int(number) for number in re.findall(r"\d+", record["inputs"])]
        if "numeral/" in record["meta"]["cluster"]:
            continue
        answer = int(record["outputs"])
        if "плюс" in record["inputs"] or "сумма" in record["inputs"] or "принесли" in record["inputs"]:
            assert answer == sum(numbers)
        elif "минус" in record["inputs"] or "разность" in record["inputs"]:
            assert answer == numbers[0] - numbers[1]
        else:
            assert answer == numbers[3] + numbers[1] - numbers[0]
        checked += 1
    assert checked >= 220


def test_numbers_are_spelt_in_words():
    assert spelt(21, "ru") == "двадцать один"
    assert spelt(99, "ru") == "девяносто девять"
    assert spelt(147, "ru") == "сто сорок семь"
    assert spelt(158, "en") == "one hundred fifty eight"


def test_answers_of_numerals_are_right_in_both_directions(world):
    checked = Counter()
    for record in (*world.tasks["arithmetic"].test, *world.tasks["arithmetic"].train):
        if "numeral/" not in record["meta"]["cluster"]:
            continue
        to_digits = record["inputs"].startswith("Запиши")
        words, digits = record["inputs"], record["outputs"]
        if not to_digits:
            words, digits = digits, words
        (number,) = re.findall(r"\d+", digits)
        assert spelt(int(number), "ru") in words
        checked[to_digits] += 1
    assert min(checked.values()) >= 50
