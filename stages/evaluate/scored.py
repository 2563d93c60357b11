"""Everything that one model gave: task results, minimal pairs, bits per character, open answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from evals import bpc, minimal_pairs
from evals.bpc import Bits, Document
from evals.items import Item
from evals.questions import Question
from evals.results import Results
from evals.suites import Suite
from stages.evaluate.models import Model


@dataclass(frozen=True)
class Weights:
    """Which model answered, and on which kind of device."""

    digest: str
    tokenizer: str | None
    device: str
    endpoint: str | None = None

    @property
    def described(self) -> dict[str, Any]:
        """The part `model` of scores.json."""
        named = {} if self.endpoint is None else {"endpoint": self.endpoint}
        return {"digest": self.digest, "tokenizer": self.tokenizer, **named}


@dataclass(frozen=True)
class Scored:
    """What one model gave. `window`: tokens seen at once for bits per character; None where it has none."""

    model: Weights
    results: Results
    answers: list[str]
    pairs: list[Item] = field(default_factory=list)
    bits: dict[str, Bits] = field(default_factory=dict)
    window: int | None = None

    @property
    def items(self) -> list[Item]:
        """Per-item results of tasks and minimal pairs."""
        return [*self.results.items, *self.pairs]


def score(
    model: Model,
    about: Weights,
    suite: Suite,
    documents: Mapping[str, list[Document]],
    questions: Sequence[Question],
    window: int,
) -> Scored:
    """Ask `model` everything; `window` is bounded by what it holds."""
    window = min(window, model.max_length)
    results = model.run(suite.tasks)
    pairs: list[Item] = []
    if suite.pairs:
        logprobs, _ = model.logprobs("minimal pairs", minimal_pairs.texts(suite.pairs), window)
        pairs = minimal_pairs.items(suite.pairs, logprobs)
    bits = {}
    for language, chosen in documents.items():
        texts = [document.text for document in chosen]
        bits[language] = bpc.bits(chosen, *model.logprobs(f"bits per character, {language}", texts, window))
    answers = model.answer([question.text for question in questions])
    return Scored(about, results, answers, pairs, bits, window)
