"""Stage `supervised`: the files of `adapt.data` become cleaned conversations, some of them held out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stages.common.atomic import write_json
from stages.common.manifest import Facts
from stages.common.params import Params
from stages.common.stage import OUT, Paths, Stage

CORPUS_KEYS = ("sources", "protect", "broken_lines_share", "heldout_share", "redact")


def run(params: Any, inputs: Paths, outputs: Paths) -> Facts:  # noqa: ARG001
    """Write conversations.jsonl, empty where no file is declared, and the account of it, summary.json."""
    from stages.corpus.contamination import TestItems, items_of
    from stages.corpus.reading import make_world
    from stages.corpus.words import WordHasher
    from stages.supervised.collect import Collector, WholeItems

    sources, block = params.adapt.data or (), params.corpus
    # Without examples there is nothing that could hold an item, and the world need not be made.
    world = make_world(block) if sources else None
    test, train = items_of(world, params.evaluate.suites, block.protect) if sources else ([], [])
    hasher = WordHasher()
    collector = Collector(block, TestItems(test, train, hasher), WholeItems(test, train), hasher)
    write_json(outputs["supervised"] / "summary.json", collector.write(sources, outputs["supervised"]))
    return Facts(lineage={"data": {source.subset: [source.licence] for source in sources}})


def locate(params: Params, cell: str | None) -> tuple[dict[str, Path], dict[str, Path]]:  # noqa: ARG001
    """From the fingerprints of the outside files to `out/supervised`."""
    inputs = {"sources": OUT / "sources", "files": OUT / "sources_supervised"}
    return inputs, {"supervised": OUT / "supervised"}


STAGE = Stage(
    "supervised",
    run,
    reads=("adapt.data", *(f"corpus.{key}" for key in CORPUS_KEYS), "evaluate.suites"),
    locate=locate,
    torch=False,
)
