"""Scores one model on today's items: tasks, bits per character, open answers for the judge."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stages.common import champion
from stages.common.atomic import write_json
from stages.common.champion import CHAMPION, CHAMPION_FILE
from stages.common.manifest import Facts
from stages.common.params import Params
from stages.common.progress import progress
from stages.common.stage import OUT, Paths, Stage

WORLD = "world"


def locate(params: Params, cell: str | None) -> tuple[dict[str, Path], dict[str, Path]]:
    """Inputs and outs of one cell; the champion lies where champion.json says, an anchor in out/.

    The fingerprints stand for suites outside the repository.
    """
    data = {"corpus": OUT / "corpus", "sources": OUT / "sources"}
    out = {"evaluate": OUT / "evaluate" / str(cell)}
    if cell == CHAMPION:
        return {"checkpoint": champion.folder(), "champion": CHAMPION_FILE, **data}, out
    source = OUT if cell in params.gate.against_anchor else OUT / "quantize"
    return {"checkpoint": source / str(cell), **data}, out


def run(params: Any, inputs: Paths, outputs: Paths) -> Facts:
    """Task scores, bits per character and open answers of one model."""
    from evals import scores, suites
    from stages.common.checkpoint import (
        check_own_tokenizer,
        digest,
        load_model,
        load_tokenizer,
        pick_device,
        tokenizer_sha256,
    )
    from stages.evaluate import heldout, tables
    from stages.evaluate.conditions import conditions

    settings, folder, corpus = params.evaluate, inputs["checkpoint"], inputs["corpus"]
    model_digest = digest(folder)
    if "champion" in inputs:
        champion.check(inputs["champion"], folder, model_digest)
    check_own_tokenizer(folder)
    suite = suites.load(
        [corpus / "tasks" if name == WORLD else Path(name) for name in settings.suites],
        settings.shots,
        settings.limit,
        settings.pairs_per_phenomenon,
    )
    documents = heldout.read(corpus / "documents.parquet", settings.bpc_characters)
    questions = heldout.questions(corpus / "questions.jsonl", settings.questions)

    import torch

    device = pick_device(params.device)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[settings.precision]
    model, tokenizer = load_model(folder, dtype, device), load_tokenizer(folder)
    scored = _score(model, tokenizer, suite, documents, questions, settings)
    tables.write_items(outputs["evaluate"] / "items.parquet", scored["items"], scored["bits"])
    tables.write_answers(outputs["evaluate"] / "answers.parquet", questions, scored["answers"])
    write_json(
        outputs["evaluate"] / "scores.json",
        {
            "model": {"digest": model_digest, "tokenizer": tokenizer_sha256(folder)},
            "conditions": conditions(params, suite, documents, questions, device, scored["window"]),
            **scores.describe(suite, scored["tasks"], scored["pairs"]),
            "bpc": scores.describe_bits(scored["bits"]),
        },
    )
    return Facts(notes={"model": model_digest})


def _score(
    model: Any, tokenizer: Any, suite: Any, documents: Any, questions: Any, settings: Any
) -> dict[str, Any]:
    """Everything that needs the model, in one place: task results, pair items, bits per language, answers."""
    from evals import harness, minimal_pairs
    from evals.bpc import bits_per_character

    lm = harness.wrap(model, tokenizer, settings.batch_size)
    window = min(settings.bpc_window, lm.max_length)
    with progress(None, "tasks", "rows") as bar:
        results = harness.run(lm, suite.tasks, bar.advance)
    with progress(None, "minimal pairs", "tokens") as bar:
        pairs = minimal_pairs.score_pairs(model, tokenizer, suite.pairs, window, advance=bar.advance)
    bits = {}
    for language, chosen in documents.items():
        with progress(None, f"bits per character, {language}", "tokens") as bar:
            bits[language] = bits_per_character(model, tokenizer, chosen, window, advance=bar.advance)
    with progress(None, "open questions", "rows") as bar:
        answers = harness.answer(lm, [question.text for question in questions], advance=bar.advance)
    items = [*results.items, *pairs]
    return {
        "tasks": results,
        "pairs": pairs,
        "items": items,
        "bits": bits,
        "answers": answers,
        "window": window,
    }


def _cells(params: Params) -> list[str]:
    return [*params.candidates, CHAMPION, *params.gate.against_anchor]


STAGE = Stage("evaluate", run, reads=("evaluate", "threads", "device"), locate=locate, cells=_cells)
