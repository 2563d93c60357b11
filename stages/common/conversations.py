"""Supervised examples between the stages: what `supervised` writes cleaned and `adapt` trains on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

FILE = "conversations.jsonl"
SYSTEM, USER, ASSISTANT = "system", "user", "assistant"
ROLES = (SYSTEM, USER, ASSISTANT)


@dataclass(frozen=True)
class Message:
    """What one side says. `role` is one of `ROLES`."""

    role: str
    content: str


@dataclass(frozen=True)
class Conversation:
    """An optional system message, then questions and answers in turn; the last message is an answer.

    `id` is file and line; `heldout` conversations are never trained on.
    """

    id: str
    subset: str
    heldout: bool
    messages: tuple[Message, ...]

    def write(self, file: IO[str]) -> None:
        """Append the conversation to a JSON Lines file."""
        values = {
            "id": self.id,
            "subset": self.subset,
            "heldout": self.heldout,
            "messages": [{"role": message.role, "content": message.content} for message in self.messages],
        }
        file.write(json.dumps(values, ensure_ascii=False, allow_nan=False) + "\n")


def read(folder: Path) -> Iterator[Conversation]:
    """The conversations that stage `supervised` wrote into `folder`, in their order."""
    with (folder / FILE).open(encoding="utf-8") as file:
        for line in file:
            values: dict[str, Any] = json.loads(line)
            messages = tuple(Message(**message) for message in values["messages"])
            yield Conversation(values["id"], values["subset"], values["heldout"], messages)
