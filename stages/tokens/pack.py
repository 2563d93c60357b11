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


def pack(documents: Path, tokenizer: Any, out: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Write every shard below `out`; give the tables `subsets` of shards.json and of fertility.json.

    Text that looks like a special token is packed as plain text. Raises `UserError` for a subset of two
    languages or licences, and for one without a training document.
    """
    dtype = token_dtype(len(tokenizer))
    writers: dict[str, dict[str, ShardWriter]] = {}
    about: dict[str, dict[str, Any]] = {}
    fertility: dict[str, Fertility] = {}
    with progress(None, "packing", "documents") as bar:
        for rows in batches(documents):
            texts = [row["text"] for row in rows]
            encoded = tokenizer(texts, add_special_tokens=False, split_special_tokens=True)["input_ids"]
            decoded = tokenizer.batch_decode(encoded, clean_up_tokenization_spaces=False)
            for row, ids, back in zip(rows, encoded, decoded, strict=True):
                subset = row["subset"]
                described = {"language": row["language"], "licence": row["licence"]}
                if about.setdefault(subset, described) != described:
                    raise UserError(
                        f"{documents}: subset `{subset}` mixes {about[subset]} and {described}; split it"
                    )
                if subset not in writers:
                    writers[subset] = {
                        split: ShardWriter(out, subset, split, dtype, tokenizer.eos_token_id)
                        for split in SPLITS
                    }
                    fertility[subset] = Fertility(row["language"])
                writers[subset][row["split"]].add(ids, len(row["text"]))
                fertility[subset].add(row["text"], ids, back)
            bar.advance(len(rows))
    for subset in sorted(about):
        about[subset] |= {split: writers[subset][split].close() for split in SPLITS}
        if not about[subset]["train"]["documents"]:
            raise UserError(
                f"{documents}: subset `{subset}` has no training document, only held-out ones; add text to it "
                "or lower `corpus.heldout_share`"
            )
    described = {subset: counts.describe(tokenizer) for subset, counts in sorted(fertility.items())}
    return {subset: about[subset] for subset in sorted(about)}, described
