"""Several judges as one (2404.18796): the majority for pairs, the mean for grades, and who voted what."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from evals.errors import EvalError
from evals.judge.protocol import Identity, Judge
from evals.judge.verdicts import Grade, Missing, Outcome, Pair, Single, Verdict

Result = TypeVar("Result", Verdict, Grade)
P: dict[Outcome, float] = {"ours": 1.0, "theirs": 0.0, "tie": 0.5}


@dataclass(frozen=True)
class Ballot(Generic[Result]):
    """What a jury decided on one item, and the vote of each judge by name."""

    result: Result | Missing
    votes: tuple[tuple[str, Result | Missing], ...]


@dataclass(frozen=True)
class Jury:
    """A judge made of judges. It decides an item when more than half of them gave a verdict on it.

    Raises `EvalError` for fewer than two judges, or for two of one name or of one identity.
    """

    name: str
    judges: tuple[Judge, ...]

    def __post_init__(self) -> None:
        identities = [judge.identity for judge in self.judges]
        if len(identities) < 2:
            raise EvalError(f"jury `{self.name}`: {len(identities)} judge is no jury; name two or more")
        for told in (identity.name for identity in identities), (identity.digest for identity in identities):
            if twice := [value for value, count in Counter(told).items() if count > 1]:
                raise EvalError(
                    f"jury `{self.name}`: a judge stands twice in it ({twice[0][:12]}); remove one"
                )

    @property
    def identity(self) -> Identity:
        """The jury's model and rubric are those of its judges, in any order."""
        identities = sorted((judge.identity for judge in self.judges), key=lambda identity: identity.digest)
        return Identity(
            self.name,
            "jury",
            _joined([identity.digest for identity in identities]),
            (),
            _joined([identity.rubric for identity in identities]),
        )

    def pairs(self, items: Sequence[Pair]) -> list[Verdict | Missing]:
        """The jury's verdicts in the order of `items`."""
        return [ballot.result for ballot in self.pair_ballots(items)]

    def grades(self, items: Sequence[Single]) -> list[Grade | Missing]:
        """The jury's grades in the order of `items`."""
        return [ballot.result for ballot in self.grade_ballots(items)]

    def pair_ballots(self, items: Sequence[Pair]) -> list[Ballot[Verdict]]:
        """In each order the outcome that more than half of the voters saw; a tie where none has that."""
        return self._ballots(items, [judge.pairs(items) for judge in self.judges], _majority)

    def grade_ballots(self, items: Sequence[Single]) -> list[Ballot[Grade]]:
        """The mean of the grades and of their shares. Raises `EvalError` when the scales differ."""
        return self._ballots(items, [judge.grades(items) for judge in self.judges], _mean)

    def _ballots(
        self,
        items: Sequence[Pair | Single],
        votes: Sequence[Sequence[Result | Missing]],
        decide: Callable[[Sequence[Result]], Result],
    ) -> list[Ballot[Result]]:
        names = [judge.identity.name for judge in self.judges]
        ballots = []
        for item, row in zip(items, zip(*votes, strict=True), strict=True):
            given = [vote for vote in row if not isinstance(vote, Missing)]
            reason = f"{len(given)} of {len(row)} judges gave a verdict"
            quorum = 2 * len(given) > len(row)
            result = decide(given) if quorum else Missing(item.id, item.cluster, "quorum", reason)
            ballots.append(Ballot(result, tuple(zip(names, row, strict=True))))
        return ballots


def _majority(votes: Sequence[Verdict]) -> Verdict:
    first, second = (_decided([vote.outcomes[place] for vote in votes]) for place in (0, 1))
    item = votes[0]
    return Verdict(
        item.id,
        item.cluster,
        P[first],
        P[second],
        item.asked,
        float(item.asked and first == "tie"),
        float(item.asked and second == "tie"),
    )


def _decided(outcomes: Sequence[Outcome | None]) -> Outcome:
    outcome, count = Counter(outcomes).most_common(1)[0]
    return outcome if outcome is not None and 2 * count > len(outcomes) else "tie"


def _mean(votes: Sequence[Grade]) -> Grade:
    scales = {tuple(grade for grade, _ in vote.shares) for vote in votes}
    if len(scales) > 1:
        raise EvalError("the judges of a jury grade on different scales; give them one rubric")
    shares = zip(*([share for _, share in vote.shares] for vote in votes), strict=True)
    mean = tuple((grade, sum(row) / len(votes)) for grade, row in zip(scales.pop(), shares, strict=True))
    return Grade(votes[0].id, votes[0].cluster, sum(vote.value for vote in votes) / len(votes), mean)


def _joined(digests: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()
