"""From messages to tokens by the model's own chat template, with the answers marked to the token.

The tokens of an answer are those that the model would have to write after the prompt, and the prompt's those
that it would be given. Both are encoded apart, so that no merge runs across their border.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from stages.common.conversations import ASSISTANT, Message
from stages.common.errors import UserError, one_line
from stages.common.training.rows import Document

Messages = Sequence[Message]

# For a tokenizer that has no template. It needs no special token but the end of text.
PLAIN = (
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'system' -%}{{ message['content'] + '\\n\\n' }}"
    "{%- elif message['role'] == 'user' -%}{{ 'Вопрос: ' + message['content'] + '\\n' }}"
    "{%- else -%}{{ 'Ответ: ' + message['content'] + eos_token }}{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ 'Ответ:' }}{%- endif -%}"
)

# Outs must not depend on the day. Llama's templates take the date by this name, and this one where they know
# none.
DATE = "26 Jul 2024"
TAKES_DATE = re.compile(r"date_string\s+is\s+(not\s+)?defined")


class RefusedError(Exception):
    """A conversation that the template, or we, cannot take; the message says why."""


@dataclass(frozen=True)
class _Turn:
    """Tokens of the prompt of one answer, and of the answer up to its closing token."""

    prompt: list[int]
    answer: list[int]


class Chat:
    """The chat template of `tokenizer`, or `PLAIN`, which it is given when it has none."""

    def __init__(self, tokenizer: Any, name: str) -> None:
        """`name` is what messages call the tokenizer. Raises `UserError` for a template that asks what day it
        is.
        """
        self.own = bool(tokenizer.chat_template)
        if not self.own:
            tokenizer.chat_template = PLAIN
        written = str(tokenizer.chat_template)
        if "strftime_now" in written and not TAKES_DATE.search(written):
            raise UserError(
                f"{name}: its chat template writes the date of the day (strftime_now), so that every day "
                "would train another model; put a chat_template there with a fixed date, or one that "
                "calls it only where `date_string is not defined`"
            )
        self._tokenizer, self._name = tokenizer, name
        added = tokenizer.added_tokens_decoder
        self._special = {*tokenizer.all_special_ids, *(id_ for id_, token in added.items() if token.special)}
        self._special_texts = sorted(tokenizer.convert_ids_to_tokens(sorted(self._special)))
        self.closing: set[int] = set()

    def documents(self, messages: Messages) -> list[Document]:
        """The conversation as one document, its answers with weight 1 and the rest with 0.

        Where a later prompt does not begin with what stood before it (a template that drops the reasoning of
        earlier answers, say), there is a document for each answer instead, each as the model would be asked.
        Raises `RefusedError`, and `UserError` for a template that does not tell answers from prompts.
        """
        turns = [self._turn(messages[:place], message) for place, message in _answers(messages)]
        for earlier, later in pairwise(turns):
            so_far = [*earlier.prompt, *earlier.answer]
            if later.prompt[: len(so_far)] != so_far:
                return [_document([turn]) for turn in turns]
        return [_document(turns)]

    def _turn(self, before: Messages, answer: Message) -> _Turn:
        prompt = self._render(before, prompt=True)
        whole = self._render([*before, answer], prompt=False)
        if not whole.startswith(prompt):
            raise UserError(
                f"{self._name}: its chat template does not begin a conversation with the prompt of its last "
                "answer, so that the tokens of the answer cannot be told; put a chat_template there that does"
            )
        written = self._encode(whole[len(prompt) :])
        ends = [place for place, token in enumerate(written) if token in self._special]
        if not ends:
            raise UserError(
                f"{self._name}: its chat template closes an answer with no special token, so that a model "
                "could not learn to stop; put a chat_template there that writes eos_token after an answer"
            )
        self.closing.add(written[ends[-1]])
        return _Turn(self._encode(prompt), written[: ends[-1] + 1])

    def _render(self, messages: Messages, prompt: bool) -> str:
        """The text of `messages`. Raises `RefusedError`."""
        from jinja2 import TemplateError

        for message in messages:
            if marker := next((text for text in self._special_texts if text in message.content), None):
                raise RefusedError(f"a message holds the special token {marker}")
        try:
            rendered = self._tokenizer.apply_chat_template(
                [asdict(message) for message in messages],
                tokenize=False,
                add_generation_prompt=prompt,
                date_string=DATE,
            )
        except TemplateError as error:
            raise RefusedError(f"the chat template refuses it ({one_line(error)})") from error
        except (ArithmeticError, LookupError, TypeError, ValueError, AttributeError) as error:
            # A template calculates with what a message holds; jinja hands its errors on as they are.
            reason = f"{type(error).__name__}: {one_line(error)}"
            raise RefusedError(f"the chat template fails on it ({reason})") from error
        return str(rendered)

    def _encode(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])


def _answers(messages: Messages) -> Iterator[tuple[int, Message]]:
    return ((place, message) for place, message in enumerate(messages) if message.role == ASSISTANT)


def _document(turns: Sequence[_Turn]) -> Document:
    """The last prompt, which holds all before it, and the last answer."""
    tokens = [*turns[-1].prompt, *turns[-1].answer]
    weights_n = np.zeros(len(tokens), dtype=np.float32)
    for turn in turns:
        weights_n[len(turn.prompt) : len(turn.prompt) + len(turn.answer)] = 1.0
    return Document(np.asarray(tokens, dtype=np.int64), weights_n)
