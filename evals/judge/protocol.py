"""What every judge is: an identity, and verdicts on pairs and single answers, from whichever back end."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Protocol, TypeVar

from evals.errors import EvalError
from evals.judge.rubrics import Form, Rubric
from evals.judge.verdicts import Grade, Missing, Pair, Reason, Single, Verdict, check_ids

Kind = Literal["local", "endpoint", "jury"]
Item = TypeVar("Item", Pair, Single)


@dataclass(frozen=True)
class Identity:
    """Which judge gave a verdict; a passport and a cache hold for equal digests only.

    `model`: digest of the weights, or the endpoint's name of its model. `settings`: name -> whatever else
    verdicts depend on, the address among them. `rubric`: digest of the rubric. `name` is how reports call it.
    """

    name: str
    kind: Kind
    model: str
    settings: tuple[tuple[str, Any], ...]
    rubric: str

    @property
    def digest(self) -> str:
        """SHA-256 of everything but the name."""
        told = {key: value for key, value in asdict(self).items() if key != "name"}
        return hashlib.sha256(json.dumps(told, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


@dataclass(frozen=True)
class Reply:
    """Probabilities of the rubric's labels, in their order, with sum 1."""

    shares: tuple[float, ...]


@dataclass(frozen=True)
class Failure:
    """Why a prompt has no reply."""

    kind: Reason
    reason: str


class Backend(Protocol):
    """Gives one reply or failure a prompt, in the order of the prompts."""

    def identity(self, name: str, rubric: Rubric) -> Identity:
        """The judge that this back end makes with `rubric`."""

    def ask(self, rubric: Rubric, prompts: Sequence[str]) -> list[Reply | Failure]:
        """Raises `EvalError` when nothing can be asked at all."""


class Judge(Protocol):
    """Verdicts in the order of the items, each judged once or missing with a reason."""

    @property
    def identity(self) -> Identity: ...

    def pairs(self, items: Sequence[Pair]) -> list[Verdict | Missing]:
        """Both orders of every pair. Raises `EvalError` for a judge that grades."""

    def grades(self, items: Sequence[Single]) -> list[Grade | Missing]:
        """Expected grades. Raises `EvalError` for a judge of pairs."""


@dataclass(frozen=True)
class RubricJudge:
    """A judge made of a back end and a rubric."""

    name: str
    backend: Backend
    rubric: Rubric

    @property
    def identity(self) -> Identity:
        return self.backend.identity(self.name, self.rubric)

    def under(self, rubric: Rubric) -> RubricJudge:
        """The same model, asked by `rubric`."""
        return replace(self, rubric=rubric)

    def pairs(self, items: Sequence[Pair]) -> list[Verdict | Missing]:
        """Both orders of every pair; equal answers are a draw and cost no call. Raises `EvalError`."""
        self._check(items, "pair")
        asked = [item for item in items if not item.equal]
        prompts = [prompt for item in asked for prompt in self.rubric.pair(item)]
        replies = iter(self.backend.ask(self.rubric, prompts))
        # The replies are consumed two a pair, in the order in which the prompts were made.
        return [
            Verdict(item.id, item.cluster, 0.5, 0.5, asked=False)
            if item.equal
            else _verdict(item, next(replies), next(replies))
            for item in items
        ]

    def grades(self, items: Sequence[Single]) -> list[Grade | Missing]:
        """The expected grade of every answer. Raises `EvalError`."""
        self._check(items, "grade")
        replies = self.backend.ask(self.rubric, [self.rubric.single(item) for item in items])
        scale = [int(label) for label in self.rubric.labels]
        return [_grade(item, scale, reply) for item, reply in zip(items, replies, strict=True)]

    def _check(self, items: Sequence[Item], form: Form) -> None:
        if self.rubric.form != form:
            raise EvalError(
                f"judge `{self.name}`: rubric `{self.rubric.name}` is for the form `{self.rubric.form}`, "
                f"not `{form}`; name another rubric"
            )
        check_ids(items)


def _verdict(item: Pair, ours_first: Reply | Failure, theirs_first: Reply | Failure) -> Verdict | Missing:
    """Both orders, or what is missing of them: a pair judged in one order only is not judged."""
    failed = {
        order: reply.reason
        for order, reply in (("ours first", ours_first), ("theirs first", theirs_first))
        if isinstance(reply, Failure)
    }
    if isinstance(ours_first, Reply) and isinstance(theirs_first, Reply):
        (p_first, tie_first), (p_swapped, tie_second) = _halved(ours_first), _halved(theirs_first)
        return Verdict(item.id, item.cluster, p_first, 1 - p_swapped, True, tie_first, tie_second)
    kind = next(reply.kind for reply in (ours_first, theirs_first) if isinstance(reply, Failure))
    reason = "; ".join(f"{order}: {why}" for order, why in failed.items())
    return Missing(item.id, item.cluster, kind, reason)


def _halved(reply: Reply) -> tuple[float, float]:
    """(P(first) with half of the tie's probability, P(tie))."""
    tie = reply.shares[2] if len(reply.shares) == 3 else 0.0
    return reply.shares[0] + tie / 2, tie


def _grade(item: Single, scale: Sequence[int], reply: Reply | Failure) -> Grade | Missing:
    if isinstance(reply, Failure):
        return Missing(item.id, item.cluster, reply.kind, reply.reason)
    value = sum(grade * share for grade, share in zip(scale, reply.shares, strict=True))
    return Grade(item.id, item.cluster, value, tuple(zip(scale, reply.shares, strict=True)))
