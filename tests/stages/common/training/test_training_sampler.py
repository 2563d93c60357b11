"""The sampler: a pure function of (seed, step), true to the mix, without replacement, with clear refusals."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from training_fakes import make_shards

from stages.common.errors import UserError
from stages.common.training.sampler import Sampler, Windows
from stages.common.training.shards import Shards


@pytest.fixture
def shards(shards_folder: Path) -> Shards:
    return Shards.open(shards_folder)


def _sampler(shards: Shards, seed: int = 1, mix: dict[str, float] | None = None, length: int = 16) -> Sampler:
    return Sampler(shards, mix or {"world-ru": 0.75, "world-en": 0.25}, 4, length, seed, "pretrain.mix")


def test_any_step_first_gives_the_same_batch(shards: Shards) -> None:
    straight, jumping = _sampler(shards), _sampler(shards)
    batches = [straight.batch(step) for step in range(30)]
    for step in (29, 0, 13, 7):
        late = jumping.batch(step)
        assert torch.equal(late.inputs_BT, batches[step].inputs_BT)
        assert torch.equal(late.targets_BT, batches[step].targets_BT)
        assert late.subset_tokens == batches[step].subset_tokens


def test_parts_of_a_batch_are_its_rows_with_their_weights(shards: Shards) -> None:
    plain = _sampler(shards).batch(0)
    assert [part.weights_BT for part in plain.split(2)] == [None, None]
    weighted = replace(plain, weights_BT=torch.arange(64.0).view(4, 16)).to("cpu")
    parts = weighted.split(2)
    for name in ("inputs_BT", "targets_BT", "positions_BT", "weights_BT"):
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(weighted, name))
    assert weighted.subset_tokens == plain.subset_tokens
    assert [part.subset_tokens for part in parts] == [{}, {}]


def test_another_seed_gives_another_order(shards: Shards) -> None:
    assert not torch.equal(_sampler(shards, 1).batch(0).inputs_BT, _sampler(shards, 2).batch(0).inputs_BT)


def test_consumed_tokens_follow_the_mix(shards: Shards) -> None:
    sampler, counts = _sampler(shards), Counter[str]()
    for step in range(100):
        counts.update(sampler.batch(step).subset_tokens)
    assert counts.total() == 100 * 4 * 16
    assert counts["world-ru"] / counts.total() == pytest.approx(0.75, abs=0.01)


def test_targets_are_the_next_tokens_of_the_stream(shards: Shards) -> None:
    stream = shards.tokens("world-ru", "train").astype(np.int64)
    text = stream.tobytes()
    batch = _sampler(shards, mix={"world-ru": 1.0}).batch(3)
    assert torch.equal(batch.inputs_BT[:, 1:], batch.targets_BT[:, :-1])
    for row, last in zip(batch.inputs_BT.numpy(), batch.targets_BT.numpy()[:, -1], strict=True):
        assert np.append(row, last).astype(np.int64).tobytes() in text


def test_no_window_twice_in_an_epoch_and_another_cut_in_the_next(shards: Shards) -> None:
    sampler = Windows(shards, "world-en", 16, 0, "pretrain.mix")
    windows = len(shards.tokens("world-en", "train")) // 16 - 1
    begins = [sampler.window(draw) for draw in range(2 * windows)]
    epochs = [
        {window.tobytes() for window in begins[:windows]},
        {window.tobytes() for window in begins[windows:]},
    ]
    stream = shards.tokens("world-en", "train").astype(np.int64)
    assert sum(len(window) - 1 for window in begins[:windows]) > len(stream) - 3 * 16
    places = [sampler._order(epoch)[1] for epoch in (0, 1)]
    assert all(sorted(order) == list(range(windows)) for order in places)
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize("length", [16, 60, 120])
def test_windows_stay_inside_short_streams(tmp_path: Path, length: int) -> None:
    shards = Shards.open(make_shards(tmp_path / "tokens", {"a": "en"}))
    size = len(shards.tokens("a", "train"))
    sampler = _sampler(shards, mix={"a": 1.0}, length=min(length, size - 1))
    for step in range(40):
        assert sampler.batch(step).targets_BT.shape == (4, min(length, size - 1))
    widest = _sampler(shards, mix={"a": 1.0}, length=size - 1).batch(0)
    assert widest.targets_BT[0, -1] == shards.eos_id


def test_unknown_subset_lists_those_there_are(shards: Shards) -> None:
    with pytest.raises(
        UserError, match=r"`pretrain\.mix` names the subset `classics`; there are: world-en, world-ru"
    ):
        _sampler(shards, mix={"classics": 1.0})


def test_a_subset_shorter_than_a_window_is_refused(shards: Shards) -> None:
    with pytest.raises(UserError, match="less than one window"):
        _sampler(shards, length=100_000)


def test_a_truncated_shard_is_named(tmp_path: Path) -> None:
    folder = make_shards(tmp_path / "tokens")
    shard = folder / "world-ru.train.bin"
    shard.write_bytes(shard.read_bytes()[:-2])
    with pytest.raises(UserError, match=r"world-ru\.train\.bin"):
        Shards.open(folder)
