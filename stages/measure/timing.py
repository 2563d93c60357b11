"""Greedy generation with the clock beside it, and the statistics of repeated runs."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

SEED = 20
BOOTSTRAP_ROUNDS = 2000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Run:
    """One generation: seconds to the first new token, and seconds to the last."""

    first_s: float
    total_s: float


def prompt_ids(length: int, vocab_size: int) -> torch.Tensor:
    """Token ids [1, length] from a seeded generator, the same for every model of this vocabulary."""
    generator = torch.Generator().manual_seed(SEED + length)
    return torch.randint(vocab_size, (1, length), generator=generator)


def synchroniser(device: str) -> Callable[[], None]:
    """What to call before reading the clock: work on a GPU runs on after the call that queued it."""
    return torch.cuda.synchronize if device == "cuda" else lambda: None


@torch.inference_mode()
def generate(model: Any, ids_1P: torch.Tensor, new_tokens: int, synchronise: Callable[[], None]) -> Run:
    """Greedy decoding of exactly `new_tokens` tokens after the prompt `ids_1P` [1, P], with a KV cache.

    An end-of-text token does not stop it, so that all models do equal work. The prompt's logits are computed
    for its last position only, as `generate` of Transformers does.
    """
    accepted = inspect.signature(model.forward).parameters
    last_only = {"logits_to_keep": 1} if "logits_to_keep" in accepted else {}
    synchronise()
    begun = time.perf_counter()
    answer = model(input_ids=ids_1P, use_cache=True, **last_only)
    token_11 = answer.logits[:, -1:].argmax(-1)
    synchronise()
    first = time.perf_counter()
    for _ in range(new_tokens - 1):
        answer = model(input_ids=token_11, past_key_values=answer.past_key_values, use_cache=True)
        token_11 = answer.logits[:, -1:].argmax(-1)
    synchronise()
    return Run(first - begun, time.perf_counter() - begun)


def refusal(prompt_tokens: int, new_tokens: int, max_positions: int | None) -> str | None:
    """Why a prompt of this length cannot be measured; None when it can."""
    if max_positions is None or prompt_tokens + new_tokens <= max_positions:
        return None
    return (
        f"a prompt of {prompt_tokens} and {new_tokens} new tokens do not fit the model's "
        f"{max_positions} positions (max_position_embeddings)"
    )


def summarise(runs: list[Run], prompt_tokens: int, new_tokens: int) -> dict[str, Any]:
    """Medians with bootstrap intervals, 95th percentiles; times in ms, rates in tokens per second.

    Decoding speed leaves the first new token out, which prefill paid for; with one new token it is null.
    """
    first_s = np.array([run.first_s for run in runs])
    total_s = np.array([run.total_s for run in runs])
    decode = (new_tokens - 1) / (total_s - first_s) if new_tokens > 1 else None
    return {
        "ttft_ms": {**_median(1e3 * first_s), "p95": _round(np.quantile(1e3 * first_s, 0.95))},
        "prefill_tokens_per_s": _median(prompt_tokens / first_s),
        "decode_tokens_per_s": None if decode is None else _median(decode),
        "latency_ms": {**_median(1e3 * total_s), "p95": _round(np.quantile(1e3 * total_s, 0.95))},
        "new_tokens": new_tokens,
        "repeats": len(runs),
    }


def _median(values: np.ndarray) -> dict[str, Any]:
    return {"p50": _round(np.median(values)), "ci": [_round(edge) for edge in median_interval(values)]}


def median_interval(values: np.ndarray) -> tuple[float, float]:
    """Percentile bootstrap interval (95 %) of the median of `values` [n] (Efron, Tibshirani 1993, ch. 13)."""
    drawn = np.random.default_rng(SEED).choice(values, size=(BOOTSTRAP_ROUNDS, len(values)))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(np.median(drawn, axis=1), [tail, 1 - tail])
    return float(low), float(high)


def _round(value: float) -> float:
    return float(f"{value:.5g}")
