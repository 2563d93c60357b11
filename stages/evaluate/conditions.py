"""What must be equal for the scores of two models to be comparable."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

from evals.bpc import Document
from evals.questions import Question
from evals.suites import Suite
from stages.common.hashing import sha256_json, sha256_path
from stages.evaluate.scored import Scored


def conditions(
    params: Any,
    suite: Suite,
    documents: dict[str, list[Document]],
    questions: list[Question],
    scored: Scored,
) -> dict[str, Any]:
    """The part `conditions` of scores.json: data by digest, versions, settings that move a result."""
    settings = params.evaluate
    return {
        "harness": f"lm-eval {version('lm-eval')}",
        "task_versions": {task.name: task.version for task in suite.tasks},
        "data": sha256_json(suite.digests),
        "heldout": sha256_json(
            {lang: [[doc.id, doc.text] for doc in docs] for lang, docs in documents.items()}
        ),
        "questions": sha256_json([[question.id, question.text] for question in questions]),
        "mode": settings.mode,
        "shots": settings.shots,
        "draw": settings.draw,
        "ask_unanswered": settings.ask_unanswered,
        "execute_code": settings.execute_code,
        "detox_scorers": _scorers(settings.detox_scorers),
        "limit": settings.limit,
        "pairs_per_phenomenon": settings.pairs_per_phenomenon if suite.pairs else None,
        "batch_size": settings.batch_size,
        "precision": settings.precision,
        "bpc_window": scored.window,
        "device": scored.model.device,
        "threads": params.threads,
    }


def _scorers(folder: str | None) -> str | None:
    """Digest of ruDetox's classifiers."""
    return None if folder is None else sha256_path(Path(folder))
