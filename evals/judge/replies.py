"""A chat completion, as any server writes it, to the shares of a rubric's labels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evals.judge.rubrics import Rubric


class MalformedError(Exception):
    """The reply is no chat completion, or holds numbers that cannot be."""


@dataclass(frozen=True)
class Completion:
    """The model's words, and the shares of the labels; None for words that cannot be read as one."""

    text: str
    shares: tuple[float, ...] | None


def read(value: Any, rubric: Rubric | None) -> Completion:
    """The verdict by log-probability where the server offers it, else as it was written; without a rubric
    the words alone.

    `value`: the reply as parsed JSON. Raises `MalformedError`.
    """
    try:
        choice = value["choices"][0]
        text = choice["message"]["content"] or ""
    except (KeyError, IndexError, TypeError) as error:
        raise MalformedError("the reply has no choices[0].message.content") from error
    if not isinstance(text, str):
        raise MalformedError("the content of the reply is no text")
    label = rubric.read(text) if rubric else None
    if rubric is None or label is None:
        return Completion(text, None)
    written = tuple(float(word == label) for word in rubric.labels)
    return Completion(text, _soft(choice, text, label, rubric.labels) or written)


def _soft(
    choice: Mapping[str, Any], text: str, label: str, labels: Sequence[str]
) -> tuple[float, ...] | None:
    """Shares from the alternatives of the token that is the verdict; None when no token is, or not one alone.

    A label that is not among the alternatives is less likely than any of them and counts as 0 (2303.16634).
    """
    try:
        tokens = (choice.get("logprobs") or {}).get("content") or []
        verdicts = [token for token in tokens if _bare(token["token"]) == label]
        if len(verdicts) != 1 or "".join(token["token"] for token in tokens) != text:
            return None
        sums = dict.fromkeys(labels, 0.0)
        # The same word with and without a blank or a quotation mark is one label.
        others = [*(verdicts[0].get("top_logprobs") or []), verdicts[0]]
        for other in {entry["token"]: entry for entry in others}.values():
            logprob = float(other["logprob"])
            if math.isnan(logprob) or logprob > 1e-3:
                raise MalformedError(f"the reply has a log-probability of {logprob}")
            if (word := _bare(other["token"])) in sums:
                sums[word] += math.exp(logprob)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise MalformedError("the log-probabilities of the reply are not in the usual form") from error
    total = sum(sums.values())
    return tuple(sums[label] / total for label in labels) if total > 0 else None


def _bare(token: str) -> str:
    return token.strip(" \t\n\"'`*.")
