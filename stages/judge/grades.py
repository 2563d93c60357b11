"""Grades of the candidate's and the champion's answers apart, by the rubrics of `judge.grades`.

They are there to be read, in grades.parquet, summary.json and the report; no rule of the gate looks at them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.judge.summary import ALPHA, SEED

if TYPE_CHECKING:
    from evals.judge.juries import Ballot
    from evals.judge.rubrics import Rubric
    from evals.judge.verdicts import Grade, Missing, Pair
    from stages.judge.bench import Bench

TABLE = "grades.parquet"
SIDES = ("candidate", "champion")


@dataclass(frozen=True)
class Graded:
    """The grades by one rubric: by side, one ballot a pair, in the order of `pairs`."""

    rubric: Rubric
    pairs: Sequence[Pair]
    ballots: Mapping[str, Sequence[Ballot[Grade]]]


def load(names: Sequence[str]) -> list[Rubric]:
    """The rubrics of `judge.grades`. Raises `EvalError` for an unknown one, or one that is not of grades."""
    from evals.errors import EvalError
    from evals.judge import rubrics

    found = [rubrics.load(name) for name in names]
    for rubric in found:
        if rubric.form != "grade":
            raise EvalError(f"`judge.grades`: `{rubric.name}` is for pairs; name it in `judge.rubric`")
    return found


def ask(bench: Bench, rubric: Rubric, pairs: Sequence[Pair]) -> Graded:
    """Have every answer graded, of both sides in one go. Raises `EvalError` where a judge stops answering."""
    from evals.judge.verdicts import Single

    items = [
        Single(f"{side}/{pair.id}", pair.cluster, pair.question, answer, pair.reference)
        for pair in pairs
        for side, answer in zip(SIDES, (pair.ours, pair.theirs), strict=True)
    ]
    ballots = bench.grades(rubric, items)
    return Graded(rubric, pairs, {side: ballots[place::2] for place, side in enumerate(SIDES)})


def summary(found: Graded) -> dict[str, Any]:
    """The part of summary.json about one rubric: grades of both sides, and how far they lie apart.

    Each has `value`, its 95 % interval `ci` clustered by question, and `n` answers, or a `reason` without
    any. The means of the sides are over all graded answers, the difference (above zero: the candidate's
    are better) is over pairs with both. `missing` counts answers without a grade by kind.
    """
    from evals.judge.verdicts import Grade, tally
    from evals.stats import intervals

    least, greatest = int(found.rubric.labels[0]), int(found.rubric.labels[-1])
    results = {side: [ballot.result for ballot in found.ballots[side]] for side in SIDES}
    told: dict[str, Any] = {"rubric": found.rubric.digest, "scale": [least, greatest]}
    for side, column in results.items():
        grades = [grade for grade in column if isinstance(grade, Grade)]
        told[side] = {"reason": "no answer has a grade", "n": 0}
        if grades:
            mean = intervals.cluster_interval(
                [grade.value for grade in grades],
                [grade.cluster for grade in grades],
                seed=SEED,
                bounds=(least, greatest),
            )
            told[side] = {"value": mean.mean, "ci": mean.pair(), "n": mean.n}
        told[side]["missing"] = tally(column).missing
    both = [
        (ours, theirs)
        for ours, theirs in zip(*(results[side] for side in SIDES), strict=True)
        if isinstance(ours, Grade) and isinstance(theirs, Grade)
    ]
    told["difference"] = {"reason": "no pair has both grades", "n": 0}
    if both:
        width = float(greatest - least)
        apart = intervals.paired_difference(
            [ours.value for ours, _ in both],
            [theirs.value for _, theirs in both],
            [ours.cluster for ours, _ in both],
            alpha=ALPHA,
            seed=SEED,
            bounds=(-width, width),
        )
        told["difference"] = {
            "value": apart.mean,
            "ci": [apart.lower, apart.upper],
            "n": apart.n,
            "clusters": apart.clusters,
        }
    return told


def write(path: Path, every: Sequence[Graded]) -> None:
    """One row per rubric and pair, in the order of judging.

    `<side>_grade` is the expected value on the rubric's scale, null where `<side>_missing` says why there is
    none; `votes` holds the grades of each judge.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = ("rubric", "id", "cluster", "question", *(f"{side}_answer" for side in SIDES))
    columns = [(name, pa.string()) for name in texts]
    for side in SIDES:
        columns += [(f"{side}_grade", pa.float64()), (f"{side}_missing", pa.string())]
    vote = pa.struct([("judge", pa.string()), *((side, pa.float64()) for side in SIDES)])
    schema = pa.schema([*columns, ("votes", pa.list_(vote))])
    rows = [row for found in every for row in _rows(found)]
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)


def _rows(found: Graded) -> list[dict[str, Any]]:
    from evals.judge.verdicts import Missing

    rows = []
    for pair, *ballots in zip(found.pairs, *(found.ballots[side] for side in SIDES), strict=True):
        row: dict[str, Any] = {"rubric": found.rubric.name, "id": pair.id, "cluster": pair.cluster}
        row |= {"question": pair.question, "candidate_answer": pair.ours, "champion_answer": pair.theirs}
        for side, ballot in zip(SIDES, ballots, strict=True):
            result = ballot.result
            row[f"{side}_grade"] = _value(result)
            row[f"{side}_missing"] = result.kind if isinstance(result, Missing) else None
        # Both answers have the votes of the same judges, in the same order.
        row["votes"] = [
            {"judge": name, "candidate": _value(ours), "champion": _value(theirs)}
            for (name, ours), (_, theirs) in zip(*(ballot.votes for ballot in ballots), strict=True)
        ]
        rows.append(row)
    return rows


def _value(result: Grade | Missing) -> float | None:
    from evals.judge.verdicts import Missing

    return None if isinstance(result, Missing) else result.value
