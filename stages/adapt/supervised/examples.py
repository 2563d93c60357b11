"""The conversations of `out/supervised` as documents of tokens: what is trained on, and what is held out."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.adapt.supervised.render import Chat, RefusedError
from stages.common import conversations
from stages.common.errors import UserError
from stages.common.progress import progress
from stages.common.training.rows import Document

if TYPE_CHECKING:
    from stages.common.params.adaptation import DataBlock


@dataclass(frozen=True)
class Examples:
    """Documents by subset. `template`: `own` or `plain`; `closing`: ids of the tokens that end an answer."""

    train: Mapping[str, Sequence[Document]]
    heldout: Mapping[str, Sequence[Document]]
    counts: Mapping[str, Mapping[str, int]]
    licences: Mapping[str, list[str]]
    template: str
    closing: Sequence[int]

    def notes(self, tokenizer: Any) -> dict[str, Any]:
        """What the manifest says of them."""
        return {
            "template": self.template,
            "closing_tokens": tokenizer.convert_ids_to_tokens(list(self.closing)),
            "subsets": {name: dict(sorted(counts.items())) for name, counts in sorted(self.counts.items())},
        }


@dataclass
class _Subset:
    """What became of the conversations of one source."""

    source: DataBlock
    train: list[Document] = field(default_factory=list)
    heldout: list[Document] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    first: str = ""

    def add(self, documents: Sequence[Document], heldout: bool, length: int) -> None:
        """Keep the documents that fit into `length` inputs, whole or cut as the source declares."""
        for document in documents:
            fitting = fit(document, length, self.source.too_long)
            if fitting is not document:
                self.counts["cut" if fitting else "too_long"] += 1
            if fitting:
                (self.heldout if heldout else self.train).append(fitting)

    def refuse(self, reason: str) -> None:
        """Count a conversation that the template cannot take."""
        self.counts["refused"] += 1
        self.first = self.first or reason

    def check(self, number: int, length: int) -> None:
        """Say what was refused. Raises `UserError` when nothing is left to train on."""
        counts, shown = self.counts, f"adapt.data.{number} (`{self.source.subset}`)"
        told = f"{shown}: {counts['too_long']} too long for rows of {length} tokens"
        if counts["refused"]:
            told += f", {counts['refused']} refused by the chat template, {self.first}"
        if not self.train:
            advice = ["mend what is refused, or the chat template"] if counts["refused"] else []
            if counts["too_long"]:
                cut = ", or set `too_long: cut` there" if self.source.too_long == "drop" else ""
                advice.append(f"raise adapt.training.sequence_length{cut}")
            if not advice:
                advice.append("the rest is held out: name more files, or lower corpus.heldout_share")
            raise UserError(f"params.yaml: {told}; none is left to train on: {'; '.join(advice)}")
        if self.counts["refused"]:
            sys.stderr.write(f"adapt: {told}\n")
        for name, documents in (("train", self.train), ("heldout", self.heldout)):
            self.counts[f"{name}_examples"] = len(documents)
            self.counts[f"{name}_answer_tokens"] = sum(answer_tokens(document) for document in documents)


def answer_tokens(document: Document) -> int:
    """Targets that count in the loss."""
    return int((document.weights_n[1:] > 0).sum())


def fit(document: Document, length: int, rule: str) -> Document | None:
    """`document` where it fits into `length` inputs, else, by the rule `cut`, its beginning.

    None where nothing of an answer would be left, and by the rule `drop`.
    """
    if document.inputs <= length:
        return document
    if rule == "drop":
        return None
    begun = Document(document.tokens_n[: length + 1], document.weights_n[: length + 1])
    return begun if answer_tokens(begun) else None


def load(folder: Path, sources: Sequence[DataBlock], tokenizer: Any, name: str, length: int) -> Examples:
    """Render the conversations of `folder` for rows of `length` inputs; `name` is the tokenizer's.

    A tokenizer without a chat template is given the plain one. Raises `UserError` for a template that cannot
    be trained on and for a source of which nothing is left.
    """
    chat = Chat(tokenizer, name)
    subsets = {source.subset: _Subset(source) for source in sources}
    for conversation in progress(conversations.read(folder), "rendering", "conversations"):
        subset = subsets[conversation.subset]
        subset.counts["conversations"] += 1
        try:
            documents = chat.documents(conversation.messages)
        except RefusedError as error:
            subset.refuse(f"first {conversation.id}: {error}")
            continue
        if len(documents) > 1:
            subset.counts["taken_apart"] += 1
        subset.add(documents, conversation.heldout, length)
    for number, subset in enumerate(subsets.values()):
        subset.check(number, length)
    return Examples(
        train={name: subset.train for name, subset in subsets.items()},
        heldout={name: subset.heldout for name, subset in subsets.items() if subset.heldout},
        counts={name: subset.counts for name, subset in subsets.items()},
        licences={name: [subset.source.licence] for name, subset in subsets.items()},
        template="own" if chat.own else "plain",
        closing=sorted(chat.closing),
    )
