"""Packed token shards on disk: how `tokens` writes them and how training maps them into memory.

A shard is one subset and split: `<subset>.<split>.bin`, raw little-endian tokens with the end-of-text token
after each document, and `<subset>.<split>.index`, uint64 ends of the documents (datatrove's layout).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from stages.common.atomic import read_json
from stages.common.errors import UserError

Split = Literal["train", "heldout"]
SPLITS: tuple[Split, ...] = ("train", "heldout")
INDEX_DTYPE = np.dtype("<u8")


def token_dtype(vocab_size: int) -> np.dtype[Any]:
    """uint16 for a vocabulary of at most 65536, else uint32; little-endian."""
    return np.dtype("<u2") if vocab_size <= 65536 else np.dtype("<u4")


class ShardWriter:
    """Writes the documents of one subset and split as they come; memory does not grow with their number."""

    def __init__(self, folder: Path, subset: str, split: Split, dtype: np.dtype[Any], eos_id: int) -> None:
        self._bin = (folder / f"{subset}.{split}.bin").open("wb")
        self._index = (folder / f"{subset}.{split}.index").open("wb")
        self._dtype, self._eos = dtype, eos_id
        self.tokens = self.documents = self.chars = 0

    def add(self, ids: Sequence[int], chars: int) -> None:
        """Append one document of `chars` code points; the end-of-text token is added here."""
        # Not `tofile`, whose error does not say that the disk is full.
        self._bin.write(np.asarray([*ids, self._eos], dtype=self._dtype).tobytes())
        self.tokens += len(ids) + 1
        self.documents += 1
        self.chars += chars
        self._index.write(np.asarray([self.tokens], dtype=INDEX_DTYPE).tobytes())

    def close(self) -> dict[str, int]:
        """Close both files and give the counts for shards.json."""
        self._bin.close()
        self._index.close()
        return {"tokens": self.tokens, "documents": self.documents, "chars": self.chars}


@dataclass(frozen=True)
class Shards:
    """The folder that the stage `tokens` wrote. `subsets` is shards.json's table of them."""

    folder: Path
    dtype: np.dtype[Any]
    vocab_size: int
    eos_id: int
    tokenizer_sha256: str
    subsets: Mapping[str, Mapping[str, Any]]

    @classmethod
    def open(cls, folder: Path) -> Shards:
        """Read shards.json and check that every file has the length it states. Raises `UserError`."""
        about = read_json(folder / "shards.json")
        shards = cls(
            folder,
            np.dtype(about["dtype"]).newbyteorder("<"),
            about["vocab_size"],
            about["eos_id"],
            about["tokenizer_sha256"],
            about["subsets"],
        )
        for subset in shards.subsets:
            for split in SPLITS:
                shards._check_length(subset, split)
        return shards

    def _check_length(self, subset: str, split: Split) -> None:
        path = self.folder / f"{subset}.{split}.bin"
        expected = self.subsets[subset][split]["tokens"] * self.dtype.itemsize
        found = path.stat().st_size if path.exists() else None
        if found != expected:
            raise UserError(f"{path}: {found} bytes instead of {expected}; run the stage `tokens` again")

    def tokens(self, subset: str, split: Split) -> npt.NDArray[Any]:
        """The token stream of a shard, memory-mapped and read-only; empty when it holds none."""
        if not self.subsets[subset][split]["tokens"]:
            return np.empty(0, dtype=self.dtype)
        return np.memmap(self.folder / f"{subset}.{split}.bin", dtype=self.dtype, mode="r")

    def ends(self, subset: str, split: Split) -> npt.NDArray[np.int64]:
        """End of each document in the stream (exclusive, after its end-of-text token), shape (documents,)."""
        return np.fromfile(self.folder / f"{subset}.{split}.index", dtype=INDEX_DTYPE).astype(np.int64)

    def require(self, subsets: Iterable[str], where: str) -> None:
        """Raise `UserError` when a mix (key `where` of params.yaml) names a subset that is unknown or
        empty.
        """
        for subset in subsets:
            if subset not in self.subsets:
                known = ", ".join(sorted(self.subsets))
                raise UserError(f"params.yaml: `{where}` names the subset `{subset}`; there are: {known}")
            if not self.subsets[subset]["train"]["tokens"]:
                raise UserError(f"params.yaml: `{where}` names `{subset}`, which has no training document")

    def licences(self, subsets: Iterable[str]) -> dict[str, list[str]]:
        """Licences of the data that a training run read, by subset."""
        return {name: list(self.subsets[name]["licences"]) for name in sorted(subsets)}
