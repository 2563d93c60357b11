"""How many items of every task stand in the training documents: the corpus as it is, not as it was cleaned.

Evidence is that of `stages.corpus.contamination`: runs of 13 words (Brown et al. 2020, arXiv 2005.14165,
appendix C) that mostly come from the inputs of an item, or the whole of a short item. Runs of a task's
template are no evidence, nor are those that the world's training items hold too: the form of a task is what
training documents of that form share with it by right, and says nothing about the answer. Held-out documents
are not trained on and do not count.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stages.common.errors import UserError, one_line
from stages.common.progress import progress
from stages.common.suites import places
from stages.corpus.contamination import NGRAM, Record, TestItems
from stages.corpus.words import Hashes, WordHasher, normal_words

EXAMPLES = 10
BATCH_DOCUMENTS = 512


@dataclass(frozen=True)
class TestItem:
    """A test item of `task`; `doc_hash` is that of items.parquet."""

    __test__ = False

    task: str
    doc_hash: str
    record: Record


def overlaps(settings: Any, corpus: Path) -> dict[str, Any]:
    """The content of contamination.json: per task its items, how many of them stand in training documents,
    how many are too short to tell, and the `doc_hash` of the first contaminated ones.

    `settings`: the block `evaluate`. Raises `EvalError` for a suite that cannot be read, `UserError` for the
    table of documents.
    """
    items = list(test_items(places(settings.suites, corpus), settings.mode))
    evidence = TestItems([item.record for item in items], _training_items(corpus), hasher := WordHasher())
    found = _found(evidence, hasher, corpus / "documents.parquet")
    tasks: dict[str, dict[str, Any]] = {}
    for item in items:
        row = tasks.setdefault(item.task, {"items": 0, "contaminated": 0, "too_short": 0, "examples": []})
        runs = evidence.runs(item.record)
        row["items"] += 1
        row["too_short"] += not runs
        if any(np.isin(hashes, found.get(size, hashes[:0])).any() for size, hashes in runs.items()):
            row["contaminated"] += 1
            row["examples"].append(item.doc_hash)
    for row in tasks.values():
        row["examples"] = sorted(row["examples"])[:EXAMPLES]
    return {"ngram": NGRAM, "tasks": tasks}


def test_items(suites: Iterable[str], mode: Any) -> Iterator[TestItem]:
    """Every item that could be asked, answered or not, and the good sentence of every minimal pair."""
    from evals import minimal_pairs, prompts
    from evals import suites as reading

    suite = reading.load(suites, shots=0, mode=mode, ask_unanswered=True)
    for task in suite.tasks:
        for record in task.test:
            value = {"instruction": record.instruction, "inputs": record.inputs}
            yield TestItem(task.name, prompts.doc_hash(task, record), value)
    for pair in suite.pairs:
        yield TestItem(minimal_pairs.TASK, minimal_pairs.doc_hash(pair), {"inputs": pair.good})


test_items.__test__ = False  # type: ignore[attr-defined]


def _training_items(corpus: Path) -> Iterator[Record]:
    """The solved items of the embedded world, which are meant for training."""
    for path in sorted((corpus / "tasks").glob("*/train.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            yield json.loads(line)


def _found(evidence: TestItems, hasher: WordHasher, documents: Path) -> Mapping[int, Hashes]:
    """Length of run -> runs of test items that stand in training documents, which are read one by one."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    found: dict[int, Hashes] = {}
    try:
        batches = pq.ParquetFile(documents).iter_batches(BATCH_DOCUMENTS, columns=["split", "text"])
        with progress(None, "contamination", "documents") as bar:
            for row in (row for batch in batches for row in batch.to_pylist()):
                if row["split"] != "train":
                    continue
                for size, hashes in evidence.found(hasher(normal_words(row["text"]))).items():
                    if len(hashes):
                        found[size] = np.union1d(found.get(size, hashes[:0]), hashes)
                bar.advance()
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{documents}: not the documents table of `corpus` ({one_line(error)})") from error
    return found
