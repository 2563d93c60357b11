"""From a JSON record of a supervised file to conversations: `messages`, or an instruction with its answer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from stages.common.conversations import ASSISTANT, ROLES, SYSTEM, USER, Message

if TYPE_CHECKING:
    from stages.common.params.adaptation import DataBlock

Messages = tuple[Message, ...]
# Of a message: what it would have the model call, in OpenAI's format.
CALLS = ("tool_calls", "function_call")

_SURROGATE = re.compile(r"[\ud800-\udfff]")


def conversations_of(record: Any, source: DataBlock) -> list[Messages]:
    """The conversations of one record: several where an instruction has `instances`, as the seed tasks of
    Self-Instruct have (arXiv 2212.10560).

    The source's system message opens those that have none of their own. Raises `ValueError` that says what is
    wrong with the record.
    """
    if not isinstance(record, dict):
        raise ValueError(f"expected an object, found {type(record).__name__}")
    names = {key: source.fields.get(key, key) for key in ("instruction", "input", "output")}
    match _format(record, source, names):
        case "chat":
            found = [_chat(record.get("messages"))]
        case _:
            found = _instruction(record, names)
    return [_opened(messages, source.system) for messages in found]


def _format(record: Mapping[str, Any], source: DataBlock, names: Mapping[str, str]) -> str:
    if source.format != "auto":
        return source.format
    # Merged tables hold the columns of both forms, with null in those that a row has not.
    if record.get("messages") is not None:
        return "chat"
    if names["instruction"] in record:
        return "instruction"
    raise ValueError(f"neither `messages` nor `{names['instruction']}` among its fields")


def _opened(messages: Messages, system: str | None) -> Messages:
    if system is None or messages[0].role == SYSTEM:
        return messages
    return (Message(SYSTEM, system), *messages)


def _chat(values: Any) -> Messages:
    """Messages in which, after an optional system message, question and answer alternate up to an answer."""
    if not isinstance(values, list) or not values:
        raise ValueError("`messages` is no list of messages")
    messages = tuple(_message(value, place) for place, value in enumerate(values, start=1))
    turns = messages[1:] if messages[0].role == SYSTEM else messages
    for place, message in enumerate(turns, start=1 + len(messages) - len(turns)):
        expected = (USER, ASSISTANT)[(place - 1 - len(messages) + len(turns)) % 2]
        if message.role == expected:
            continue
        if message is turns[0]:
            raise ValueError(f"the conversation starts with `{message.role}`, not with `{USER}`")
        raise ValueError(f"message {place} is of `{message.role}`, where `{expected}` should follow")
    if not turns or turns[-1].role != ASSISTANT:
        raise ValueError("the conversation ends without an answer")
    return messages


def _message(value: Any, place: int) -> Message:
    if not isinstance(value, dict):
        raise ValueError(f"message {place} is {type(value).__name__}, not an object")
    role = value.get("role")
    if role is None:
        raise ValueError(f"message {place} has no `role`")
    if role not in ROLES:
        raise ValueError(f"message {place} has the role {role!r}; known are {', '.join(ROLES)}")
    for key in CALLS:
        if value.get(key):
            raise ValueError(f"message {place} has `{key}`, which is not trained on")
    if value.get("weight", 1) not in (None, 1):
        raise ValueError(
            f"message {place} has `weight` {value['weight']!r}; every answer counts in the loss alike, so "
            "take it out, or end the conversation before it"
        )
    return Message(role, _text(value.get("content"), f"`content` of message {place} ({role})"))


def _instruction(record: Mapping[str, Any], names: Mapping[str, str]) -> list[Messages]:
    """One question and answer for each answer; the input follows the instruction on a line of its own."""
    instruction = _text(record.get(names["instruction"]), f"field `{names['instruction']}`")
    cases: Any = [record]
    if record.get(names["output"]) is None and record.get("instances") is not None:
        cases = record["instances"]
        if not isinstance(cases, list) or not cases or not all(isinstance(case, dict) for case in cases):
            raise ValueError("`instances` is no list of objects")
    found: list[Messages] = []
    for case in cases:
        asked, given = instruction, case.get(names["input"])
        if given is not None and not (isinstance(given, str) and not given.strip()):
            asked += "\n" + _text(given, f"field `{names['input']}`")
        answer = _text(case.get(names["output"]), f"field `{names['output']}`")
        found.append((Message(USER, asked), Message(ASSISTANT, answer)))
    return found


def _text(value: Any, what: str) -> str:
    if value is None:
        raise ValueError(f"no {what}")
    if not isinstance(value, str):
        raise ValueError(f"{what} is {type(value).__name__}, not text")
    if not value.strip():
        raise ValueError(f"{what} is empty")
    if _SURROGATE.search(value):
        raise ValueError(f"{what} holds a lone surrogate, which is no text")
    return value
