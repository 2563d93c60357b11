"""The per-item result that every score, interval and paired test is made of."""

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
