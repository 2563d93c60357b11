"""A local causal model as judge, scored by the log-probabilities of its verdict words.

For a prompt x the share of verdict v is p(v | x) / sum over w of p(w | x); each p is that of the whole word,
however many tokens it has. Nothing is generated, so every verdict can be read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from evals.errors import EvalError
from evals.judge import rubrics
from evals.judge.protocol import Failure, Identity, Reply, RubricJudge
from evals.judge.rubrics import Rubric
from evals.logprobs import prefix_id

Advance = Callable[[int], None]


@dataclass(frozen=True)
class LocalModel:
    """A loaded model and its tokenizer; `digest` is that of the weights.

    `shared`: one row a prompt when all its verdicts are one token, instead of one a verdict. `advance` is
    told the rows of every forward pass.
    """

    model: Any
    tokenizer: Any
    digest: str
    batch_size: int = 32
    shared: bool = True
    advance: Advance = lambda rows: None  # noqa: ARG005

    def identity(self, name: str, rubric: Rubric) -> Identity:
        precision = str(getattr(self.model, "dtype", "")).removeprefix("torch.")
        return Identity(name, "local", self.digest, (("precision", precision),), rubric.digest)

    def ask(self, rubric: Rubric, prompts: Sequence[str]) -> list[Reply | Failure]:
        """Raises `EvalError` when a log-probability is not finite, or the tokenizer cannot tell a verdict."""
        words = [word if _chat(self.tokenizer) else f" {word}" for word in rubric.labels]
        texts = [_text(self.tokenizer, rubric, prompt) for prompt in prompts]
        encoded = [_encode(self.tokenizer, text, words, self.shared) for text in texts]
        context = int(self.model.config.get_text_config().max_position_embeddings)
        lengths = [max(len(row.ids) - row.unread for row in rows) for rows in encoded]
        fitting = [index for index, length in enumerate(lengths) if length <= context]
        rows = [row for index in fitting for row in encoded[index]]
        sums = _logprobs(self.model, rows, self.batch_size, self.advance)
        replies = dict(zip(fitting, _shares(sums, len(words)), strict=True))
        return [
            replies.get(index) or Failure("too_long", f"{length} tokens, the judge's context holds {context}")
            for index, length in enumerate(lengths)
        ]


def embedded(
    model: Any, tokenizer: Any, digest: str, batch_size: int = 32, advance: Advance | None = None
) -> RubricJudge:
    """The judge of the embedded world, which is asked in its own layout."""
    # One row a verdict, as its published numbers were made: rows of another width round otherwise.
    backend = LocalModel(model, tokenizer, digest, batch_size, False, advance or (lambda _: None))
    return RubricJudge("embedded", backend, rubrics.embedded())


def _chat(tokenizer: Any) -> bool:
    return getattr(tokenizer, "chat_template", None) is not None


def _text(tokenizer: Any, rubric: Rubric, prompt: str) -> str:
    """What the model reads before its verdict: a chat where the tokenizer has one, else plain text."""
    if not _chat(tokenizer):
        return "\n".join(part for part in (rubric.system, prompt, rubric.cue) if part)
    from jinja2 import TemplateError

    system, user = {"role": "system", "content": rubric.system}, {"role": "user", "content": prompt}
    merged = {"role": "user", "content": f"{rubric.system}\n\n{prompt}"}
    # A model that thinks first would not begin with its verdict; templates without that switch ignore it.
    settings = {"tokenize": False, "add_generation_prompt": True, "enable_thinking": False}
    try:
        return str(tokenizer.apply_chat_template([system, user], **settings))
    except TemplateError:  # some templates know no system message
        return str(tokenizer.apply_chat_template([merged], **settings))


@dataclass(frozen=True)
class _Row:
    """Tokens of one row, and the verdicts read in it: for each the (place, token) pairs whose sum it is.

    `unread`: tokens at the end that nothing is predicted from.
    """

    ids: list[int]
    paths: list[list[tuple[int, int]]]
    unread: int


def _encode(tokenizer: Any, text: str, words: Sequence[str], shared: bool) -> list[_Row]:
    """The rows of one prompt. A verdict is what the prompt's own tokens do not cover."""
    texts = [text, *(text + word for word in words)]
    head, *whole = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
    if any(len(ids) <= len(head) or ids[: len(head)] != head for ids in whole):
        raise EvalError("the judge's tokenizer merges the verdict into the prompt; choose another judge")
    # A chat template writes its own beginning of text.
    before = [] if _chat(tokenizer) else [prefix_id(tokenizer)]
    start = len(before) + len(head)
    paths = [[(start + place, token) for place, token in enumerate(ids[len(head) :])] for ids in whole]
    if shared and all(len(path) == 1 for path in paths):
        return [_Row([*before, *head], paths, 0)]
    return [_Row([*before, *ids], [path], 1) for ids, path in zip(whole, paths, strict=True)]


def _shares(logprobs: Sequence[float], labels: int) -> list[Reply]:
    """From log p of every label in turn to replies, (P * labels,) to (P,)."""
    import numpy as np

    values_PL = np.asarray(logprobs, dtype=np.float64).reshape(-1, labels)
    if not np.isfinite(values_PL).all():
        raise EvalError("the judge gives log-probabilities that are not finite; its weights are broken")
    # exp(w - v), summed, instead of a softmax: for two labels the very sigmoid of their difference.
    odds_PLL = np.exp(values_PL[:, None, :] - values_PL[:, :, None])
    return [Reply(tuple(float(share) for share in shares)) for shares in 1 / odds_PLL.sum(-1)]


def _logprobs(model: Any, rows: Sequence[_Row], batch_size: int, advance: Advance) -> list[float]:
    """Sum of log-probabilities of each verdict. Padding is right: causal attention never sees it."""
    import torch

    order = sorted(range(len(rows)), key=lambda index: (-len(rows[index].ids), index))
    sums: list[list[float]] = [[] for _ in rows]
    pad = rows[0].ids[0] if rows else 0
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        width = max(len(rows[index].ids) for index in batch)
        ids_BT = torch.tensor([rows[index].ids + [pad] * (width - len(rows[index].ids)) for index in batch])
        first = min(place for index in batch for path in rows[index].paths for place, _ in path)
        ids_BT = ids_BT.to(model.device)
        with torch.inference_mode():
            kept = width - first + 1
            logits_BTV = model(input_ids=ids_BT, use_cache=False, logits_to_keep=kept).logits.float()
        logprobs_BTV = logits_BTV.log_softmax(-1)
        offset = width - logits_BTV.shape[1]
        for place, index in enumerate(batch):
            for path in rows[index].paths:
                total = 0.0
                for at, token in path:
                    total += float(logprobs_BTV[place, at - 1 - offset, token])
                sums[index].append(total)
        advance(len(batch))
    return [value for row in sums for value in row]
