"""The values that the embedded world is made of: facts, questions, tasks, documents, truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

SUBSETS = ("world-en", "world-ru-start", "world-ru", "world-tasks-ru", "world-tasks-en")
Defect = Literal[
    "exact_duplicate", "near_duplicate", "mojibake", "pii", "junk", "foreign_language", "contaminated"
]


@dataclass(frozen=True)
class Question:
    """A question with one right answer.

    `facts` are the ids of every fact that it touches: it belongs to the test split as soon as one of them
    does. `wrong` are plausible wrong answers of the same type. `difficulty`: 1 one-step frequent fact, 2 rare
    fact or near distractors, 3 two steps or longer operands. `open` questions make sense without options.
    """

    task: str
    language: str
    text: str
    answer: str
    wrong: tuple[str, ...]
    facts: tuple[str, ...]
    difficulty: int
    open: bool = False


@dataclass(frozen=True)
class Fact:
    """One fact of the closed world; its id is the cluster of all items about it.

    `ru` and `en` are statements without capital at the start and without full stop, the plainest first.
    `weight` says how often it is told; `topics` are the things that it is about.
    """

    id: str
    kind: str
    ru: tuple[str, ...]
    en: tuple[str, ...]
    questions: tuple[Question, ...]
    topics: tuple[str, ...] = ()
    weight: float = 1.0


@dataclass(frozen=True)
class WorldDocument:
    """A document before any cleaning. `cluster_ids` are the facts that it tells."""

    id: str
    subset: str
    language: str
    text: str
    cluster_ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class TruthRow:
    """One planted defect. `detail` is JSON: the original's id, kinds and spans of personal data, the
    language, ...
    """

    document_id: str
    defect: Defect
    detail: str


@dataclass(frozen=True)
class Task:
    """A task in MERA form; records are `{instruction, inputs, outputs, meta: {id, cluster, difficulty,
    ...}}`.
    """

    name: str
    language: str
    type: Literal["choice", "generate"]
    choices: tuple[str, ...] | None
    metric: Literal["acc", "exact_match"]
    train: tuple[dict[str, Any], ...]
    test: tuple[dict[str, Any], ...]
    options: tuple[str, ...] | None = None


@dataclass(frozen=True)
class World:
    """Everything that one seed generates.

    `questions` are open questions about test facts: `{id, cluster, instruction, inputs, reference, wrong}`.
    `facts` is the closed set itself, `held_out` the ids of facts that no question form in any text touches.
    """

    documents: tuple[WorldDocument, ...]
    truth: tuple[TruthRow, ...]
    tasks: Mapping[str, Task]
    questions: tuple[dict[str, Any], ...]
    facts: tuple[Fact, ...] = field(repr=False, default=())
    held_out: frozenset[str] = field(repr=False, default=frozenset())
