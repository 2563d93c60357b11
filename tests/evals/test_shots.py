"""Which records are shown: the first ones or MERA's draw, of the same kind, never the item itself."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.errors import EvalError
from evals.records import Record
from evals.shots import Draw, Rule, choose


def _records(kinds: str, answered: str = "", prefix: str = "") -> list[Record]:
    answers = answered or "1" * len(kinds)
    return [
        Record("", "", answer.strip(), f"{prefix}{number}", "", "", {"domain": kind})
        for number, (kind, answer) in enumerate(zip(kinds, answers, strict=True))
    ]


def _ids(records: object) -> list[str]:
    return [record.id for record in records]  # type: ignore[attr-defined]


def test_without_a_train_split_the_first_answered_are_shots_and_not_scored() -> None:
    found = choose(_records("aaaaa", "1 111"), None, Rule(2), "f")
    assert (_ids(found.fixed), _ids(found.scored)) == (["0", "2"], ["1", "3", "4"])
    with pytest.raises(EvalError, match=r"f: 2 answered records, but `evaluate\.shots` asks for 3"):
        choose(_records("aa"), None, Rule(3), "f")


def test_alike_shots_are_set_aside_by_kind() -> None:
    found = choose(_records("abab"), None, Rule(1, alike="domain"), "f")
    assert _ids(found.scored) == ["2", "3"]
    assert {key: _ids(shots) for key, shots in (found.by_item or {}).items()} == {"2": ["0"], "3": ["1"]}


def test_an_item_whose_kind_has_no_shot_is_refused_by_name() -> None:
    with pytest.raises(EvalError, match=r"train: 0 answered records with meta\.domain `b`"):
        choose(_records("ab"), _records("aa", prefix="t"), Rule(1, alike="domain"), "train")


def test_meras_draw_is_one_seeded_stream_over_the_items() -> None:
    items, train = _records("abba"), _records("aaabbb", prefix="t")
    found = choose(items, train, Rule(1, alike="domain", draw="mera"), "f").by_item or {}
    stream = random.Random(1234)
    for item in items:
        pool = [record for record in train if record.meta["domain"] == item.meta["domain"]]
        assert _ids(found[item.id]) == _ids(stream.sample(pool, 1))


@given(st.integers(2, 12), st.sampled_from(["first", "mera"]))
def test_own_test_never_shows_the_item_and_scores_all(count: int, draw: Draw) -> None:
    records = _records("a" * count)
    found = choose(records, None, Rule(1, own_test=True, draw=draw), "f")
    assert _ids(found.scored) == _ids(records)
    shown = {key: _ids(shots) for key, shots in (found.by_item or {}).items()}
    assert all(key not in shots for key, shots in shown.items())
    if draw == "first":
        assert all(len(shots) == 1 for shots in shown.values())
    else:
        # An item that draws itself is left without a shot.
        stream = random.Random(1234)
        drawn = {record.id: stream.sample(records, 1)[0].id for record in records}
        assert shown == {key: [] if value == key else [value] for key, value in drawn.items()}
