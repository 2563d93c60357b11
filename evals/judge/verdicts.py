"""What a judge is asked about, and what it answers: plain records, judged once or missing with a reason.

A pair is asked about in both orders. In one order a judge gives probabilities that the first answer, the
second answer or neither is better; p = p(win) + p(tie) / 2, always about `ours`. The preference is the mean
of p over both orders, in which a constant taste for one position cancels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from evals.errors import EvalError
from evals.judge.layout import tidy

Outcome = Literal["ours", "theirs", "tie"]
Reason = Literal[
    "too_long",  # the prompt does not fit into the judge's context
    "unparsable",  # the judge answered, and no verdict can be read from its words
    "malformed",  # a reply that is no chat completion, or has numbers that are not finite
    "rate_limit",
    "server",
    "time_out",
    "connection",
    "refused",  # the server did not take the request
    "given_up",  # not asked, because the calls before it had failed one after another
    "quorum",  # too few judges of a jury gave a verdict
    "not_asked",  # the decision was certain before (sequential judging)
]


@dataclass(frozen=True)
class Pair:
    """Two answers to one question; the judge is asked whether `ours` is better than `theirs`.

    `reference`: a right answer, for rubrics that are guided by one.
    """

    id: str
    cluster: str
    question: str
    ours: str
    theirs: str
    reference: str | None = None

    @property
    def equal(self) -> bool:
        """Whether both answers read the same, so that there is nothing to ask."""
        return tidy(self.ours) == tidy(self.theirs)


@dataclass(frozen=True)
class Single:
    """One answer to be graded. `reference`: a right answer, for rubrics that are guided by one."""

    id: str
    cluster: str
    question: str
    answer: str
    reference: str | None = None


@dataclass(frozen=True)
class Verdict:
    """p that `ours` is better, seen first and seen second; `tie_*` is the probability of a tie in it.

    Equal answers are not `asked`.
    """

    id: str
    cluster: str
    p_first: float
    p_second: float
    asked: bool = True
    tie_first: float = 0.0
    tie_second: float = 0.0

    @property
    def preference(self) -> float:
        """The mean over both orders."""
        return (self.p_first + self.p_second) / 2

    @property
    def consistent(self) -> bool | None:
        """Whether both orders have the same outcome; None where nothing was asked.

        A tie is an outcome, an exact draw between the two answers is none.
        """
        if not self.asked:
            return None
        first, second = self.outcomes
        return first is not None and first == second

    @property
    def outcomes(self) -> tuple[Outcome | None, Outcome | None]:
        """The likeliest outcome of each order, `ours` first and second; None for an exact draw."""
        return _likeliest(self.p_first, self.tie_first), _likeliest(self.p_second, self.tie_second)

    @property
    def outcome(self) -> Outcome:
        """The answer that won in both orders; a tie where none did (the conservative rule, 2306.05685)."""
        first, second = self.outcomes
        return first if first is not None and first == second else "tie"


def _likeliest(p: float, tie: float) -> Outcome | None:
    win, loss = p - tie / 2, 1 - p - tie / 2
    if tie > max(win, loss):
        return "tie"
    if win == loss:
        return None
    return "ours" if win > loss else "theirs"


@dataclass(frozen=True)
class Grade:
    """The expected grade, sum of p(s) s over the scale (2303.16634), and p(s) by grade."""

    id: str
    cluster: str
    value: float
    shares: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Missing:
    """An item without a verdict: why, in a word to count by and in words to read."""

    id: str
    cluster: str
    kind: Reason
    reason: str


@dataclass(frozen=True)
class Tally:
    """How many items were judged, and how many are missing by reason."""

    judged: int
    missing: dict[str, int] = field(default_factory=dict)

    @property
    def unparsable(self) -> float:
        """Share of unparsable verdicts among the items that the judge answered; 0 when it answered none."""
        lost = self.missing.get("unparsable", 0)
        return lost / (self.judged + lost) if lost else 0.0


def tally(results: Sequence[Verdict | Grade | Missing]) -> Tally:
    """Count what became of the items."""
    missing = Counter(result.kind for result in results if isinstance(result, Missing))
    return Tally(len(results) - missing.total(), dict(sorted(missing.items())))


def check_ids(items: Sequence[Pair] | Sequence[Single]) -> None:
    """Raises `EvalError` when two items have the same id, so that their verdicts could be mistaken."""
    twice = [name for name, count in Counter(item.id for item in items).items() if count > 1]
    if twice:
        raise EvalError(f"item {twice[0]} is there twice ({len(twice)} such ids); give each item its own id")
