"""Blocks of `finegates` on the shards and bases of `adapt_fakes`."""

from __future__ import annotations

from typing import Any

from training_fakes import settings

from stages.common.params.adaptation import AdaptBlock


def block(
    share: float = 0.3,
    mode: str = "global",
    rank: int | None = None,
    targets: list[str] | None = None,
    rate: float = 0.1,
    tokens: int = 1024,
    calibration: int | None = None,
    **changes: Any,
) -> AdaptBlock:
    """FineGates with a small budget of steps and multiples of 1."""
    shrink = {
        "share": share,
        "mode": mode,
        "multiples": changes.pop("multiples", {"ffn": 1}),
        "gate_learning_rate": rate,
        "calibration_tokens": calibration,
        "layers": changes.pop("layers", 0),
    }
    return AdaptBlock(
        method="finegates",
        rank=rank,
        alpha=None if rank is None else 2.0 * rank,
        target_modules=targets,
        shrink=shrink,
        mix={"world-en": 1.0},
        training=settings(weight_decay=0.0, tokens=tokens, **changes),
    )
