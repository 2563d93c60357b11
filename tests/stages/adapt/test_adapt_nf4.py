"""The 4-bit base: what peft and bitsandbytes train, merged into the dense weights. Needs `make baselines`."""

from __future__ import annotations

import sys
from pathlib import Path

import adapt_fakes as fakes
import pytest
import torch
from training_fakes import settings

from stages.adapt import adapters
from stages.common.checkpoint import load_model
from stages.common.errors import UserError
from stages.common.params.adaptation import USES
from stages.common.training.resume import Resume

METHODS = sorted(method for method, keys in USES.items() if "nf4" in keys)
RATES = {"lora": 0.02, "rslora": 0.02, "dora": 0.02, "vera": 0.1, "ia3": 0.1}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fakes.make_base(tmp_path_factory.mktemp("nf4"), hidden_size=64)


@pytest.mark.parametrize("method", METHODS)
def test_an_adapter_of_a_4_bit_base_is_merged_into_the_dense_weights(
    method: str, world: Path, tmp_path: Path
) -> None:
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    block = fakes.block(method, nf4=True, training=settings(learning_rate=RATES[method], tokens=1024))
    before = fakes.logits(load_model(world / "base", dtype=torch.float32))
    adaptation = fakes.adapted(world, block)
    assert "Params4bit" in {type(value).__name__ for value in adaptation.model.parameters()}
    rounded = (fakes.logits(adaptation.model) - before).abs().max()
    assert 1e-3 < rounded < 1.0

    losses = fakes.fit(world, adaptation, block).losses
    assert sum(losses[-4:]) / 4 < sum(losses[:4]) / 4 - 0.05
    adaptation.save_adapter(tmp_path / "adapter")
    merged = adaptation.finish()
    assert merged.notes == {"nf4": True}
    assert {value.dtype for value in merged.model.parameters()} == {torch.float32}
    loaded = adapters.load(load_model(world / "base"), tmp_path / "adapter", world / "base")
    torch.testing.assert_close(fakes.logits(merged.model), fakes.logits(loaded), rtol=0, atol=1e-5)
    assert (fakes.logits(merged.model) - before).abs().max() > rounded


def test_a_resumed_run_beside_a_4_bit_base_ends_the_same(world: Path, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    block = fakes.block("lora", nf4=True)
    whole = fakes.fit(world, fakes.adapted(world, block), block).losses

    def dying(_: object, share: float) -> None:
        if share >= 0.5:
            raise KeyboardInterrupt

    broken = fakes.adapted(world, block)
    broken.before = dying  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        fakes.fit(world, broken, block, Resume(tmp_path / "resume"))
    again = fakes.adapted(world, block)
    assert fakes.fit(world, again, block, Resume(tmp_path / "resume")).losses == whole


def test_without_bitsandbytes_it_says_what_to_install(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    monkeypatch.setitem(sys.modules, "bitsandbytes.nn", None)
    with pytest.raises(UserError, match=r"adapt\.nf4 needs bitsandbytes .*; install it with `make basel"):
        fakes.adapted(world, fakes.block("lora", nf4=True))
