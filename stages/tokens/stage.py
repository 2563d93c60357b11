"""Stage `tokens`: trains or takes the tokenizer and packs every subset of the corpus into memory-mapped
shards.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stages.common.atomic import write_json
from stages.common.errors import UserError
from stages.common.manifest import Facts
from stages.common.params import Params
from stages.common.stage import OUT, Paths, Stage


def run(params: Any, inputs: Paths, outputs: Paths) -> Facts:
    """Write `tokenizer/`, the shards, `shards.json` and `fertility.json`."""
    from stages.common.bpe import train_tokenizer
    from stages.common.checkpoint import load_tokenizer, save_tokenizer, tokenizer_sha256
    from stages.common.hub import base_folder
    from stages.common.training.shards import token_dtype
    from stages.tokens.documents import balanced_texts
    from stages.tokens.pack import pack
    from stages.tokens.take import take

    out, documents = outputs["tokens"], inputs["corpus"] / "documents.parquet"
    folder = out / "tokenizer"
    folder.mkdir()
    if params.tokens.tokenizer == "train":
        save_tokenizer(train_tokenizer(balanced_texts(documents), params.tokens.vocab_size), folder)
    elif params.base.source == "bootstrap":
        raise UserError(
            "params.yaml: `tokens.tokenizer: base` needs a base that exists; set `base.source: local` or "
            "`hub`, or `tokens.tokenizer: train`"
        )
    else:
        take(base_folder(params.base), folder)
    tokenizer = load_tokenizer(folder)
    subsets, fertility = pack(documents, tokenizer, out)
    shards = {
        "dtype": token_dtype(len(tokenizer)).name,
        "vocab_size": len(tokenizer),
        "eos_id": tokenizer.eos_token_id,
        "tokenizer_sha256": tokenizer_sha256(folder),
        "subsets": subsets,
    }
    write_json(out / "shards.json", shards)
    write_json(out / "fertility.json", {"vocab_size": len(tokenizer), "subsets": fertility})
    data = [
        {"subset": name, "language": s["language"], "licence": s["licence"]} for name, s in subsets.items()
    ]
    return Facts(lineage={"data": data}, notes={"vocab_size": len(tokenizer)})


def locate(params: Params, cell: str | None) -> tuple[dict[str, Path], dict[str, Path]]:  # noqa: ARG001
    """Reads the corpus, after it passed validation, and the fingerprints of a base outside the repository."""
    return (
        {"corpus": OUT / "corpus", "sources": OUT / "sources", "validate": OUT / "validate"},
        {"tokens": OUT / "tokens"},
    )


READS = ("tokens", "base.source", "base.path", "base.revision", "threads")
STAGE = Stage("tokens", run, reads=READS, locate=locate)
