"""Stage `corpus`: reads the sources, cleans them, and writes documents, ledger, summary, tasks and truth."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.common.atomic import write_json
from stages.common.errors import UserError
from stages.common.manifest import Facts
from stages.common.params import Params
from stages.common.progress import progress
from stages.common.stage import Paths, Stage
from stages.corpus.reading import Account, make_world, read_records

if TYPE_CHECKING:
    from stages.corpus.clean import Cleaner
    from stages.corpus.summary import Tally
    from stages.corpus.world.model import World


def run(params: Any, inputs: Paths, outputs: Paths) -> Facts:  # noqa: ARG001
    """Clean the sources of params.yaml into documents.parquet and its companions."""
    from stages.corpus.clean import Cleaner
    from stages.corpus.contamination import TestItems, items_of
    from stages.corpus.summary import Tally
    from stages.corpus.tables import write_ledger
    from stages.corpus.words import WordHasher

    out = outputs["corpus"]
    block = params.corpus
    world = make_world(block)
    hasher = WordHasher()
    test, train = items_of(world, params.evaluate.suites, block.protect)
    test_items = TestItems(test, train, hasher)
    account, tally = Account(), Tally()
    texts = _clean(block, world, Cleaner(block, test_items, hasher), account, tally, out)
    if not tally.documents:
        raise UserError(
            f"corpus: nothing is left of {len(tally.ledger)} documents after cleaning "
            f"({tally.reasons_in_words()}); check corpus.sources, their language and corpus.min_chars"
        )
    write_ledger(out / "ledger.parquet", tally.ledger)
    write_tasks(out, world)
    truth = _write_truth(out, world, tally, texts)
    summary = tally.summary() | {
        "records": dict(sorted(account.records.items())),
        "unreadable": {"count": account.unreadable_count, "first": [asdict(b) for b in account.unreadable]},
        "protected_items": test_items.counts,
        "truth": truth,
    }
    write_json(out / "summary.json", summary)
    return Facts(lineage={"data": tally.licences()})


def _clean(
    block: Any, world: World | None, cleaner: Cleaner, account: Account, tally: Tally, out: Path
) -> dict[str, str]:
    """Write documents.parquet; returns the cleaned texts of the documents that the truth knows."""
    from stages.corpus.heldout import choose
    from stages.corpus.tables import DocumentTable

    table = DocumentTable(out / "documents.parquet")
    planted = {row.document_id for row in world.truth} if world else set()
    texts = {}
    with progress(len(world.documents) if world else None, "cleaning", "documents") as bar:
        for record in read_records(block, world, account):
            for row, document in cleaner.clean(record):
                tally.add(row, record, document)
                if document:
                    table.add(document)
                    if document.id in planted:
                        texts[document.id] = document.text
            bar.advance()
    held = choose(tally.sizes, block.heldout_share)
    tally.held = held
    table.finish(held)
    return texts


def write_tasks(out: Path, world: World | None) -> None:
    """Write `tasks/<task>/{train,test}.jsonl`, the index and `questions.jsonl`; empty without a world."""
    index = {}
    tasks: Mapping[str, Any] = world.tasks if world else {}
    for name, task in sorted(tasks.items()):
        folder = out / "tasks" / name
        folder.mkdir(parents=True)
        _write_jsonl(folder / "train.jsonl", task.train)
        _write_jsonl(folder / "test.jsonl", task.test)
        index[name] = {
            "language": task.language,
            "type": task.type,
            "choices": list(task.choices) if task.choices is not None else None,
            "options": list(task.options) if task.options is not None else None,
            "metric": task.metric,
            "test": len(task.test),
            "train": len(task.train),
        }
    write_json(out / "tasks" / "index.json", index)
    _write_jsonl(out / "questions.jsonl", world.questions if world else ())


def _write_jsonl(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for record in records:
            file.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")


def _write_truth(
    out: Path, world: World | None, tally: Tally, texts: Mapping[str, str]
) -> dict[str, Any] | None:
    from stages.corpus.tables import write_truth
    from stages.corpus.truth import join, score

    joined: list[dict[str, Any]] = []
    if world:
        originals = {document.id: document.text for document in world.documents}
        joined = join(world.truth, tally.ledger, originals, texts)
    write_truth(out / "truth.parquet", joined)
    return score(joined, tally.ledger) if joined else None


def locate(params: Params, cell: str | None) -> tuple[dict[str, Path], dict[str, Path]]:  # noqa: ARG001
    """From the fingerprints of the outside files to `out/corpus`."""
    return {"sources": Path("out/sources")}, {"corpus": Path("out/corpus")}


STAGE = Stage("corpus", run, reads=("corpus", "evaluate.suites"), locate=locate, torch=False)
