"""The lineage rule: a judge is refused when exactly one of the two sides is its kin."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.judge.lineage import Origin, declared, origin, refusal

FAMILIES = {"qwen": ("Qwen/*", "t-tech/T-lite*")}


def hub(name: str, id_: str, digest: str | None = None) -> Origin:
    base = {"source": "hub", "id": id_, "revision": "main", "digest": f"of-{id_}", "licence": "Apache-2.0"}
    return origin(name, {"base": base, "data": {}}, digest or f"weights-{name}", FAMILIES)


QWEN = hub("candidate", "Qwen/Qwen2.5-0.5B")
OTHER = hub("champion", "ai-forever/ruGPT3")
OURS = origin("embedded-model", {"base": {"source": "bootstrap", "licence": "MIT"}}, "d1")


@pytest.mark.parametrize(
    ("judge", "ours", "theirs", "said"),
    [
        (hub("judge", "Qwen/Qwen2.5-0.5B"), QWEN, OTHER, "candidate descend from one base"),
        (hub("judge", "Qwen/Qwen2.5-7B"), OTHER, QWEN, "family:qwen"),
        (declared("api", ["t-tech/T-lite-it-1.0"], FAMILIES), QWEN, OTHER, "champion does not"),
        (hub("judge", "Qwen/Qwen2.5-7B"), QWEN, QWEN, None),
        (hub("judge", "mistralai/x"), QWEN, OTHER, None),
        (origin("embedded", {"base": {"source": "scratch"}}, "d9"), OURS, OURS, None),
        # The judge is one of the sides, or the very base of one.
        (
            origin("self", {"base": {"source": "scratch"}}, "weights-candidate"),
            QWEN,
            OTHER,
            "digest:weights-candidate",
        ),
        (
            origin("base", {"base": {"source": "scratch"}}, "of-Qwen/Qwen2.5-0.5B"),
            QWEN,
            OTHER,
            "digest:of-Qwen",
        ),
        # What nobody has said cannot be checked.
        (declared("api", []), QWEN, OTHER, "nobody says what api"),
        (hub("judge", "mistralai/x"), origin("lost", {}, "d"), OTHER, "nobody says what lost"),
    ],
)
def test_who_may_judge_whom(judge: Origin, ours: Origin, theirs: Origin, said: str | None) -> None:
    why = refusal(judge, ours, theirs)
    assert (why is None) == (said is None)
    if said:
        assert why is not None and said in why


def test_a_student_from_elsewhere_is_a_second_base() -> None:
    base = {"source": "hub", "id": "mistralai/x"}
    student = origin("candidate", {"base": base, "student": "Qwen/Qwen2.5-0.5B"}, "d", FAMILIES)
    assert refusal(hub("judge", "Qwen/Qwen2.5-7B"), student, OTHER)
    every_second = origin("candidate", {"base": base, "student": "every-second-layer"}, "d", FAMILIES)
    assert refusal(hub("judge", "Qwen/Qwen2.5-7B"), every_second, OTHER) is None


marks = st.frozensets(st.sampled_from("abc"), max_size=2)


@given(marks, marks, marks)
def test_the_rule_is_symmetric_and_about_exactly_one_side(judge: Any, ours: Any, theirs: Any) -> None:
    told = [Origin(name, found) for name, found in (("j", judge), ("o", ours), ("t", theirs))]
    exactly_one = bool(judge & ours) != bool(judge & theirs)
    assert (refusal(told[0], told[1], told[2]) is not None) == exactly_one
    assert (refusal(told[0], told[2], told[1]) is not None) == exactly_one
