"""Readers: every format, plain and compressed, and one clear line for every kind of damage."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from stages.common.errors import UserError
from stages.common.params.corpus import CorpusBlock
from stages.corpus.files import Layout, read_file
from stages.corpus.reading import Account, read_records
from stages.corpus.record import Unreadable

TEXTS = ["Первый документ.", "Second document\nof two lines.", "Третий — «с кавычками»"]
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".zst": zstandard.ZstdCompressor().compress,
}
PLAIN = Layout("text", None)


def _jsonl(records: list[Any]) -> bytes:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode()


def _parquet(path: Path, columns: dict[str, list[Any]]) -> bytes:
    pq.write_table(pa.table(columns), path)
    return path.read_bytes()


def _texts(path: Path, layout: Layout = PLAIN) -> list[Any]:
    return [text for _, text in read_file(path, layout)]


def _block(*paths: Path, share: float = 0.01, **source: Any) -> CorpusBlock:
    given = {
        "type": "files",
        "paths": [str(p) for p in paths],
        "subset": "s",
        "language": "ru",
        "licence": "MIT",
    }
    return CorpusBlock(
        sources=[given | source],
        heldout_share=0.1,
        broken_lines_share=share,
        min_chars=5,
        language_score=0.5,
        near_duplicate_similarity=0.8,
        redact=True,
    )


@pytest.mark.parametrize("suffix", PACKERS)
def test_jsonl_round_trip(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.jsonl{suffix}"
    path.write_bytes(PACKERS[suffix](_jsonl([{"text": text, "other": 1} for text in TEXTS])))
    assert _texts(path) == TEXTS


@pytest.mark.parametrize("suffix", PACKERS)
def test_txt_is_one_document(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.txt{suffix}"
    path.write_bytes(PACKERS[suffix]("\ufeff".encode() + "\n\n".join(TEXTS).encode()))
    assert _texts(path) == ["\n\n".join(TEXTS)]


@pytest.mark.parametrize("suffix", PACKERS)
def test_parquet_round_trip(tmp_path: Path, suffix: str) -> None:
    content = _parquet(tmp_path / "plain.parquet", {"n": [1, 2, 3], "text": TEXTS})
    path = tmp_path / f"a.parquet{suffix}"
    path.write_bytes(PACKERS[suffix](content))
    assert _texts(path) == TEXTS


def test_several_zstandard_frames_are_one_stream(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.zst"
    path.write_bytes(b"".join(PACKERS[".zst"](_jsonl([{"text": text}])) for text in TEXTS))
    assert _texts(path) == TEXTS


def test_template_fills_named_fields(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(_jsonl([{"question": "Сколько {x}?", "answer": 4}, {"question": "Где?"}]))
    first, second = _texts(path, Layout("text", "{question}\nОтвет: {answer}"))
    assert first == "Сколько {x}?\nОтвет: 4"
    assert second == Unreadable(path.as_posix(), 2, "no field `answer`")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"text": "a"', "not JSON: Expecting"),
        (b"[1]", "expected an object, found list"),
        (b'{"body": "a"}', "no field `text`"),
        (b'{"text": 5}', "field `text` is int, not text"),
        (b'{"text": null}', "no field `text`"),
        (b'{"text": "\\ud800"}', "a lone surrogate"),
        (b"[" * 100_000, "not JSON: nested too deep"),
        (b'{"text": ' + b"9" * 5000 + b"}", ""),
    ],
)
def test_unreadable_lines_are_told_with_file_and_line(tmp_path: Path, line: bytes, reason: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(_jsonl([{"text": "good"}]) + b"\n" + line + b"\n")
    good, bad = _texts(path)
    assert good == "good"
    assert isinstance(bad, Unreadable)
    assert (bad.file, bad.line) == (path.as_posix(), 3)
    assert reason in bad.reason


def test_undecodable_file_names_the_byte(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    good = _jsonl([{"text": "ё"}])
    path.write_bytes(good + '{"text": "Привет"}'.encode("cp1251"))
    with pytest.raises(UserError, match=f"a.jsonl: not UTF-8 text .* at byte {len(good) + 10}"):
        _texts(path)
    text = tmp_path / "b.txt"
    text.write_bytes("Привет".encode("cp1251"))
    with pytest.raises(UserError, match=r"b\.txt: not UTF-8 text .* at byte 0"):
        _texts(text)


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst", "a.txt.gz", "a.parquet"])
def test_truncated_files_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.endswith("parquet"):
        content = _parquet(path, {"text": TEXTS})
    else:
        content = PACKERS[path.suffix](_jsonl([{"text": text * 50} for text in TEXTS]))
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="damaged") as error:
        _texts(path)
    assert str(path) in str(error.value)


def test_file_that_is_not_what_its_name_says(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(_jsonl([{"text": "plain"}]))
    with pytest.raises(UserError, match="damaged compressed file"):
        _texts(path)


def test_parquet_without_the_column_names_those_it_has(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    _parquet(path, {"body": TEXTS})
    with pytest.raises(UserError, match="no column `text`; it has body"):
        _texts(path)


def test_broken_lines_within_the_share_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(_jsonl([{"text": f"документ {n}"} for n in range(99)]) + b"{broken\n")
    account = Account()
    records = list(read_records(_block(path), None, account))
    assert len(records) == 99
    assert records[7].id == f"{path.as_posix()}:8"
    assert account.records == {path.as_posix(): 100}
    assert [(broken.file, broken.line) for broken in account.unreadable] == [(path.as_posix(), 100)]


def test_too_many_broken_lines_stop_the_stage(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(_jsonl([{"text": "a"}] * 50) + b"{broken\n")
    with pytest.raises(
        UserError, match=r"a\.jsonl, line 51: not JSON.*1 of 51 records.*broken_lines_share = 0.01"
    ):
        list(read_records(_block(path), None, Account()))


def test_a_file_named_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("Текст документа.")
    with pytest.raises(UserError, match="twice"):
        list(read_records(_block(path, tmp_path), None, Account()))
