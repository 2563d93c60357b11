"""Stage `tokens`: what is packed can be read back, the tokenizer is the same every time, bad corpora are
refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from training_fakes import texts, tiny_model

from stages.common.atomic import read_json
from stages.common.bpe import train_tokenizer
from stages.common.checkpoint import load_tokenizer, save_model
from stages.common.errors import UserError
from stages.common.training.shards import Shards, token_dtype
from stages.tokens.documents import balanced_texts
from stages.tokens.stage import run

TRICKY = ["конец <|endoftext|> не конец", "ё и ё, é é", "tabs\tи  пробелы \n\n 123456 🙂"]


def _rows(
    subset: str, language: str, found: Iterable[str], split: str = "train", licence: str = "MIT"
) -> list[dict[str, Any]]:
    return [
        {
            "subset": subset,
            "language": language,
            "licence": licence,
            "split": split,
            "text": text,
            "n_chars": len(text),
        }
        for text in found
    ]


def _corpus(folder: Path, rows: list[dict[str, Any]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / "documents.parquet")
    return folder


def _run(tmp_path: Path, rows: list[dict[str, Any]], name: str = "tokens", **changes: Any) -> Path:
    out = tmp_path / name
    out.mkdir()
    base = SimpleNamespace(source=changes.get("source", "bootstrap"), path=changes.get("path"))
    block = SimpleNamespace(
        tokenizer=changes.get("tokenizer", "train"), vocab_size=changes.get("vocab_size", 320)
    )
    run(
        SimpleNamespace(tokens=block, base=base),
        {"corpus": _corpus(tmp_path / "corpus", rows)},
        {"tokens": out},
    )
    return out


def _documents() -> list[dict[str, Any]]:
    return [
        *_rows("classics", "ru", [*texts("ru", 30), *TRICKY]),
        *_rows("classics", "ru", texts("ru", 4, seed=5), "heldout"),
        *_rows("gutenberg", "en", texts("en", 30)),
        *_rows("gutenberg", "en", texts("en", 4, seed=5), "heldout"),
    ]


def test_every_document_can_be_read_back(tmp_path: Path) -> None:
    import unicodedata

    out = _run(tmp_path, _documents())
    shards, tokenizer = Shards.open(out), load_tokenizer(out / "tokenizer")
    for subset in ("classics", "gutenberg"):
        for split in ("train", "heldout"):
            stream, ends = shards.tokens(subset, split), shards.ends(subset, split)
            pieces = np.split(np.asarray(stream), ends[:-1])
            assert all(piece[-1] == shards.eos_id for piece in pieces)
            assert all(shards.eos_id not in piece[:-1] for piece in pieces)
            found = [tokenizer.decode(piece[:-1].tolist()) for piece in pieces]
            rows = [row for row in _documents() if (row["subset"], row["split"]) == (subset, split)]
            assert found == [unicodedata.normalize("NFC", row["text"]) for row in rows]
            about = shards.subsets[subset][split]
            assert about == {
                "documents": len(rows),
                "tokens": len(stream),
                "chars": sum(row["n_chars"] for row in rows),
            }


def test_the_same_corpus_gives_the_same_bytes(tmp_path: Path) -> None:
    digests = []
    for name in ("first", "second"):
        out = _run(tmp_path, _documents(), name)
        files = sorted(file for file in out.rglob("*") if file.is_file())
        digests.append(
            [(str(file.relative_to(out)), hashlib.sha256(file.read_bytes()).hexdigest()) for file in files]
        )
    assert digests[0] == digests[1]


def test_fertility(tmp_path: Path) -> None:
    out = _run(tmp_path, _documents())
    entry = read_json(out / "fertility.json")["subsets"]["gutenberg"]
    shards = Shards.open(out)
    rows = [row for row in _documents() if row["subset"] == "gutenberg"]
    words = sum(len(row["text"].split()) for row in rows)
    tokens = sum(shards.subsets["gutenberg"][split]["tokens"] for split in ("train", "heldout")) - len(rows)
    assert entry["tokens_per_word"] == pytest.approx(tokens / words, abs=1e-3)
    assert entry["chars_per_token"] == pytest.approx(sum(row["n_chars"] for row in rows) / tokens, abs=1e-3)
    assert entry["round_trip_errors"] == 0
    assert 0 < entry["words_within_two_tokens"] <= 1


def test_a_small_vocabulary_is_two_bytes_a_token_and_a_big_one_four(tmp_path: Path) -> None:
    assert (token_dtype(65536).itemsize, token_dtype(65537).itemsize) == (2, 4)
    out = _run(tmp_path, _documents())
    size = (out / "classics.train.bin").stat().st_size
    assert size == 2 * Shards.open(out).subsets["classics"]["train"]["tokens"]


def test_a_subset_of_two_languages_and_licences_says_so(tmp_path: Path) -> None:
    rows = [*_rows("tasks", "ru", texts("ru", 9)), *_rows("tasks", "en", texts("en", 9), licence="CC-BY-4.0")]
    out = _run(tmp_path, rows)
    about = read_json(out / "shards.json")["subsets"]["tasks"]
    assert (about["language"], about["licence"]) == ("mul", "CC-BY-4.0 AND MIT")
    assert set(read_json(out / "fertility.json")["subsets"]) == {"tasks:ru", "tasks:en"}


def test_no_language_drowns_the_other_when_the_tokenizer_is_trained(tmp_path: Path) -> None:
    rows = [*_rows("a", "en", texts("en", 900)), *_rows("b", "ru", texts("ru", 30))]
    folder = _corpus(tmp_path / "corpus", rows)
    russian = sum(len(row["text"]) for row in rows[900:])
    chosen = list(balanced_texts(folder / "documents.parquet"))
    english = sum(len(text) for text in chosen if not any("а" <= letter <= "я" for letter in text))
    total = sum(row["n_chars"] for row in rows[:900])
    assert english == pytest.approx(max(russian, total // 4), rel=0.05)
    assert sum(len(text) for text in chosen) - english == russian


def test_the_tokenizer_of_the_base(tmp_path: Path) -> None:
    own = train_tokenizer(texts("ru", 50), 310)
    save_model(tiny_model(vocab_size=len(own)), own, tmp_path / "base")
    out = _run(tmp_path, _documents(), tokenizer="base", source="local", path=str(tmp_path / "base"))
    assert Shards.open(out).vocab_size == len(own)
    text = "кот спит 12 <|endoftext|>"
    assert load_tokenizer(out / "tokenizer").encode(text) == load_tokenizer(tmp_path / "base").encode(text)


def test_the_tokenizer_of_a_base_that_is_not_there_yet(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="needs a base that exists"):
        _run(tmp_path, _documents(), tokenizer="base")


def test_a_subset_without_training_text_is_refused(tmp_path: Path) -> None:
    rows = [*_documents(), *_rows("empty", "ru", texts("ru", 2), "heldout")]
    with pytest.raises(UserError, match="`empty` has no training document"):
        _run(tmp_path, rows)


def test_an_unreadable_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "documents.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(UserError, match=r"documents\.parquet"):
        list(balanced_texts(tmp_path / "documents.parquet"))
