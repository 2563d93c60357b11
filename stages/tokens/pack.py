"""Documents into shards, streaming, with the fertility of the tokenizer measured on the way."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stages.common.errors import UserError
from stages.common.progress import progress
from stages.common.training.shards import SPLITS, ShardWriter, token_dtype
from stages.tokens.documents import batches

WORD = re.compile(r"[^\W\d_]+")
SAMPLED_WORDS = 200_000
SEVERAL = "mul"


@dataclass
class Fertility:
    """Counts of one subset, all its documents; single words are looked at in the first 200 000."""

    language: str
    words: int = 0
    tokens: int = 0
    chars: int = 0
    documents: int = 0
    round_trip_errors: int = 0
    sampled: Counter[str] = field(default_factory=Counter)

    def add(self, text: str, ids: list[int], decoded: str) -> None:
        """Count one document."""
        self.words += len(text.split())
        self.tokens += len(ids)
        self.chars += len(text)
        self.documents += 1
        self.round_trip_errors += decoded != unicodedata.normalize("NFC", text)
        if self.sampled.total() < SAMPLED_WORDS:
            self.sampled.update(WORD.findall(text))

    def describe(self, tokenizer: Any) -> dict[str, Any]:
        """The entry of fertility.json; `words_within_two_tokens` is a share of running words, with their
        space.
        """
        short = sum(
            count
            for word, count in self.sampled.items()
            if len(tokenizer.encode(f" {word}", add_special_tokens=False)) <= 2
        )
        return {
            "language": self.language,
            "documents": self.documents,
            "words": self.words,
            "tokens": self.tokens,
            "tokens_per_word": round(self.tokens / max(1, self.words), 4),
            "chars_per_token": round(self.chars / max(1, self.tokens), 4),
            "words_within_two_tokens": round(short / max(1, self.sampled.total()), 4),
            "round_trip_errors": self.round_trip_errors,
        }


class _Subset:
    """Writers, languages, licences and fertility of one subset."""

    def __init__(self, out: Path, name: str, tokenizer: Any) -> None:
        dtype = token_dtype(len(tokenizer))
        self.writers = {
            split: ShardWriter(out, name, split, dtype, tokenizer.eos_token_id) for split in SPLITS
        }
        self.fertility: dict[str, Fertility] = {}
        self.licences: set[str] = set()

    def add(self, row: dict[str, Any], ids: list[int], decoded: str) -> None:
        self.writers[row["split"]].add(ids, len(row["text"]))
        self.licences.add(row["licence"])
        self.fertility.setdefault(row["language"], Fertility(row["language"])).add(row["text"], ids, decoded)

    def describe(self) -> dict[str, Any]:
        languages = sorted(self.fertility)
        return {
            "language": languages[0] if len(languages) == 1 else SEVERAL,
            "licences": sorted(self.licences),
            "licence": " AND ".join(sorted(self.licences)),
            **{split: writer.close() for split, writer in self.writers.items()},
        }


def pack(documents: Path, tokenizer: Any, out: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Write every shard below `out`; give the tables `subsets` of shards.json and of fertility.json.

    A subset of several languages is `mul` in shards.json (ISO 639-2) and has one entry per language, named
    `subset:language`, in fertility.json. Text that looks like a special token is packed as plain text. Raises
    `UserError` for a subset without a training document.
    """
    found: dict[str, _Subset] = {}
    with progress(None, "packing", "documents") as bar:
        for rows in batches(documents):
            texts = [row["text"] for row in rows]
            encoded = tokenizer(texts, add_special_tokens=False, split_special_tokens=True)["input_ids"]
            decoded = tokenizer.batch_decode(encoded, clean_up_tokenization_spaces=False)
            for row, ids, back in zip(rows, encoded, decoded, strict=True):
                if row["subset"] not in found:
                    found[row["subset"]] = _Subset(out, row["subset"], tokenizer)
                found[row["subset"]].add(row, ids, back)
            bar.advance(len(rows))
    shards, fertility = {}, {}
    for name, subset in sorted(found.items()):
        shards[name] = subset.describe()
        if not shards[name]["train"]["documents"]:
            raise UserError(
                f"{documents}: subset `{name}` has no training document, only held-out ones; add text to it "
                "or lower `corpus.heldout_share`"
            )
        for language, counts in sorted(subset.fertility.items()):
            key = name if len(subset.fertility) == 1 else f"{name}:{language}"
            fertility[key] = counts.describe(tokenizer)
    return shards, fertility
