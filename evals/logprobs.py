"""Log-probabilities of whole texts under a causal model, in sliding windows of bounded context."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from evals.errors import EvalError

LOGIT_BUDGET = 2**25  # float32 logits held at once: 128 MiB


@dataclass(frozen=True)
class Window:
    """Predict tokens `first`..`end` - 1 of a text from the inputs `start`..`end` - 1 of prefix + text.

    Input i is the token before token i, so token i is predicted at input i.
    """

    text: int
    start: int
    first: int
    end: int

    @property
    def length(self) -> int:
        return self.end - self.start


def plan_windows(text: int, tokens: int, window: int) -> list[Window]:
    """Windows of at most `window` inputs that score each of `tokens` tokens once.

    The first scores all its tokens; each later one moves on by half a window, so that every token is
    predicted from at least half a window of context, or from everything before it.
    """
    stride = max(1, window // 2)
    windows = [Window(text, 0, 0, min(window, tokens))]
    while windows[-1].end < tokens:
        end = min(windows[-1].end + stride, tokens)
        windows.append(Window(text, max(0, end - window), windows[-1].end, end))
    return windows


def prefix_id(tokenizer: Any) -> int:
    """The token that stands before a text: BOS, else EOS (documents are packed with EOS between them).

    Raises `EvalError` when the tokenizer has neither.
    """
    for name in ("bos_token_id", "eos_token_id"):
        if (token := getattr(tokenizer, name)) is not None:
            return int(token)
    raise EvalError(
        "the tokenizer has neither a BOS nor an EOS token; the first token of a text needs one before it"
    )


def text_logprobs(
    model: Any,
    tokenizer: Any,
    texts: Sequence[str],
    window: int,
    budget: int = LOGIT_BUDGET,
    advance: Callable[[int], None] = lambda _: None,
) -> list[float]:
    """Natural log P(text) of each text, its first token conditioned on BOS or EOS; the end of the text is not
    scored.

    `window`: inputs per forward pass. `budget`: logits (rows x inputs x vocabulary) held at once. `advance`
    is told how many tokens were scored. Raises `EvalError` when a value is not finite.
    """
    import numpy as np

    tokens = encode(tokenizer, texts)
    prefix = prefix_id(tokenizer)
    windows = [
        item for index, ids in enumerate(tokens) if ids for item in plan_windows(index, len(ids), window)
    ]
    windows.sort(key=lambda item: (-item.length, item.text, item.start))
    sums = np.zeros(len(texts), dtype=np.float64)
    place, vocabulary = 0, int(model.config.get_text_config().vocab_size)
    while place < len(windows):
        rows = max(1, budget // (windows[place].length * vocabulary))
        batch = windows[place : place + rows]
        for item, value in zip(batch, _score(model, tokens, prefix, batch), strict=True):
            sums[item.text] += value
        advance(sum(item.end - item.first for item in batch))
        place += rows
    if not np.isfinite(sums).all():
        raise EvalError("the model gives log-probabilities that are not finite; its weights are broken")
    return [float(value) for value in sums]


def encode(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of each text, without special tokens."""
    if not texts:
        return []
    return [list(ids) for ids in tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]]


def _score(model: Any, tokens: list[list[int]], prefix: int, batch: list[Window]) -> list[float]:
    """Sum of log-probabilities of each window's own tokens. Rows are padded right: causal attention never
    sees it.
    """
    import torch
    from torch.nn import functional as F

    width = max(item.length for item in batch)
    inputs_BT = torch.full((len(batch), width), prefix, dtype=torch.long)
    targets_BT = torch.full((len(batch), width), -100, dtype=torch.long)
    for row, item in enumerate(batch):
        ids = torch.tensor([prefix, *tokens[item.text]], dtype=torch.long)
        inputs_BT[row, : item.length] = ids[item.start : item.end]
        targets_BT[row, item.first - item.start : item.length] = ids[item.first + 1 : item.end + 1]
    with torch.inference_mode():
        logits_BTV = model(input_ids=inputs_BT.to(model.device), use_cache=False).logits.float()
        targets_N = targets_BT.to(model.device).flatten()
        losses_N = F.cross_entropy(logits_BTV.flatten(0, 1), targets_N, ignore_index=-100, reduction="none")
    return [-value for value in losses_N.view_as(targets_BT).double().sum(dim=1).tolist()]
