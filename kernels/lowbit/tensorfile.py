"""Safetensors tensor by tensor: reading sharded folders, and writing one file whose tensors never are in
memory together.

The library `safetensors` writes only what is complete in memory, so the container is written here: eight
bytes of header length, a JSON header padded with spaces to eight bytes, the raw tensors. Order and padding
are those of the library, so that `save_pretrained` of the loaded model gives the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from lowbit.errors import LowbitError

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
DTYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E4M3": torch.float8_e4m3fn,
    "I16": torch.int16,
    "U16": torch.uint16,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I32": torch.int32,
    "U32": torch.uint32,
    "F32": torch.float32,
    "F64": torch.float64,
    "I64": torch.int64,
    "U64": torch.uint64,
}
ORDER = list(
    DTYPES
)  # the library stores the widest dtypes first, in the reverse of this order, and then by name
DIGEST_BYTES = 16
READ_BYTES = 1 << 22
NAMES = {dtype: name for name, dtype in DTYPES.items()}


class Source:
    """The tensors of a checkpoint folder, read one at a time.

    Raises `LowbitError` naming the file when weights are missing, damaged or cut short. Pickled weights are
    not read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open: dict[str, Any] = {}
        self._starts: dict[str, tuple[int, dict[str, Any]]] = {}
        self.files = self._index()

    def _index(self) -> dict[str, str]:
        if (self.folder / INDEX).is_file():
            try:
                listed = dict(json.loads((self.folder / INDEX).read_text(encoding="utf-8"))["weight_map"])
            except (ValueError, KeyError, TypeError) as error:
                raise LowbitError(f"{self.folder / INDEX}: no readable index of shards ({error})") from error
            present = {file: set(self._file(file).keys()) for file in sorted(set(listed.values()))}
            for name, file in listed.items():
                if name not in present[file]:
                    raise LowbitError(f"{self.folder / file}: has no tensor {name}, which {INDEX} promises")
            return dict(sorted(listed.items()))
        if (self.folder / WEIGHTS).is_file():
            return dict.fromkeys(sorted(self._file(WEIGHTS).keys()), WEIGHTS)
        raise LowbitError(f"{self.folder}: has neither {WEIGHTS} nor {INDEX}; pickled weights are not read")

    def _file(self, name: str) -> Any:
        from safetensors import SafetensorError, safe_open

        if name not in self._open:
            try:
                self._open[name] = safe_open(self.folder / name, framework="pt")
            except (SafetensorError, OSError) as error:
                raise LowbitError(
                    f"{self.folder / name}: damaged or cut short ({error}); fetch or make it again"
                ) from error
        return self._open[name]

    def meta(self, name: str) -> tuple[tuple[int, ...], torch.dtype]:
        """Shape and dtype of a tensor, without reading it."""
        part = self._file(self.files[name]).get_slice(name)
        code = part.get_dtype()
        if code not in DTYPES:
            raise LowbitError(f"{self.folder}: tensor {name} has dtype {code}, which cannot be copied")
        return tuple(part.get_shape()), DTYPES[code]

    def read(self, name: str) -> torch.Tensor:
        """One tensor, copied into memory.

        The library would map the file, and every page read would stay in this process until the file is
        closed: the peak would be that of a shard and not of a tensor.
        """
        shape, dtype = self.meta(name)
        path = self.folder / self.files[name]
        start, header = self._header(self.files[name])
        begin, end = header[name]["data_offsets"]
        raw = torch.empty(end - begin, dtype=torch.uint8)
        memory: Any = raw.numpy()  # a buffer, which types can say from Python 3.12 on
        with path.open("rb") as stream:
            stream.seek(start + begin)
            if stream.readinto(memory) != end - begin:
                raise LowbitError(f"{path}: cut short within tensor {name}; fetch or make it again")
        return raw.view(dtype).view(shape)

    def _header(self, file: str) -> tuple[int, dict[str, Any]]:
        """Where the data of `file` begins, and what its header says; the library has checked it."""
        if file not in self._starts:
            with (self.folder / file).open("rb") as stream:
                length = int.from_bytes(stream.read(8), "little")
                self._starts[file] = (8 + length, json.loads(stream.read(length)))
        return self._starts[file]


class Writer:
    """Writes one safetensors file whose tensors are known by shape and dtype beforehand.

    Use as a context manager; `write` takes the tensors in any order, and leaving the block without an error
    checks that none is missing. With `resume` a file of the same tensors is written on, and `holds` tells
    which of them it holds already.
    """

    def __init__(
        self,
        path: Path,
        tensors: Mapping[str, tuple[tuple[int, ...], torch.dtype]],
        resume: bool = False,
    ) -> None:
        header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        offset = 0
        self._places: dict[str, tuple[int, tuple[int, ...], torch.dtype]] = {}
        for name in sorted(tensors, key=lambda key: (-ORDER.index(NAMES[tensors[key][1]]), key)):
            shape, dtype = tensors[name]
            end = offset + math.prod(shape) * dtype.itemsize
            header[name] = {"dtype": NAMES[dtype], "shape": list(shape), "data_offsets": [offset, end]}
            self._places[name] = (offset, shape, dtype)
            offset = end
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        text += b" " * (-len(text) % 8)
        self._start = 8 + len(text)
        self._missing = set(tensors)
        self.bytes = self._start + offset
        head = len(text).to_bytes(8, "little") + text
        if resume and _begins(path, head, self.bytes):
            self._stream = path.open("r+b")
        else:
            self._stream = path.open("w+b")
            self._stream.write(head)
            self._stream.truncate(self.bytes)

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()
        if kind is None and self._missing:
            raise LowbitError(
                f"tensors that were declared and never written: {', '.join(sorted(self._missing))}"
            )

    def write(self, name: str, tensor: torch.Tensor) -> None:
        """Write one declared tensor."""
        offset, shape, dtype = self._places[name]
        if tuple(tensor.shape) != shape or tensor.dtype != dtype:
            raise LowbitError(
                f"{name}: {tuple(tensor.shape)} {tensor.dtype} where {shape} {dtype} was declared"
            )
        self._stream.seek(self._start + offset)
        self._stream.write(raw_bytes(tensor))
        self._stream.flush()
        self._missing.discard(name)

    def holds(self, name: str, expected: str) -> bool:
        """Whether the declared tensor is written already, its bytes having the digest `expected`."""
        offset, shape, dtype = self._places[name]
        self._stream.seek(self._start + offset)
        left, found = math.prod(shape) * dtype.itemsize, hashlib.blake2b(digest_size=DIGEST_BYTES)
        while left:
            part = self._stream.read(min(left, READ_BYTES))
            if not part:
                return False
            found.update(part)
            left -= len(part)
        if found.hexdigest() != expected:
            return False
        self._missing.discard(name)
        return True


def raw_bytes(tensor: torch.Tensor) -> memoryview:
    """The bytes of `tensor` as safetensors stores them; copied only when it is not contiguous on the CPU."""
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data


def digest(tensor: torch.Tensor) -> str:
    """Of the bytes of `tensor`, by which a resumed run knows it again."""
    return hashlib.blake2b(raw_bytes(tensor), digest_size=DIGEST_BYTES).hexdigest()


def _begins(path: Path, head: bytes, size: int) -> bool:
    """Whether the file has this size and begins with `head`."""
    if not path.is_file() or path.stat().st_size != size:
        return False
    with path.open("rb") as stream:
        return stream.read(len(head)) == head
