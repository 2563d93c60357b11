"""Safetensors tensor by tensor: reading sharded folders, and writing one file whose tensors never are in
memory together.

The library `safetensors` writes only what is complete in memory, so the container is written here: eight
bytes of header length, a JSON header padded with spaces to eight bytes, the raw tensors. Order and padding
are those of the library, so that `save_pretrained` of the loaded model gives the same bytes.
"""

from __future__ import annotations

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
NAMES = {dtype: name for name, dtype in DTYPES.items()}


class Source:
    """The tensors of a checkpoint folder, read one at a time.

    Raises `LowbitError` naming the file when weights are missing, damaged or cut short. Pickled weights are
    not read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open: dict[str, Any] = {}
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
        """One tensor, copied into memory."""
        return self._file(self.files[name]).get_tensor(name)


class Writer:
    """Writes one safetensors file whose tensors are known by shape and dtype beforehand.

    Use as a context manager; `write` takes the tensors in any order, and leaving the block without an error
    checks that none is missing.
    """

    def __init__(self, path: Path, tensors: Mapping[str, tuple[tuple[int, ...], torch.dtype]]) -> None:
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
        self.tensor_bytes = offset
        self.bytes = self._start + offset
        self._stream = path.open("wb")
        self._stream.write(len(text).to_bytes(8, "little") + text)
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
        raw = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
        self._stream.write(raw.numpy().data)
        self._missing.discard(name)
