"""The one table of adaptation methods: the name in params.yaml and the function that applies it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from stages.common.params.adaptation import GATES, LOW_RANK, PARTIAL, PRUNING

if TYPE_CHECKING:
    from stages.adapt.adaptation import Wrap


def _family() -> Wrap:
    from stages.adapt.family import wrap

    return wrap


def _partial() -> Wrap:
    from stages.adapt.partial import wrap

    return wrap


def _finegates() -> Wrap:
    from stages.adapt.finegates.method import wrap

    return wrap


def _prune() -> Wrap:
    from stages.adapt.prune.method import wrap

    return wrap


TABLE: dict[str, Callable[[], Wrap]] = {
    **dict.fromkeys(LOW_RANK, _family),
    **dict.fromkeys(PARTIAL, _partial),
    **dict.fromkeys(GATES, _finegates),
    **dict.fromkeys(PRUNING, _prune),
}


def wrap_of(method: str) -> Wrap:
    """`wrap(model, context)` of `method`, imported now; it raises `UserError` where the method does not fit
    the model.
    """
    return TABLE[method]()
