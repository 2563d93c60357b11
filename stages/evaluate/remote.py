"""The cell of a model behind an address: tasks whose answers are written, and open questions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evals import recall, remote
from evals.errors import EvalError
from evals.judge.endpoint import Endpoint, Settings
from evals.minimal_pairs import TASK as PAIRS_TASK
from evals.prompts import open_requests
from evals.questions import Question
from evals.suites import Suite
from stages.common.progress import progress
from stages.evaluate.scored import Scored, Weights

FOLDER = Path(".gorn/cache/endpoints")
LANGUAGE = "ru"  # of the placeholders that stand for personal data


def score(settings: Any, suite: Suite, questions: Sequence[Question]) -> Scored:
    """Ask the one endpoint of the block `evaluate`. Raises `EvalError` as `evals.remote.Remote` does."""
    from stages.corpus.personal import redact

    ((name, named),) = settings.endpoints.items()
    refused = remote.refused(suite.tasks)
    if suite.pairs:
        refused[PAIRS_TASK] = remote.NO_CHOICES
    tasks = [task for task in suite.tasks if task.name not in refused]
    if not tasks:
        raise EvalError(f"endpoint `{name}`: no task of `evaluate.suites` has answers that are written")
    with progress(None, name, "replies") as bar:
        endpoint = Endpoint(
            Settings(named.address, named.model, named.key_variable, timeout=300.0),
            lambda text: redact(text, LANGUAGE)[0],
            settings.texts_may_leave,
            FOLDER / f"{name}.jsonl",
            bar.advance,
            role="model",
        )
        lm = remote.Remote(endpoint)
        results = recall.run(lm, tasks, lambda *_: None)
        answers = [text.strip() for text in lm.generate_until(open_requests([q.text for q in questions]))]
    results.refused |= refused
    about = Weights(endpoint.identity("", None).digest, None, "endpoint", endpoint=named.model)
    return Scored(about, results, answers)
