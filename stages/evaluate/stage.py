"""Scores one model on today's items: tasks, bits per character, open answers for the judge."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.common import champion
from stages.common.atomic import write_json
from stages.common.champion import CHAMPION, CHAMPION_FILE
from stages.common.manifest import Facts
from stages.common.params import Params
from stages.common.stage import OUT, Paths, Stage

if TYPE_CHECKING:
    from evals.bpc import Document
    from evals.questions import Question
    from evals.suites import Suite
    from stages.evaluate.models import Model
    from stages.evaluate.scored import Scored

SUBMISSION = "submission"


def locate(params: Params, cell: str | None) -> tuple[dict[str, Path], dict[str, Path]]:
    """Inputs and outs of one cell: the champion lies where champion.json says, an anchor in out/, an endpoint
    nowhere.

    The fingerprints stand for suites outside the repository.
    """
    data = {"corpus": OUT / "corpus", "sources": OUT / "sources"}
    out = {"evaluate": OUT / "evaluate" / str(cell)}
    if cell == CHAMPION:
        return {"checkpoint": champion.folder(), "champion": CHAMPION_FILE, **data}, out
    if cell in params.evaluate.endpoints:
        return data, out
    source = OUT if cell in params.gate.against_anchor else OUT / "quantize"
    return {"checkpoint": source / str(cell), **data}, out


def run(params: Any, inputs: Paths, outputs: Paths) -> Facts:
    """Task scores, bits per character and open answers of one model."""
    from evals import suites
    from stages.common.suites import places
    from stages.evaluate import heldout

    settings, corpus = params.evaluate, inputs["corpus"]
    suite = suites.load(
        places(settings.suites, corpus),
        settings.shots,
        settings.limit,
        settings.pairs_per_phenomenon,
        settings.mode,
        settings.draw,
        settings.ask_unanswered,
    )
    questions = heldout.questions(corpus / "questions.jsonl", settings.questions)
    if "checkpoint" not in inputs:
        from stages.evaluate import remote

        scored = remote.score(settings, suite, questions)
        return _write(params, suite, {}, questions, scored, outputs["evaluate"])
    documents = heldout.read(corpus / "documents.parquet", settings.bpc_characters)
    scored = _score(params, inputs, suite, documents, questions)
    return _write(params, suite, documents, questions, scored, outputs["evaluate"])


def _score(
    params: Any, inputs: Paths, suite: Suite, documents: dict[str, list[Document]], questions: list[Question]
) -> Scored:
    """Out of the cache where it holds every answer, else by the model, which then answers what is new."""
    from evals.answers import Answers
    from evals.recall import UnknownError
    from stages.common.checkpoint import check_own_tokenizer, digest, pick_device
    from stages.evaluate.models import FOLDER, Loaded, Recalled, scope
    from stages.evaluate.scored import Weights, score

    folder = inputs["checkpoint"]
    found = digest(folder)
    if "champion" in inputs:
        champion.check(inputs["champion"], folder, found)
    check_own_tokenizer(folder)
    device = pick_device(params.device)
    answers = Answers(FOLDER, scope(params, found, device))
    versions = {task.name: task.version for task in suite.tasks}

    def by(model: Model) -> Scored:
        about = Weights(found, model.tokenizer_hash, device)
        return score(model, about, suite, documents, questions, params.evaluate.bpc_window)

    try:
        return by(Recalled(answers, versions))
    except UnknownError:
        return by(Loaded(folder, params, device, answers, versions))
    finally:
        answers.close()


def _write(
    params: Any,
    suite: Suite,
    documents: dict[str, list[Document]],
    questions: list[Question],
    scored: Scored,
    out: Path,
) -> Facts:
    from evals import scores
    from evals.mera import outcomes, submission
    from stages.evaluate import tables
    from stages.evaluate.conditions import conditions

    settings = params.evaluate
    scorers = settings.detox_scorers and Path(settings.detox_scorers)
    if scorers:
        from stages.common.environment import fix_threads

        fix_threads(params.threads)
    given = outcomes.gather(suite.tasks, scored.results.answers, settings.execute_code, scorers)
    tables.write_items(out / "items.parquet", scored.items, scored.bits)
    tables.write_answers(out / "answers.parquet", questions, scored.answers)
    asked = [task for task in suite.tasks if task.name not in scored.results.refused]
    described: dict[str, Any] = {
        "model": scored.model.described,
        "conditions": conditions(params, suite, documents, questions, scored),
        **scores.describe(suite, scored.results, scored.pairs, given.values),
        "bpc": scores.describe_bits(scored.bits),
    }
    if any(task.declared for task in asked):
        described["mera"]["not_submitted"] = submission.export(
            asked, scored.results.answers, given.results, out / SUBMISSION
        )
    write_json(out / "scores.json", described)
    return Facts(notes={"model": scored.model.digest})


def _cells(params: Params) -> list[str]:
    return [*params.candidates, CHAMPION, *params.gate.against_anchor, *params.evaluate.endpoints]


STAGE = Stage(
    "evaluate", run, reads=("evaluate", "threads", "device"), locate=locate, cells=_cells, torch=False
)
