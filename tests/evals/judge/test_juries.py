"""Juries: majority and mean, a quorum, who voted what."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from judge_fakes import Planted, make_pairs

from evals.errors import EvalError
from evals.judge.juries import Jury
from evals.judge.verdicts import Grade, Missing, Single, Verdict

Vote = tuple[float, float] | None


def jury(*votes: Vote) -> Jury:
    return Jury("jury", tuple(Planted(f"j{i}", lambda _, vote=vote: vote) for i, vote in enumerate(votes)))


OURS, THEIRS, FIRST = (1.0, 1.0), (0.0, 0.0), (1.0, 0.0)


@pytest.mark.parametrize(
    ("votes", "outcome"),
    [
        ((OURS, OURS, THEIRS), "ours"),
        ((OURS, THEIRS, THEIRS), "theirs"),
        ((OURS, THEIRS), "tie"),
        ((OURS, THEIRS, FIRST), "tie"),
        ((OURS, OURS, None), "ours"),
        ((OURS, THEIRS, None, OURS), "ours"),
    ],
)
def test_the_majority_of_those_who_voted_decides(votes: tuple[Vote, ...], outcome: str) -> None:
    (verdict,) = jury(*votes).pairs(make_pairs(1))
    assert isinstance(verdict, Verdict)
    assert verdict.outcome == outcome


@pytest.mark.parametrize("votes", [(None, OURS), (None, None, OURS), (None, None)])
def test_half_of_the_judges_is_no_quorum(votes: tuple[Vote, ...]) -> None:
    (missing,) = jury(*votes).pairs(make_pairs(1))
    assert isinstance(missing, Missing)
    assert missing.kind == "quorum"
    assert f"{sum(vote is not None for vote in votes)} of {len(votes)}" in missing.reason


def test_orders_are_decided_apart_so_that_position_bias_shows() -> None:
    (verdict,) = jury(FIRST, FIRST, OURS).pairs(make_pairs(1))
    assert isinstance(verdict, Verdict)
    assert (verdict.p_first, verdict.p_second, verdict.consistent) == (1.0, 0.0, False)


def test_every_vote_is_kept_by_name() -> None:
    (ballot,) = jury(OURS, None, THEIRS).pair_ballots(make_pairs(1))
    votes = dict(ballot.votes)
    assert list(votes) == ["j0", "j1", "j2"]
    assert isinstance(votes["j1"], Missing)
    assert isinstance(votes["j2"], Verdict) and votes["j2"].outcome == "theirs"


@given(st.lists(st.sampled_from([OURS, THEIRS, FIRST, None]), min_size=2, max_size=5), st.randoms())
def test_the_order_of_the_judges_does_not_matter(votes: list[Vote], draw: object) -> None:
    shuffled = list(votes)
    draw.shuffle(shuffled)  # type: ignore[attr-defined]
    assert jury(*votes).pairs(make_pairs(1)) == jury(*shuffled).pairs(make_pairs(1))


def test_grades_are_means() -> None:
    class Half(Planted):
        def grades(self, items):  # type: ignore[no-untyped-def]
            return [
                Grade(item.id, item.cluster, 1.0, tuple((g, float(g == 1)) for g in self.scale))
                for item in items
            ]

    items = [Single("a", "c", "q", "xxx")]
    (grade,) = Jury("jury", (Planted("one"), Half("two"))).grades(items)
    assert isinstance(grade, Grade)
    assert grade.value == 2.0
    assert dict(grade.shares) == {1: 0.5, 2: 0.0, 3: 0.5, 4: 0.0, 5: 0.0}
    with pytest.raises(EvalError, match="different scales"):
        Jury("jury", (Planted("one"), Planted("two", scale=(1, 2, 3)))).grades(items)


def test_a_jury_is_of_two_judges_or_more_who_differ() -> None:
    with pytest.raises(EvalError, match="no jury"):
        jury(OURS)
    with pytest.raises(EvalError, match="stands twice"):
        Jury("jury", (Planted("a"), Planted("a")))


def test_the_identity_is_that_of_the_judges_in_any_order() -> None:
    a, b, c = Planted("a"), Planted("b"), Planted("c")
    assert Jury("x", (a, b)).identity.digest == Jury("y", (b, a)).identity.digest
    assert Jury("x", (a, b)).identity.digest != Jury("x", (a, c)).identity.digest
