"""Labelled pairs: both forms of file, the majority, turning, and finding the same comparison again."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from judge_fakes import make_pairs

from evals.errors import EvalError
from evals.judge import labelled
from evals.judge.labelled import Labelled
from evals.judge.verdicts import Outcome, Pair

PAIR = Pair("a", "c", "Что?", "это", "то", "это")
OUTCOMES: list[Outcome] = ["ours", "theirs", "tie"]


def voted(*outcomes: Outcome) -> Labelled:
    return Labelled(PAIR, tuple((f"r{place}", outcome) for place, outcome in enumerate(outcomes)))


@pytest.mark.parametrize(
    ("votes", "truth"),
    [
        (("ours",), "ours"),
        (("ours", "theirs"), "tie"),
        (("theirs", "tie", "theirs"), "theirs"),
        (("tie", "tie", "ours"), "tie"),
        (("ours", "theirs", "tie"), "tie"),
    ],
)
def test_the_most_votes_decide_and_an_even_split_is_a_tie(votes: tuple[Outcome, ...], truth: str) -> None:
    assert voted(*votes).truth == truth


@given(st.lists(st.sampled_from(OUTCOMES), min_size=1, max_size=6))
def test_turning_twice_changes_nothing_and_once_mirrors_the_truth(votes: list[Outcome]) -> None:
    item = voted(*votes)
    assert item.turned().turned() == item
    assert labelled.VALUE[item.turned().truth] == 1 - labelled.VALUE[item.truth]


def test_the_generators_truth_is_on_either_side() -> None:
    known = labelled.generated(make_pairs(60))
    sides = [item.truth for item in known]
    assert 15 < sides.count("ours") < 45 and "tie" not in sides
    for item, pair in zip(known, make_pairs(60), strict=True):
        assert (item.pair.ours if item.truth == "ours" else item.pair.theirs) == pair.ours


def test_labels_are_found_by_text_in_either_order() -> None:
    same = Pair("x", "x", " Что? ", "это", "то")
    turned = Pair("y", "y", "Что?", "то", "это")
    other = Pair("z", "z", "Что?", "это", "иное")
    assert labelled.labels_of([voted("ours")], [same, turned, other]) == [1.0, 0.0, None]


def test_equal_answers_are_a_tie_whatever_their_label() -> None:
    equal = Labelled(Pair("a", "c", "Что?", "это", "это"), (("gold", "theirs"),))
    assert labelled.labels_of([equal], [Pair("x", "x", "Что?", "это", "это")]) == [0.5]


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    path.write_text(labelled.text([voted("ours", "tie")]), encoding="utf-8")
    assert labelled.read([path]) == [voted("ours", "tie")]


def test_llmbars_form_is_read_compressed_too(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl.gz"
    rows = [
        {"id": f"i{label}", "input": "?", "output_1": "x", "output_2": "y", "label": label}
        for label in (1, 2)
    ]
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    found = labelled.read([path])
    assert [(item.pair.id, item.pair.ours, item.truth) for item in found] == [
        ("i1", "x", "ours"),
        ("i2", "x", "theirs"),
    ]


OWN: dict[str, Any] = {
    **{name: name for name in ("id", "cluster", "question", "ours", "theirs")},
    "votes": {"anna": "ours"},
}
LLMBAR = {"id": "a", "input": "?", "output_1": "x", "output_2": "y", "label": 1}


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], "no labelled pair there"),
        ([OWN, OWN], ":2: item id is there twice"),
        ([{**OWN, "votes": {}}], "`votes` must map one rater or more to ours, theirs, tie"),
        ([{**OWN, "votes": {"anna": "1"}}], "`votes` must map"),
        ([{**OWN, "ours": 3}], "field `ours` must be text"),
        ([[1]], "expected an object"),
        ([{"id": "a", "output_1": "x"}], "field `input` is missing"),
        ([{**OWN, "theirs": " ours "}], ":1: the two answers are equal"),
        ([{**LLMBAR, "label": True}], "`label` is True; it must be 1 or 2"),
    ],
)
def test_a_broken_file_is_one_line(tmp_path: Path, rows: list[Any], said: str) -> None:
    path = tmp_path / "labels.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with pytest.raises(EvalError) as error:
        labelled.read([path])
    assert said in str(error.value) and "\n" not in str(error.value)
