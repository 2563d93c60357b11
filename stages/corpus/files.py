"""Readers of local files: jsonl, txt and parquet, plain, gzip or zstandard, record by record."""

from __future__ import annotations

import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from stages.common.errors import UserError
from stages.common.outside import text_format
from stages.corpus.record import Unreadable

PLACE = re.compile(r"\{(\w+)\}")
BATCH = 1024
_BLOCK = 1 << 16
_SURROGATE = re.compile(r"[\ud800-\udfff]")


class Layout:
    """How a record becomes text: one field, or a template whose `{places}` are fields."""

    def __init__(self, text_field: str, template: str | None) -> None:
        self._text_field, self._template = text_field, template
        self.fields = tuple(dict.fromkeys(PLACE.findall(template))) if template else (text_field,)

    def fill(self, record: Any) -> str:
        """The text of `record`. Raises `ValueError` that says what is wrong with it."""
        if not isinstance(record, dict):
            raise ValueError(f"expected an object, found {type(record).__name__}")
        missing = [name for name in self.fields if record.get(name) is None]
        if missing:
            raise ValueError(f"no field `{missing[0]}`")
        if self._template is None:
            text = record[self._text_field]
            if not isinstance(text, str):
                raise ValueError(f"field `{self._text_field}` is {type(text).__name__}, not text")
        else:
            text = PLACE.sub(lambda place: str(record[place[1]]), self._template)
        if _SURROGATE.search(text):
            raise ValueError("a lone surrogate, which is no text")
        return text


def read_file(path: Path, layout: Layout) -> Iterator[tuple[int, str | Unreadable]]:
    """Yield (number of line or row from 1; text, or what made it unreadable) for every record.

    A txt file is one document. Raises `UserError` for a file that is not UTF-8, damaged, or cannot be opened.
    """
    reader = {".jsonl": _read_jsonl, ".txt": _read_txt, ".parquet": _read_parquet}[
        text_format(path) or ".txt"
    ]
    with _readable(path):
        yield from reader(path, layout)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    import zstandard

    try:
        yield
    except (gzip.BadGzipFile, zlib.error, zstandard.ZstdError, EOFError) as error:
        raise UserError(f"{path}: damaged compressed file ({error}); fetch it again") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error


@contextmanager
def open_binary(path: Path) -> Iterator[IO[bytes]]:
    """The decompressed bytes of `path` as a stream."""
    match path.suffix.lower():
        case ".gz":
            with gzip.open(path, "rb") as packed:
                yield packed  # type: ignore[misc]
        case ".zst":
            with path.open("rb") as raw:
                yield io.BufferedReader(_ZstandardStream(raw))
        case _:
            with path.open("rb") as raw:
                yield raw


class _ZstandardStream(io.RawIOBase):
    """Decompressed bytes of all frames of a file.

    zstandard's own stream reader takes a truncated file for a complete one; this one raises `EOFError`.
    """

    def __init__(self, raw: IO[bytes]) -> None:
        import zstandard

        self._raw = raw
        self._start = zstandard.ZstdDecompressor().decompressobj
        self._frame = self._start()
        self._begun = False
        self._ready = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            packed = self._next_input()
            if not packed:
                return 0
            self._ready = self._frame.decompress(packed)
            self._begun = True
        count = min(len(buffer), len(self._ready))
        buffer[:count], self._ready = self._ready[:count], self._ready[count:]
        return count

    def _next_input(self) -> bytes:
        """Packed bytes for the current frame, or for a new one; empty at the end of the last frame."""
        left = b""
        if self._begun and self._frame.eof:
            left, self._frame, self._begun = self._frame.unused_data, self._start(), False
        packed = left or self._raw.read(_BLOCK)
        if not packed and self._begun:
            raise EOFError("the last frame ends too early")
        return packed


def _decode(data: bytes, path: Path, offset: int) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        where = offset + error.start
        raise UserError(
            f"{path}: not UTF-8 text ({error.reason} at byte {where}); re-encode it, for instance with iconv"
        ) from error


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (number from 1, line) of the UTF-8 file `path`, without blank lines. Raises `UserError`."""
    for number, offset, data in read_bytes(path):
        line = _decode(data, path, offset)
        if line.strip():
            yield number, line


def read_bytes(path: Path) -> Iterator[tuple[int, int, bytes]]:
    """Yield (number from 1, its place in the file, line) of `path`, without a byte order mark and lines of
    spaces. Raises `UserError`.
    """
    offset = 0
    with _readable(path), open_binary(path) as stream:
        for number, data in enumerate(stream, start=1):
            start = 3 if number == 1 and data.startswith(b"\xef\xbb\xbf") else 0
            if data[start:].strip():
                yield number, offset + start, data[start:]
            offset += len(data)


def _read_jsonl(path: Path, layout: Layout) -> Iterator[tuple[int, str | Unreadable]]:
    for number, line in read_lines(path):
        try:
            yield number, layout.fill(json.loads(line))
        except json.JSONDecodeError as error:
            yield (
                number,
                Unreadable(path.as_posix(), number, f"not JSON: {error.msg} at column {error.colno}"),
            )
        except RecursionError:
            yield number, Unreadable(path.as_posix(), number, "not JSON: nested too deep")
        except ValueError as error:
            yield number, Unreadable(path.as_posix(), number, str(error))


def _read_txt(path: Path, layout: Layout) -> Iterator[tuple[int, str | Unreadable]]:  # noqa: ARG001
    with open_binary(path) as stream:
        yield 1, _decode(stream.read(), path, 0).removeprefix("\ufeff")


def _read_parquet(path: Path, layout: Layout) -> Iterator[tuple[int, str | Unreadable]]:
    import pyarrow
    import pyarrow.parquet

    with open_binary(path) as stream:
        try:
            packed = path.suffix.lower() != ".parquet"
            table = pyarrow.parquet.ParquetFile(io.BytesIO(stream.read()) if packed else stream)
            absent = [name for name in layout.fields if name not in table.schema_arrow.names]
            if absent:
                columns = ", ".join(table.schema_arrow.names)
                raise UserError(f"{path}: no column `{absent[0]}`; it has {columns}")
            number = 0
            for batch in table.iter_batches(batch_size=BATCH, columns=list(layout.fields)):
                for row in batch.to_pylist():
                    number += 1
                    yield number, _parquet_text(row, path, number, layout)
        except (pyarrow.ArrowInvalid, pyarrow.ArrowIOError) as error:
            raise UserError(f"{path}: damaged or no parquet file ({error})") from error


def _parquet_text(row: dict[str, Any], path: Path, number: int, layout: Layout) -> str | Unreadable:
    try:
        return layout.fill(row)
    except ValueError as error:
        return Unreadable(path.as_posix(), number, str(error))
