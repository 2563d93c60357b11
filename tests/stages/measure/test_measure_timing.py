"""Timing and statistics: equal work for every model, known medians, refusal of prompts that do not fit."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stages.measure import timing


class Counter:
    """Counts what it is called with; its argmax is the end-of-text token 0, which must not end the loop."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, bool, int | None]] = []

    def forward(
        self, input_ids: Any, use_cache: bool, past_key_values: Any = None, logits_to_keep: int = 0
    ) -> Any:
        raise NotImplementedError

    def __call__(
        self, input_ids: torch.Tensor, use_cache: bool, past_key_values: Any = None, **more: int
    ) -> Any:
        self.calls.append((input_ids.shape[1], past_key_values is not None, more.get("logits_to_keep")))
        width = more.get("logits_to_keep") or input_ids.shape[1]
        logits = torch.zeros(1, width, 5)
        logits[..., 0] = 1
        return SimpleNamespace(logits=logits, past_key_values=object())


def test_every_run_makes_one_prefill_and_all_decoding_steps() -> None:
    model = Counter()
    run = timing.generate(model, timing.prompt_ids(7, 5), 4, lambda: None)
    assert model.calls == [(7, False, 1), (1, True, None), (1, True, None), (1, True, None)]
    assert 0 < run.first_s < run.total_s


def test_the_clock_is_read_only_after_synchronising() -> None:
    events: list[str] = []
    model = Counter()
    original = timing.time.perf_counter
    timing.time.perf_counter = lambda: events.append("clock") or original()  # type: ignore[func-returns-value]
    try:
        timing.generate(model, timing.prompt_ids(2, 5), 3, lambda: events.append("wait"))
    finally:
        timing.time.perf_counter = original
    assert events == ["wait", "clock"] * 3


def test_prompts_are_the_same_every_time_and_inside_the_vocabulary() -> None:
    first, second = timing.prompt_ids(512, 300), timing.prompt_ids(512, 300)
    assert torch.equal(first, second)
    assert first.shape == (1, 512)
    assert int(first.min()) >= 0 and int(first.max()) < 300
    assert len(first.unique()) > 100


def test_summary_of_known_runs() -> None:
    runs = [timing.Run(first_s=0.1, total_s=0.1 + seconds) for seconds in (1.0, 2.0, 4.0)]
    found = timing.summarise(runs, prompt_tokens=50, new_tokens=11)
    assert found["ttft_ms"]["p50"] == pytest.approx(100)
    assert found["prefill_tokens_per_s"]["p50"] == pytest.approx(500)
    assert found["decode_tokens_per_s"]["p50"] == pytest.approx(5)
    assert found["latency_ms"]["p50"] == pytest.approx(2100)
    assert found["latency_ms"]["p95"] == pytest.approx(3900)
    assert (found["repeats"], found["new_tokens"]) == (3, 11)


def test_one_new_token_has_no_decoding_speed() -> None:
    found = timing.summarise([timing.Run(0.1, 0.1)] * 3, prompt_tokens=1, new_tokens=1)
    assert found["decode_tokens_per_s"] is None


@given(st.lists(st.floats(0.001, 1000), min_size=3, max_size=30))
def test_the_interval_of_the_median_lies_inside_the_data_and_around_the_median(values: list[float]) -> None:
    low, high = timing.median_interval(np.array(values))
    assert min(values) <= low <= np.median(values) <= high <= max(values)


def test_the_interval_narrows_with_more_repeats() -> None:
    draw = np.random.default_rng(3)
    few, many = timing.median_interval(draw.normal(size=10)), timing.median_interval(draw.normal(size=1000))
    assert many[1] - many[0] < few[1] - few[0]


@pytest.mark.parametrize(("positions", "fits"), [(None, True), (544, True), (543, False)])
def test_prompts_beyond_the_positions_are_refused(positions: int | None, fits: bool) -> None:
    reason = timing.refusal(512, 32, positions)
    assert (reason is None) is fits
    if reason:
        assert "512" in reason and "543 positions" in reason
