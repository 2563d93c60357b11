"""Supervised files of `adapt.data`, cleaned: test items and duplicates out, personal data replaced, a part
held out.

What remains is written in the order of the files. Nothing is judged for language or quality.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.common.conversations import ASSISTANT, FILE, USER, Conversation, Message
from stages.common.errors import UserError
from stages.common.hashing import sha256_json
from stages.common.outside import expand, text_format
from stages.corpus.contamination import Record, filled_inputs, prompt_words
from stages.corpus.files import read_bytes
from stages.corpus.personal import redact
from stages.corpus.reading import LISTED, Account, tolerate
from stages.corpus.record import Unreadable
from stages.corpus.words import WordHasher, normal_words
from stages.supervised.records import Messages, conversations_of

if TYPE_CHECKING:
    from stages.common.params.adaptation import DataBlock
    from stages.corpus.contamination import TestItems

HASH_BITS = 64
# What may stand before an item on its line: its number, or words and a colon.
LABEL = re.compile(r"^\W*\d{1,3}[.)]|:")


class WholeItems:
    """Test items that stand by themselves, even those too short to be found inside of a text."""

    def __init__(self, test: Iterable[Record], train: Iterable[Record]) -> None:
        """`test` and `train` are MERA-form records; what `train` holds too is no evidence."""
        self._known = {item for record in test for item in _wholes(record)}
        self._known -= {item for record in train for item in _wholes(record)}
        self._longest = max(map(len, self._known), default=0)

    def within(self, text: str) -> bool:
        """Whether `text`, a line of it, or some lines in a row are an item, word by word, also behind a
        number or a colon (`2) Вопрос: ...`).
        """
        lines = text.splitlines()
        words = [normal_words(line) for line in lines]
        for place, line in enumerate(lines):
            tails = (normal_words(line[label.end() :]) for label in LABEL.finditer(line))
            if any(self._begins(start, words[place + 1 :]) for start in (words[place], *tails)):
                return True
        return False

    def _begins(self, words: list[str], following: Iterable[list[str]]) -> bool:
        """Whether `words`, with none, one or more of the `following` lines, are an item."""
        if tuple(words) in self._known:
            return True
        for line in following:
            words = words + line
            if len(words) > self._longest:
                return False
            if tuple(words) in self._known:
                return True
        return False


def _wholes(record: Record) -> Iterator[tuple[str, ...]]:
    """Words of the inputs, and of the item with its places filled."""
    for words in (normal_words(filled_inputs(record["inputs"])), prompt_words(record)[0]):
        if words:
            yield tuple(words)


class Collector:
    """Cleans the conversations of all sources and counts what became of them.

    `block`: the keys `broken_lines_share`, `heldout_share` and `redact` of block `corpus`.
    """

    def __init__(self, block: Any, items: TestItems, wholes: WholeItems, hasher: WordHasher) -> None:
        self._block, self._items, self._wholes, self._hasher = block, items, wholes, hasher
        self._seen: set[str] = set()
        self._account = Account()
        self._counts: dict[str, Counter[str]] = {}
        self._pii: Counter[str] = Counter()
        self._dropped: list[dict[str, str]] = []

    def write(self, sources: Iterable[DataBlock], folder: Path) -> dict[str, Any]:
        """Write the cleaned conversations into `folder`; the account of them for summary.json.

        Raises `UserError` for a file that cannot be read, one with more broken records than
        `corpus.broken_lines_share` allows, and a source of which nothing is left to train on.
        """
        with (folder / FILE).open("w", encoding="utf-8", newline="\n") as file:
            for number, source in enumerate(sources):
                counts = self._counts[source.subset] = Counter()
                for name, messages in self._read(source, f"adapt.data.{number}"):
                    if conversation := self._clean(name, messages, source, counts):
                        conversation.write(file)
                if not counts["train"]:
                    raise UserError(
                        f"params.yaml: adapt.data.{number} (`{source.subset}`) leaves no conversation to "
                        f"train on ({_in_words(counts)}); look at its files"
                    )
        return self._summary()

    def _read(self, source: DataBlock, key: str) -> Iterator[tuple[str, Messages]]:
        for place, pattern in enumerate(source.paths):
            for path in expand(pattern, f"{key}.paths.{place}"):
                if text_format(path) != ".jsonl":
                    raise UserError(
                        f"params.yaml: {key}.paths.{place}: {path} is no .jsonl (plain, .gz or .zst), which "
                        "supervised files are"
                    )
                yield from self._read_file(path, source)

    def _read_file(self, path: Path, source: DataBlock) -> Iterator[tuple[str, Messages]]:
        name, total, broken = path.as_posix(), 0, []
        if name in self._account.records:
            raise UserError(f"params.yaml: adapt.data names {name} twice; remove one")
        for line, _, data in read_bytes(path):
            total += 1
            try:
                found = conversations_of(json.loads(data.decode("utf-8")), source)
            except UnicodeDecodeError as error:
                reason = f"not UTF-8 text: {error.reason} at byte {error.start} of the line"
                broken.append(Unreadable(name, line, reason))
            except json.JSONDecodeError as error:
                broken.append(Unreadable(name, line, f"not JSON: {error.msg} at column {error.colno}"))
            except RecursionError:
                broken.append(Unreadable(name, line, "not JSON: nested too deep"))
            except ValueError as error:
                broken.append(Unreadable(name, line, str(error)))
            else:
                for part, messages in enumerate(found, start=1):
                    yield f"{name}:{line}" + (f"#{part:03d}" if len(found) > 1 else ""), messages
        self._account.records[name] = total
        for record in broken:
            self._account.note(record)
        tolerate(name, total, broken, self._block.broken_lines_share, "supervised")

    def _clean(
        self, name: str, messages: Messages, source: DataBlock, counts: Counter[str]
    ) -> Conversation | None:
        """The conversation as it is trained on, or None when it is dropped; `counts` grows either way."""
        counts["conversations"] += 1
        if self._contaminated(messages):
            self._drop(name, "contaminated", counts)
            return None
        redacted = [redact(message.content, source.language) for message in messages]
        found = sum((kinds for _, kinds in redacted), Counter())
        if found:
            self._pii += found
            counts["with_personal_data"] += 1
            if self._block.redact:
                pairs = zip(messages, redacted, strict=True)
                messages = tuple(replace(message, content=text) for message, (text, _) in pairs)
        key = sha256_json([asdict(message) for message in messages])
        if key in self._seen:
            self._drop(name, "duplicate", counts)
            return None
        self._seen.add(key)
        heldout = held_out(messages, self._block.heldout_share)
        counts["heldout" if heldout else "train"] += 1
        return Conversation(name, source.subset, heldout, messages)

    def _contaminated(self, messages: Messages) -> bool:
        words = normal_words("\n".join(message.content for message in messages))
        if self._items.hits(self._hasher(words)):
            return True
        return any(self._wholes.within(message.content) for message in messages if message.role != ASSISTANT)

    def _drop(self, name: str, reason: str, counts: Counter[str]) -> None:
        counts[reason] += 1
        if len(self._dropped) < LISTED:
            self._dropped.append({"id": name, "reason": reason})

    def _summary(self) -> dict[str, Any]:
        """Counts, and the first records that were dropped or not read, by file and line; no text."""
        account = self._account
        return {
            "records": dict(sorted(account.records.items())),
            "unreadable": {
                "count": account.unreadable_count,
                "first": [asdict(broken) for broken in account.unreadable],
            },
            "subsets": {name: dict(sorted(counts.items())) for name, counts in sorted(self._counts.items())},
            "dropped": self._dropped,
            "personal_data": dict(sorted(self._pii.items())),
            "redacted": self._block.redact,
        }


def held_out(messages: tuple[Message, ...], share: float) -> bool:
    """Whether a conversation is kept out of training: by a hash of the words of the user's first message.

    So conversations that begin with the same question are on one side, whatever the order of the files, the
    system message, case, punctuation and spaces.
    """
    asked = next(message.content for message in messages if message.role == USER)
    words = normal_words(asked) or asked.split()
    return int(sha256_json(words)[: HASH_BITS // 4], 16) < share * 2**HASH_BITS


def _in_words(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "no record was read"
