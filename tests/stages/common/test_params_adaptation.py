"""The block `adapt`: each method says what it reads, and refuses the rest by name."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError
from training_fakes import settings

from stages.common.params.adaptation import (
    CALIBRATED,
    CUTTING,
    GATES,
    METHODS,
    PRUNING,
    REFUSED,
    USES,
    AdaptBlock,
)

TARGETS = ["q_proj"]
SHRINK: dict[str, Any] = {"share": 0.3, "mode": "global"}
GATED = SHRINK | {"gate_learning_rate": 0.02}
SAMPLED = SHRINK | {"calibration_tokens": 1024}
EVERY = {"rank": 4, "alpha": 8.0, "target_modules": TARGETS, "shrink": SHRINK}


def block(method: str, **values: Any) -> AdaptBlock:
    return AdaptBlock(**{"method": method, "mix": {"a": 1.0}, "training": settings(), **values})


def needed(method: str) -> dict[str, Any]:
    """The keys that `method` reads, and no other."""
    if method in GATES:
        return {"shrink": GATED}
    values = {key: value for key, value in EVERY.items() if key in USES[method]}
    return values | ({"shrink": SAMPLED} if method in CALIBRATED else {})


def said(method: str, **values: Any) -> str:
    with pytest.raises(ValidationError) as error:
        block(method, **values)
    return str(error.value)


@pytest.mark.parametrize("method", METHODS)
def test_a_method_takes_what_it_reads_and_nothing_else(method: str) -> None:
    values = needed(method)
    assert block(method, **values).cuts == (method in CUTTING)
    for key in values:
        assert f"method `{method}` needs `{key}`" in said(method, **values | {key: None})
    # A rank asks for LoRA beside the gates.
    for key in set(EVERY) - set(values) - ({"rank"} if method in GATES else set()):
        assert f"method `{method}` does not use `{key}`" in said(method, **values | {key: EVERY[key]})


@pytest.mark.parametrize("method", METHODS)
def test_a_4_bit_base_is_for_methods_that_train_beside_it(method: str) -> None:
    values = needed(method) | {"nf4": True}
    if "nf4" in USES.get(method, ()):
        assert block(method, **values).nf4
    else:
        assert f"method `{method}` does not train beside a 4-bit base" in said(method, **values)


@pytest.mark.parametrize(("method", "reason"), REFUSED.items())
def test_methods_that_are_not_built_say_why(method: str, reason: str) -> None:
    assert method not in METHODS
    for written in (method, method.upper(), method.title()):
        assert f"method `{written}` is not built: {reason}" in said(written, **EVERY)


def test_an_unknown_method_lists_the_built_ones() -> None:
    assert f"there is no method `lorra`; built: {', '.join(METHODS)}" in said("lorra")


def test_lora_beside_gates_is_whole_or_absent() -> None:
    beside = {"rank": 4, "alpha": 8.0, "target_modules": TARGETS}
    assert block("finegates", shrink=GATED, **beside).rank == 4
    assert "needs `alpha`" in said("finegates", shrink=GATED, **beside | {"alpha": None})
    assert "does not use `alpha`" in said("finegates", shrink=GATED, **beside | {"rank": None})
    assert "does not use `target_modules`" in said("finegates", shrink=GATED, target_modules=TARGETS)
    gates, rest = "shrink.gate_learning_rate", "training.learning_rate"
    assert block("finegates", shrink=GATED, **beside).rate_keys == (gates, rest)
    assert block("finegates", shrink=GATED).rate_keys == (gates,)
    assert block("lora", **beside).rate_keys == block("ia3", target_modules=TARGETS).rate_keys == (rest,)
    faithful = GATED | {"mode": "faithful"}
    assert block("finegates", shrink=faithful, target_modules=TARGETS).rank is None
    assert "needs `target_modules`" in said("finegates", shrink=faithful)


@pytest.mark.parametrize("method", PRUNING)
def test_gates_and_calibration_belong_to_their_methods(method: str) -> None:
    values = needed(method)
    shrink = values["shrink"]
    assert "shrink.mode `faithful` is of finegates" in said(
        method, **values | {"shrink": shrink | {"mode": "faithful"}}
    )
    assert "does not use `shrink.gate_learning_rate`" in said(
        method, **values | {"shrink": shrink | {"gate_learning_rate": 0.1}}
    )
    other = None if method in CALIBRATED else 64
    verb = "needs" if method in CALIBRATED else "does not use"
    assert f"{verb} `shrink.calibration_tokens`" in said(
        method, **values | {"shrink": shrink | {"calibration_tokens": other}}
    )


def test_gates_may_begin_in_the_order_of_calibrated_scores() -> None:
    shrink = GATED | {"calibration_tokens": 64}
    found = block("finegates", shrink=shrink).shrink
    assert found is not None and found.calibration_tokens == 64
    assert "in mode faithful does not use `shrink.calibration_tokens`" in said(
        "finegates", shrink=shrink | {"mode": "faithful"}, target_modules=TARGETS
    )


@pytest.mark.parametrize("share", [-0.1, 0.91])
def test_the_share_has_bounds(share: float) -> None:
    assert "shrink.share" in said("finegates", shrink=GATED | {"share": share})


DATA = [{"paths": ["a.jsonl"], "subset": "talk", "licence": "MIT", "language": "ru"}]


def test_shards_supervised_files_or_both() -> None:
    lora = needed("lora")
    alone = block("lora", **lora, mix=None, data=DATA)
    assert (alone.supervised, alone.replay) == (("talk",), {})
    assert alone.data is not None and alone.data[0].too_long == "drop"
    both = block("lora", **lora, mix={"talk": 0.8, "world-ru": 0.2}, data=DATA)
    assert both.replay == {"world-ru": 0.2}
    assert block("lora", **lora, mix={"world-ru": 1.0}).replay == {"world-ru": 1.0}
    assert "`mix` (of shards) or `data` (supervised files) is needed" in said("lora", **lora, mix=None)
    assert "`mix` leaves out the subset `talk`" in said("lora", **lora, mix={"world-ru": 1.0}, data=DATA)
    assert "two sources of `data` have the subset `talk`" in said("lora", **lora, mix=None, data=DATA * 2)


@pytest.mark.parametrize("method", [*CALIBRATED, "finegates"])
def test_calibration_needs_shards_to_draw_text_from(method: str) -> None:
    sampled = GATED | {"calibration_tokens": 64} if method in GATES else SAMPLED
    values = needed(method) | {"shrink": sampled, "data": DATA}
    for mix in (None, {"talk": 1.0}):
        assert "on the shards of `mix`, which names none" in said(method, **values, mix=mix)
    assert block(method, **values, mix={"talk": 0.8, "world-ru": 0.2}).replay
    if method in GATES:
        assert block(method, **values | {"shrink": GATED}, mix=None).replay == {}
    else:
        assert block("magnitude", **values | {"shrink": SHRINK}, mix=None).replay == {}
