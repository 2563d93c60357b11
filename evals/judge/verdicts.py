"""Verdicts by log-probability: every pair in both orders, soft preferences averaged.

For a prompt x the verdict is P(first) = p(" 1" | x) / (p(" 1" | x) + p(" 2" | x)); each one is that of
the whole word, however many tokens it has. With A shown first it is p_AB, with B shown first p_BA; the
preference for A is (p_AB + 1 - p_BA) / 2, in which a constant taste for one position cancels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from evals.errors import EvalError
from evals.judge.layout import VERDICTS, render, tidy
from evals.logprobs import prefix_id

Advance = Callable[[int], None]


@dataclass(frozen=True)
class Pair:
    """Two answers to one question; the judge is asked whether `ours` is better than `theirs`."""

    id: str
    cluster: str
    question: str
    ours: str
    theirs: str

    @property
    def equal(self) -> bool:
        """Whether both answers read the same, so that there is nothing to ask."""
        return tidy(self.ours) == tidy(self.theirs)


@dataclass(frozen=True)
class Verdict:
    """Probability that `ours` is better, seen first and seen second. Equal answers are not `asked`."""

    id: str
    cluster: str
    p_first: float
    p_second: float
    asked: bool = True

    @property
    def preference(self) -> float:
        """The mean over both orders."""
        return (self.p_first + self.p_second) / 2

    @property
    def consistent(self) -> bool | None:
        """Whether the same answer won in both orders; None where nothing was asked. A draw wins nothing."""
        return (self.p_first - 0.5) * (self.p_second - 0.5) > 0 if self.asked else None


def judge(
    model: Any,
    tokenizer: Any,
    pairs: Sequence[Pair],
    batch_size: int = 32,
    advance: Advance = lambda rows: None,  # noqa: ARG005
) -> tuple[list[Verdict], list[str]]:
    """Verdicts in the order of `pairs`, and the ids of pairs that do not fit into the judge's context.

    Equal answers are a draw and cost no call. Raises `EvalError` when a log-probability is not finite.
    """
    ours_first = [render(pair.question, pair.ours, pair.theirs) for pair in pairs]
    theirs_first = [render(pair.question, pair.theirs, pair.ours) for pair in pairs]
    asked = [index for index, pair in enumerate(pairs) if not pair.equal]
    encoded = {index: _encode(tokenizer, [ours_first[index], theirs_first[index]]) for index in asked}
    context = int(model.config.get_text_config().max_position_embeddings)
    fitting = [index for index in asked if max(len(row.ids) for row in encoded[index]) <= context + 1]
    rows = [row for index in fitting for row in encoded[index]]
    first = _first_wins(_logprobs(model, rows, prefix_id(tokenizer), batch_size, advance))
    by_pair = {index: (first[2 * place], 1 - first[2 * place + 1]) for place, index in enumerate(fitting)}
    verdicts = []
    for index, pair in enumerate(pairs):
        if index in by_pair:
            verdicts.append(Verdict(pair.id, pair.cluster, *by_pair[index]))
        elif pair.equal:
            verdicts.append(Verdict(pair.id, pair.cluster, 0.5, 0.5, asked=False))
    too_long = sorted(pairs[index].id for index in set(asked) - set(fitting))
    return verdicts, too_long


@dataclass(frozen=True)
class _Row:
    """Tokens of prefix + prompt + verdict, and how many of the last ones are the verdict."""

    ids: list[int]
    scored: int


def _encode(tokenizer: Any, prompts: Sequence[str]) -> list[_Row]:
    """Two rows a prompt, one per verdict. The verdict is what a prompt's own tokens do not cover."""
    rows = []
    for prompt in prompts:
        texts = [prompt, *(prompt + verdict for verdict in VERDICTS)]
        head, *whole = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
        if any(len(ids) <= len(head) for ids in whole):
            raise EvalError("the judge's tokenizer merges the verdict into the prompt; choose another judge")
        rows += [_Row([prefix_id(tokenizer), *ids], len(ids) - len(head)) for ids in whole]
    return rows


def _first_wins(logprobs: Sequence[float]) -> list[float]:
    """From log p of " 1" and " 2" in turn to P(first), (2M,) to (M,)."""
    import numpy as np

    values = np.asarray(logprobs, dtype=np.float64).reshape(-1, 2)
    if not np.isfinite(values).all():
        raise EvalError("the judge gives log-probabilities that are not finite; its weights are broken")
    return [float(value) for value in 1 / (1 + np.exp(values[:, 1] - values[:, 0]))]


def _logprobs(model: Any, rows: Sequence[_Row], pad: int, batch_size: int, advance: Advance) -> list[float]:
    """Sum of log-probabilities of each row's verdict. Padding is right: causal attention never sees it."""
    import torch

    order = sorted(range(len(rows)), key=lambda index: (-len(rows[index].ids), index))
    sums = [0.0] * len(rows)
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        width = max(len(rows[index].ids) for index in batch)
        ids_BT = torch.tensor([rows[index].ids + [pad] * (width - len(rows[index].ids)) for index in batch])
        keep = max(width - len(rows[index].ids) + rows[index].scored for index in batch) + 1
        ids_BT = ids_BT.to(model.device)
        with torch.inference_mode():
            logits_BTV = model(input_ids=ids_BT, use_cache=False, logits_to_keep=keep).logits.float()
        logprobs_BTV = logits_BTV.log_softmax(-1)
        offset = width - logits_BTV.shape[1]
        for place, index in enumerate(batch):
            row = rows[index]
            for at in range(len(row.ids) - row.scored, len(row.ids)):
                sums[index] += float(logprobs_BTV[place, at - 1 - offset, row.ids[at]])
        advance(len(batch))
    return sums
