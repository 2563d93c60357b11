"""The per-item results that every score, interval and paired test is made of."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Item:
    """One value of one metric on one document: a row of items.parquet."""

    task: str
    doc_hash: str
    prompt_hash: str
    cluster: str
    metric: str
    value: float


@dataclass(frozen=True)
class Answer:
    """What a model answered to the item `id`: `text` as its task reads it; `logprobs` of the choices, in
    their order, or what was `written`, once for every sample.
    """

    id: str
    text: str
    logprobs: tuple[float, ...] = ()
    written: tuple[str, ...] = ()
