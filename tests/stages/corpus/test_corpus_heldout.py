"""The held-out split: whole works, about the share asked for, independent of order, never empty or all."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.corpus.heldout import Size, choose


def _sizes(works: dict[str, list[int]], subset: str = "s") -> list[Size]:
    return [
        Size(f"{work}#{part}", work, subset, chars)
        for work, parts in works.items()
        for part, chars in enumerate(parts)
    ]


@pytest.mark.parametrize("share", [0.01, 0.04, 0.2])
def test_share_of_characters(share: float) -> None:
    rng = random.Random(1)
    sizes = _sizes({f"w{n}": [rng.randrange(100, 900)] for n in range(2000)})
    held = choose(sizes, share)
    total = sum(size.chars for size in sizes)
    assert sum(size.chars for size in sizes if size.id in held) / total == pytest.approx(share, rel=0.02)


@given(
    st.dictionaries(
        st.text("abc", min_size=1, max_size=3), st.lists(st.integers(1, 50), min_size=1, max_size=4)
    ),
    st.floats(0.01, 0.5),
    st.randoms(),
)
def test_works_are_whole_and_order_is_nothing(
    works: dict[str, list[int]], share: float, rng: random.Random
) -> None:
    sizes = _sizes(works)
    held = choose(sizes, share)
    shuffled = list(sizes)
    rng.shuffle(shuffled)
    if len(works) > 1:
        assert choose(shuffled, share) == held
        assert 0 < len(held) < len(sizes)
        split = {size.work for size in sizes if size.id in held} & {s.work for s in sizes if s.id not in held}
        assert not split
    elif len(sizes) > 1:
        assert 0 < len(held) < len(sizes)
    else:
        assert not held


def test_every_subset_has_its_own() -> None:
    sizes = _sizes({f"a{n}": [10] for n in range(50)}, "a") + _sizes({"b1": [500], "b2": [90]}, "b")
    held = choose(sizes, 0.04)
    assert {size.subset for size in sizes if size.id in held} == {"a", "b"}
    assert "b2#0" in held


def test_one_long_work_gives_its_last_parts() -> None:
    assert choose(_sizes({"novel": [100] * 20}), 0.1) == {"novel#19", "novel#18"}
