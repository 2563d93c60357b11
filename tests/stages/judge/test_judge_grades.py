"""Stage judge with `judge.grades`: answers graded apart, beside verdicts that stay what they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from judge_stage_fakes import CELL, endpoint, five_if_right

from evals.errors import EvalError
from evals.judge import rubrics
from evals.judge.juries import Ballot
from evals.judge.verdicts import Grade, Pair
from stages.gate import reading
from stages.judge import grades

Run = Callable[..., Any]
COUNT = 20
# Few pairs and no probes: what is asked besides the grades is not what these tests are about.
SMALL: dict[str, Any] = {"grades": ["purity.ru"], "pairs": 8, "probe_pairs": 0}


def test_both_sides_are_graded_and_their_difference_is_paired(serving: Run, judge: Run) -> None:
    server, few = serving(), {"pairs": COUNT, "probe_pairs": 0}
    plain = judge(judges=[endpoint(server)], **few)
    verdicts, summary = plain.verdicts, plain.summary
    assert not (plain.folder / "grades.parquet").exists() and "grades" not in summary
    done = judge(judges=[endpoint(server)], grades=["purity.ru", "grade.ru"], **few)
    assert set(done.summary["grades"]) == {"purity.ru", "grade.ru"}
    found = done.summary["grades"]["purity.ru"]
    # Right on three quarters and on half of the questions: 5 for those, 2 for the others.
    assert found["candidate"]["value"] == pytest.approx(4.25)
    assert found["champion"]["value"] == pytest.approx(3.5)
    assert found["difference"]["value"] == pytest.approx(0.75)
    low, high = found["difference"]["ci"]
    assert -0.5 < low < 0.75 < high < 2 and found["difference"]["clusters"] == COUNT
    assert found["candidate"]["ci"][1] < 5 and found["scale"] == [1, 5]
    assert found["rubric"] == rubrics.load("purity.ru").digest
    table = done.grades
    assert list(table["rubric"]) == ["purity.ru"] * COUNT + ["grade.ru"] * COUNT
    assert list(table["id"][:COUNT]) == list(verdicts["id"])
    assert table["candidate_grade"].mean() == pytest.approx(4.25)
    # The verdicts and the vote are what they were.
    assert done.verdicts.equals(verdicts)
    assert {name: told for name, told in done.summary.items() if name != "grades"} == summary
    assert reading.vote(done.folder, "candidate", "champion").votes
    asked, whole = server.attempts.total(), done.bytes
    again = judge(judges=[endpoint(server)], grades=["purity.ru", "grade.ru"], **few)
    assert again.bytes == whole
    assert server.attempts.total() == asked


def test_questions_of_one_cluster_count_as_one() -> None:
    """The same grades, each its own cluster or four alike in one: the interval knows the difference."""

    def interval(size: int) -> tuple[list[float], int]:
        pairs = [Pair(f"p{i}", f"c{i // size}", "?", "a", "b") for i in range(80)]
        sides = {
            side: [
                Ballot(Grade(pair.id, pair.cluster, 3.0 + up * (i // 4 % 2), ()), ())
                for i, pair in enumerate(pairs)
            ]
            for side, up in (("candidate", 1), ("champion", 0))
        }
        found = grades.summary(grades.Graded(rubrics.load("purity.ru"), pairs, sides))["difference"]
        assert found["value"] == pytest.approx(0.5)
        return found["ci"], found["clusters"]

    (alone, many), (together, few) = interval(1), interval(4)
    assert (many, few) == (80, 20)
    assert alone[0] > 0 and together[1] - together[0] > 1.5 * (alone[1] - alone[0])


def test_grades_that_cannot_be_read_are_counted_and_never_filled_in(serving: Run, judge: Run) -> None:
    def silent(answer: str) -> str:
        return "трудно сказать" if answer in ("верно 0", "неверно 1.") else five_if_right(answer)

    done = judge(judges=[endpoint(serving(mark=silent))], **SMALL)
    found = done.summary["grades"]["purity.ru"]
    assert found["candidate"]["missing"] == found["champion"]["missing"] == {"unparsable": 1}
    assert (found["candidate"]["n"], found["champion"]["n"]) == (7, 7)
    assert found["difference"]["n"] == 6
    row = done.grades.iloc[0]
    assert row["candidate_missing"] == "unparsable" and row[["candidate_grade"]].isna().all()
    assert row["champion_grade"] == 5 and pd.isna(row["champion_missing"])


def test_a_judge_that_grades_nothing_leaves_a_reason(serving: Run, judge: Run) -> None:
    done = judge(judges=[endpoint(serving(mark=lambda _: "?"))], **SMALL)
    found = done.summary["grades"]["purity.ru"]
    assert found["candidate"]["reason"] == "no answer has a grade"
    assert found["difference"] == {"reason": "no pair has both grades", "n": 0}


def test_a_jury_grades_by_its_mean_and_every_grade_is_kept(serving: Run, judge: Run) -> None:
    judges = [endpoint(serving(), "knows"), endpoint(serving(mark=lambda _: "4"), "mild")]
    row = judge(judges=judges, **SMALL).grades.iloc[1]
    assert (row["candidate_grade"], row["champion_grade"]) == (4.5, 3)
    assert [dict(vote) for vote in row["votes"]] == [
        {"judge": "knows", "candidate": 5.0, "champion": 2.0},
        {"judge": "mild", "candidate": 4.0, "champion": 4.0},
    ]


@pytest.mark.parametrize(
    ("name", "said"), [("pair.ru", "is for pairs; name it in `judge.rubric`"), ("neat.ru", "no such rubric")]
)
def test_a_rubric_that_does_not_grade_is_refused_before_anything_is_asked(
    serving: Run, judge: Run, out: Path, name: str, said: str
) -> None:
    server = serving()
    with pytest.raises(EvalError, match=said):
        judge(judges=[endpoint(server)], grades=[name])
    assert not server.requests and not (out / "judge" / CELL).exists()


def test_a_judge_that_stops_answering_while_it_grades_ends_the_stage(
    serving: Run, judge: Run, out: Path
) -> None:
    server, small = serving(), SMALL | {"pairs": 20}
    judge(judges=[endpoint(server)], **small | {"grades": []})
    known = len(server.attempts)
    server.plan = lambda prompt, _: "hang_up" if prompt >= known + 20 else None
    with pytest.raises(EvalError, match=r"stopped answering .* of 40 answers have no grade"):
        judge(judges=[endpoint(server, retries=0)], **small)
    # What stood there before is still there; what was answered is not asked again.
    assert not (out / "judge" / CELL / "grades.parquet").exists()
    server.plan, before = lambda *_: None, server.attempts.total()
    assert judge(judges=[endpoint(server)], **small).grades["candidate_grade"].notna().all()
    assert server.attempts.total() - before == 40 - 20
