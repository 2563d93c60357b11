"""A model as the stage asks it, twice: one of which only earlier answers are at hand, and one that is loaded.

Both give the same; the first raises `UnknownError` where it does not know, and imports neither torch nor
Transformers.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

from evals.answers import Answers
from evals.prompts import Row
from evals.recall import UnknownError
from evals.results import Results, cut, too_long
from evals.suites import Task
from stages.common.hashing import sha256_json, sha256_paths
from stages.common.progress import progress

FOLDER = Path(".gorn/cache/answers")
FORMAT = 1
# Answers depend on them beside the weights; lm-eval makes the requests, the others compute.
VERSIONED = ("lm-eval", "torch", "transformers", "tokenizers")
# Our own code between a request and its answer.
CODE = ("harness.py", "logprobs.py", "prompts.py", "recall.py", "mera/dialogue.py")


def scope(params: Any, digest: str, device: str) -> dict[str, Any]:
    """All that an answer depends on beside its request."""
    return {
        "format": FORMAT,
        "weights": digest,
        "precision": params.evaluate.precision,
        "device": device,
        "threads": params.threads,
        "batch_size": params.evaluate.batch_size,
        "versions": {name: version(name) for name in VERSIONED},
        "code": _code(),
    }


def _code() -> str:
    evals, lowbit = (_package(name) for name in ("evals", "lowbit"))
    asking = sha256_paths(evals, [evals / name for name in CODE])
    return sha256_json([asking, sha256_paths(lowbit, sorted(lowbit.rglob("*.py")))])


def _package(name: str) -> Path:
    # Found, not imported: lowbit imports torch.
    found = importlib.util.find_spec(name)
    return Path(str(found and found.origin)).parent


class Model(Protocol):
    """What the stage asks of a model."""

    @property
    def tokenizer_hash(self) -> str: ...

    @property
    def max_length(self) -> int: ...

    def run(self, tasks: Sequence[Task]) -> Results:
        """Task results."""

    def logprobs(self, label: str, texts: Sequence[str], window: int) -> tuple[list[float], int]:
        """Log-probability of every text, and how many tokens lose text."""

    def answer(self, texts: Sequence[str]) -> list[str]:
        """Answers to open questions."""


class Recalled:
    """A model of which only `answers` are at hand."""

    def __init__(self, answers: Answers, versions: Mapping[str, str]) -> None:
        from evals.recall import Known

        self._answers, self._lm = answers, Known(answers, versions)

    @property
    def tokenizer_hash(self) -> str:
        """Hash of what the tokenizer does."""
        return str(self._get("tokenizer"))

    @property
    def max_length(self) -> int:
        """Tokens that the model holds."""
        return int(self._get("max_length"))

    def run(self, tasks: Sequence[Task]) -> Results:
        """Task results. Raises `UnknownError`."""
        from evals import recall

        refused = too_long(tasks, self.max_length)
        kept = [task for task in tasks if task.name not in refused]
        results = recall.run(self._lm, kept, self._cut)
        results.refused |= refused
        return results

    def logprobs(self, label: str, texts: Sequence[str], window: int) -> tuple[list[float], int]:  # noqa: ARG002
        """Log-probability of every text, and how many tokens lose text. Raises `UnknownError`."""
        values, unknown = self._get("logprobs", list(texts), window)
        return values, unknown

    def answer(self, texts: Sequence[str]) -> list[str]:
        """Answers to open questions. Raises `UnknownError`."""
        from evals.prompts import open_requests

        return [str(text).strip() for text in self._lm.generate_until(open_requests(texts))]

    def _cut(self, task: Task, rows: Sequence[Row]) -> int:
        return cut(task, [int(self._get("tokens", row.asked)) for row in rows], self.max_length)

    def _get(self, *request: Any) -> Any:
        found = self._answers.get(*request)
        if found is None:
            raise UnknownError
        return found


class Loaded:
    """The model of a checkpoint folder; what it answers is kept, and what is known is not asked again.

    Raises `UserError` and `EvalError` for a checkpoint that is broken.
    """

    def __init__(
        self, folder: Path, params: Any, device: str, answers: Answers, versions: Mapping[str, str]
    ) -> None:
        from stages.common.environment import fix_threads

        fix_threads(params.threads)
        import torch

        from evals import harness
        from evals.recall import Remembering
        from stages.common.checkpoint import load_model, load_tokenizer

        dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[params.evaluate.precision]
        self._folder, self._answers = folder, answers
        self._model, self._tokenizer = load_model(folder, dtype, device), load_tokenizer(folder)
        wrapped = harness.wrap(self._model, self._tokenizer, params.evaluate.batch_size)
        self._lm = Remembering(wrapped, answers, versions)

    @cached_property
    def tokenizer_hash(self) -> str:
        """Hash of what the tokenizer does."""
        from stages.common.checkpoint import tokenizer_sha256

        return str(self._answers.once(lambda: tokenizer_sha256(self._folder), "tokenizer"))

    @property
    def max_length(self) -> int:
        """Tokens that the model holds."""
        return int(self._answers.once(lambda: int(self._lm.max_length), "max_length"))

    def run(self, tasks: Sequence[Task]) -> Results:
        """Task results by lm-eval."""
        from evals import harness

        def measured(texts: Sequence[str]) -> list[int]:
            new = [text for text in texts if self._answers.get("tokens", text) is None]
            for text, count in zip(new, harness.lengths(self._lm, new), strict=True):
                self._answers.put(count, "tokens", text)
            return [int(self._answers.get("tokens", text)) for text in texts]

        with progress(None, "tasks", "rows") as bar:
            return harness.run(self._lm, tasks, bar.advance, measured)

    def logprobs(self, label: str, texts: Sequence[str], window: int) -> tuple[list[float], int]:
        """Log-probability of every text, and how many tokens lose text: of all texts together or of none,
        because the last bits of each depend on those in its batch.
        """
        from evals.bpc import unknown_tokens
        from evals.logprobs import text_logprobs

        def compute() -> list[Any]:
            with progress(None, label, "tokens") as bar:
                values = text_logprobs(self._model, self._tokenizer, texts, window, advance=bar.advance)
            return [values, unknown_tokens(self._tokenizer, texts)]

        values, unknown = self._answers.once(compute, "logprobs", list(texts), window)
        return values, unknown

    def answer(self, texts: Sequence[str]) -> list[str]:
        """Answers to open questions."""
        from evals import harness

        with progress(None, "open questions", "rows") as bar:
            return harness.answer(self._lm, texts, advance=bar.advance)
