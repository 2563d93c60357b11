"""Training gates in the stage: when they settle, resume to the byte, accumulation, rates, what they find."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import adapt_fakes as fakes
import finegates_fakes as tuner
import pytest
import torch
from peft import get_peft_model
from training_fakes import tiny_model

from stages.adapt.adaptation import trainable_parameters
from stages.adapt.finegates.config import FineGatesConfig
from stages.adapt.finegates.method import FineGates
from stages.adapt.prune.method import activations
from stages.adapt.prune.scores import wanda
from stages.adapt.shrink.units import Units
from stages.common.checkpoint import load_model
from stages.common.errors import UserError
from stages.common.training.losses import cross_entropy
from stages.common.training.resume import Resume


def _mu(adaptation: FineGates) -> torch.Tensor:
    return torch.cat([layer.gates("default")[0].detach().clone() for layer in adaptation.objective.layers])


def test_beside_matrices_the_gates_settle_early(world: Path) -> None:
    """At .4 of the steps the units are picked: what is trained from then on is what will be cut."""
    given = tuner.block(rank=2, targets=["q_proj", "down_proj"])
    adaptation = tuner.adapted(world, given)
    steps, seen = adaptation.context.steps, []
    before = adaptation.before

    def watched(model: Any, share: float) -> None:
        before(model, share)
        beside = [value for name, value in model.named_parameters() if "finegates_B" in name]
        seen.append((_mu(adaptation), torch.cat([value.detach().flatten().clone() for value in beside])))

    adaptation.before = watched  # type: ignore[method-assign]
    fakes.fit(world, adaptation, given)
    settled = round(0.4 * steps)
    for (_, matrices), (_, next_matrices) in pairwise(seen[2:]):
        assert not torch.equal(matrices, next_matrices)
    assert not torch.equal(seen[settled - 1][0], seen[settled][0])
    assert all(torch.equal(mu, seen[settled][0]) for mu, _ in seen[settled:])
    assert all(_gates_of(layer) <= {0.0, 1.0} for layer in adaptation.objective.layers)
    adaptation.model.train()
    trained = fakes.logits(adaptation.model)
    torch.testing.assert_close(fakes.logits(adaptation.finish().model), trained, rtol=0, atol=1e-5)


def _gates_of(layer: Any) -> set[float]:
    return set(layer._gates("default")[0].tolist())


def test_without_matrices_the_gates_learn_to_the_end(world: Path) -> None:
    adaptation = tuner.adapted(world, tuner.block())
    steps = adaptation.context.steps
    assert not adaptation.objective.settles(steps - 1, steps)
    assert adaptation.objective.settles(steps, steps)


@pytest.mark.parametrize("mode", ["global", "uniform"])
def test_gates_begin_in_the_order_of_calibrated_scores(mode: str, world: Path) -> None:
    """They are still open, so that a fresh model is the base; the least unit of a budget begins near 1."""
    adaptation = tuner.adapted(world, tuner.block(mode=mode, calibration=512))
    units, model = adaptation.units, load_model(world / "base")
    context = fakes.context(world, tuner.block(calibration=512))
    wanted = wanda(model, units, activations(model, context))
    found = adaptation.objective.scores()
    for at in range(len(units.layers)):
        assert torch.equal(found.ffn[at].argsort(stable=True), wanted.ffn[at].argsort(stable=True))
    mu = _mu(adaptation)
    assert 1 < float(mu.min()) < 1.1
    assert 2.5 < float(mu.max()) < 3
    assert torch.equal(fakes.logits(adaptation.model.eval()), fakes.logits(model.eval()))


class KilledError(Exception):
    """Stands for a kill between two steps."""


@pytest.mark.parametrize("mode", ["global", "faithful", "beside"])
def test_a_killed_run_ends_with_the_same_bytes(mode: str, world: Path, tmp_path: Path) -> None:
    changes: dict[str, Any] = {
        "faithful": {"mode": mode, "targets": fakes.TARGETS},
        "beside": {"rank": 2, "targets": ["q_proj", "down_proj"]},
    }.get(mode, {"mode": mode})
    given = tuner.block(tokens=640, checkpoint_steps=2, **changes)
    whole = tuner.adapted(world, given)
    losses = fakes.fit(world, whole, given).losses
    whole.save_adapter(tmp_path / "whole")
    killed = tuner.adapted(world, given)
    resume, inner, calls = Resume(tmp_path / "resume"), killed.loss(cross_entropy), 0

    def dying(model: Any, batch: Any) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls > 5:
            raise KilledError
        return inner(model, batch)

    killed.loss = lambda _: dying  # type: ignore[method-assign]
    with pytest.raises(KilledError):
        fakes.fit(world, killed, given, resume)
    torch.manual_seed(99)
    again = tuner.adapted(world, given)
    assert fakes.fit(world, again, given, resume).losses == losses
    again.save_adapter(tmp_path / "again")
    # Killed after the last step: nothing is left to train.
    last = tuner.adapted(world, given)
    assert fakes.fit(world, last, given, resume).losses == losses
    last.save_adapter(tmp_path / "last")
    files = sorted(file.name for file in (tmp_path / "whole").iterdir())
    assert files == ["adapter_config.json", "adapter_model.safetensors", "base.json"]
    for name in files:
        for folder in ("again", "last"):
            assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / folder / name).read_bytes(), name


def test_accumulation_draws_the_same_gates(world: Path) -> None:
    found = []
    for accumulate in (1, 2):
        given = tuner.block(accumulate=accumulate)
        adaptation = tuner.adapted(world, given)
        fakes.fit(world, adaptation, given)
        found.append(torch.cat([layer.gates("default")[0].detach() for layer in adaptation.objective.layers]))
    assert float((found[0] - 1).abs().max()) > 0.3
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=2e-3)


def test_a_loss_that_is_not_a_number_stops_with_the_step(world: Path, tmp_path: Path) -> None:
    given = tuner.block(checkpoint_steps=2)
    adaptation = tuner.adapted(world, given)
    inner, calls = adaptation.loss(cross_entropy), 0

    def failing(model: Any, batch: Any) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return inner(model, batch) * (math.nan if calls == 6 else 1)

    adaptation.loss = lambda _: failing  # type: ignore[method-assign]
    resume = Resume(tmp_path)
    with pytest.raises(UserError, match=r"loss nan, gradient norm nan at step 5; .* is kept in"):
        fakes.fit(world, adaptation, given, resume)
    gates = torch.cat([layer.gates("default")[0].detach() for layer in adaptation.objective.layers])
    assert bool(gates.isfinite().all())
    assert any(tmp_path.rglob("state.safetensors"))


def test_gates_have_a_rate_of_their_own(world: Path) -> None:
    moved = []
    for rate in (0.02, 0.04):
        given = tuner.block(rate=rate, rank=2, targets=["q_proj"], tokens=64 * 6)
        adaptation = tuner.adapted(world, given)
        start = {name: value.detach().clone() for name, value in adaptation.model.named_parameters()}
        fakes.fit(world, adaptation, given)
        moved.append(
            {
                kind: sum(
                    (value - start[name]).abs().sum().item()
                    for name, value in adaptation.model.named_parameters()
                    if kind in name
                )
                for kind in ("finegates_mu", "finegates_B")
            }
        )
    assert moved[1]["finegates_mu"] / moved[0]["finegates_mu"] == pytest.approx(2, rel=0.1)
    assert moved[1]["finegates_B"] / moved[0]["finegates_B"] == pytest.approx(1, rel=0.1)


def test_only_gates_are_trained_without_a_rank(world: Path) -> None:
    adaptation = tuner.adapted(world, tuner.block())
    assert trainable_parameters(adaptation.model) == 3 * (64 + 2)
    beside = tuner.adapted(world, tuner.block(rank=2, targets=["q_proj"]))
    assert trainable_parameters(beside.model) == 3 * (64 + 2) + 3 * 2 * (32 + 32)


def test_gates_find_what_is_useless(world: Path) -> None:
    """A model learns with 24 neurons a layer, then gets 24 more that write almost nothing."""
    narrow = tiny_model(**{**tuner.LAYERS, "layers": 2}, intermediate_size=24)
    given = tuner.block(tokens=64 * 100)
    plain = replace_training(given, learning_rate=0.01)
    fit_plain(world, narrow, plain)
    wide = tiny_model(**{**tuner.LAYERS, "layers": 2}, intermediate_size=48)
    places = planted(narrow, wide)
    config = FineGatesConfig(target_modules=["down_proj"], share=0.5, seed=1)
    model = get_peft_model(wide, config)
    adaptation = FineGates(model, replace(fakes.context(world, given), block=given))
    fakes.fit(world, adaptation, given)
    scores = adaptation.objective.scores().ffn
    units = Units.of(wide.config)
    assert units.layers[0].ffn == 48
    for at, useful in enumerate(places):
        found = set(scores[at].topk(24).indices.tolist())
        assert len(found & useful) >= 22


def replace_training(given: Any, **changes: Any) -> Any:
    return given.model_copy(update={"training": given.training.model_copy(update=changes)})


def fit_plain(folder: Path, model: Any, given: Any) -> None:
    from stages.adapt.adaptation import Adaptation

    adaptation = Adaptation(model)
    found = fakes.fit(folder, adaptation, given)
    assert sum(found.losses[-4:]) / 4 < 0.7 * found.losses[0]


@torch.no_grad()
def planted(narrow: Any, wide: Any) -> list[set[int]]:
    """Copy `narrow` into `wide`, its neurons in random places; those places of every layer."""
    generator = torch.Generator().manual_seed(4)
    state, places = narrow.state_dict(), []
    for name, value in wide.state_dict().items():
        if ".mlp." not in name:
            value.copy_(state[name])
    for small, big in zip(narrow.model.layers, wide.model.layers, strict=True):
        chosen = torch.randperm(48, generator=generator)[:24].sort().values
        for name in ("gate_proj", "up_proj"):
            getattr(big.mlp, name).weight[chosen] = getattr(small.mlp, name).weight
        big.mlp.down_proj.weight.mul_(0.01)
        big.mlp.down_proj.weight[:, chosen] = small.mlp.down_proj.weight
        places.append(set(chosen.tolist()))
    return places
