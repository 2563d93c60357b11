"""FineGates in the stage: exact budgets, cut = masked = loaded, resume to the byte, gates that learn."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import adapt_fakes as fakes
import finegates_fakes
import pytest
import torch
from peft import PeftModel, get_peft_model
from training_fakes import tiny_model

from stages.adapt.adaptation import trainable_parameters
from stages.adapt.finegates.config import FineGatesConfig
from stages.adapt.finegates.method import FineGates
from stages.adapt.methods import wrap_of
from stages.adapt.prune.method import activations
from stages.adapt.prune.scores import wanda
from stages.adapt.shrink.units import Units
from stages.common.checkpoint import load_model, load_tokenizer, save_model
from stages.common.errors import UserError
from stages.common.training.losses import cross_entropy
from stages.common.training.resume import Resume

SHAPE = {"layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
WORLDS = {
    "qwen2": {"tie_word_embeddings": True},
    "llama": {"tie_word_embeddings": False},
    "qwen3": {"tie_word_embeddings": True},
}


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {
        family: fakes.make_base(tmp_path_factory.mktemp(family), family, **SHAPE, **changes)
        for family, changes in WORLDS.items()
    }


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fakes.make_base(tmp_path_factory.mktemp("gated"), **SHAPE)


def _adapted(folder: Path, given: Any) -> FineGates:
    found = fakes.adapted(folder, given)
    assert isinstance(found, FineGates)
    return found


def _stir(adaptation: FineGates, seed: int = 0) -> None:
    generator = torch.Generator().manual_seed(seed)
    for name, value in adaptation.model.named_parameters():
        if "finegates_" in name:
            value.data += torch.randn(value.shape, generator=generator)


def _drawn(adaptation: FineGates) -> list[torch.Tensor]:
    return [layer._drawn["default"][0] for layer in adaptation.objective.layers]


@pytest.mark.parametrize(
    ("mode", "family"),
    [("global", family) for family in WORLDS]
    + [(mode, "qwen2") for mode in ("uniform", "faithful", "beside")],
)
def test_trained_cut_saved_and_loaded(
    mode: str, family: str, worlds: dict[str, Path], tmp_path: Path
) -> None:
    world = worlds[family]
    changes: dict[str, Any] = {
        "faithful": {"mode": mode, "targets": fakes.TARGETS},
        "beside": {"rank": 2, "targets": ["q_proj", "up_proj"]},
    }.get(mode, {"mode": mode})
    given = finegates_fakes.block(share=0.4, tokens=512, **changes)
    adaptation = _adapted(world, given)
    fakes.fit(world, adaptation, given)
    adaptation.save_adapter(tmp_path / "adapter")
    gated = fakes.logits(adaptation.model)
    finished = adaptation.finish()
    save_model(finished.model, load_tokenizer(world / "base"), tmp_path / "small")
    small = load_model(tmp_path / "small")
    assert (small.config.model_type.startswith("lowbit_")) == (mode != "uniform")
    base = load_model(world / "base", dtype=torch.float32)
    again = PeftModel.from_pretrained(base, tmp_path / "adapter")
    assert torch.equal(fakes.logits(again), gated)
    assert torch.equal(fakes.logits(small), fakes.logits(finished.model))
    torch.testing.assert_close(fakes.logits(small), gated, rtol=0, atol=1e-5)
    removed = finished.notes["removed"]
    assert removed["parameters_before"] - removed["parameters_after"] == removed["removed_parameters"]
    assert removed["parameters_after"] == small.num_parameters()
    assert removed["removed_parameters"] == round(removed["after_rounding"] * removed["gateable_parameters"])
    rows = {row["layer"]: row for row in finished.notes["kept"]}
    for at, layer in enumerate(small.model.layers):
        assert sum(last - first + 1 for first, last in rows[at]["ffn"]) == layer.mlp.down_proj.in_features


@pytest.mark.parametrize("target", ["up_proj", "gate_proj", "down_proj", "v_proj", "o_proj"])
def test_faithful_gates_on_one_kind_of_layer_cut_its_part(target: str, world: Path) -> None:
    adaptation = _adapted(world, finegates_fakes.block(0.4, "faithful", targets=["q_proj", target]))
    _stir(adaptation)
    choice = adaptation.settle()
    assert abs(choice.before_rounding - 0.4) < 0.1
    adaptation.finish()


@pytest.mark.parametrize("share", [0.1, 0.2, 0.3, 0.4, 0.5])
@pytest.mark.parametrize("mode", ["global", "faithful"])
def test_the_budget_is_exact_to_half_a_unit(share: float, mode: str, world: Path) -> None:
    targets = fakes.TARGETS if mode == "faithful" else None
    adaptation = _adapted(world, finegates_fakes.block(share=share, mode=mode, targets=targets))
    _stir(adaptation)
    choice, units = adaptation.settle(), adaptation.units
    smallest = min(layer.ffn_cost for layer in units.layers)
    assert abs(choice.before_rounding - share) * units.gateable <= smallest / 2 + 1e-6
    assert choice.after_rounding == choice.before_rounding
    for at, layer in enumerate(units.layers):
        assert 1 <= len(choice.kept.ffn[at]) <= layer.ffn
        assert 1 <= len(choice.kept.groups[at]) <= layer.groups


@pytest.mark.parametrize("mode", ["global", "uniform"])
def test_the_gates_of_a_step_close_the_share_that_it_has(mode: str, world: Path) -> None:
    """The ramp is a fifth of the steps; which gates close, and so how many, is chance."""
    adaptation = _adapted(world, finegates_fakes.block(share=0.4, mode=mode))
    objective, gateable = adaptation.objective, adaptation.units.gateable
    for done, asked in ((0.0, 0.0), (0.1, 0.2), (0.2, 0.4), (0.9, 0.4)):
        found = []
        for step in range(20):
            objective.draw(round(done * 10**6) + step, 10**6)
            z_U = torch.cat(
                [
                    drawn.reshape(layer.units, -1)[:, 0]
                    for layer, drawn in zip(objective.layers, _drawn(adaptation), strict=True)
                ]
            )
            found.append(float(((z_U == 0) * objective.cost_U).sum()) / gateable)
        assert sum(found) / len(found) == pytest.approx(asked, abs=0.02)


def test_the_step_is_what_the_loop_says(world: Path) -> None:
    adaptation = _adapted(world, finegates_fakes.block(tokens=64 * 118))
    adaptation.before(adaptation.model, 77 / 118)
    assert adaptation.model.base_model._step == (77, 118)


def test_uniform_keeps_as_many_groups_as_the_gates_do(world: Path) -> None:
    kept = []
    for groups_mu in (5.0, -5.0):
        adaptation = _adapted(world, finegates_fakes.block(share=0.3, mode="uniform"))
        for layer in adaptation.objective.layers:
            if layer.part == "groups":
                layer.gates("default")[0].data[0] = groups_mu
        kept.append({len(groups) for groups in adaptation.settle().kept.groups})
    assert kept == [{2}, {1}]


def test_settled_gates_are_zero_and_one(world: Path) -> None:
    adaptation = _adapted(world, finegates_fakes.block(share=0.3))
    _stir(adaptation)
    scores = adaptation.objective.scores()
    choice = adaptation.settle()
    found = torch.cat([layer.gates("default")[0].detach() for layer in adaptation.objective.layers])
    assert set(found.tolist()) == {0.0, 1.0}
    for at, kept in enumerate(choice.kept.ffn):
        closed = [unit for unit in range(len(scores.ffn[at])) if unit not in kept]
        assert max(scores.ffn[at][closed].tolist()) <= min(scores.ffn[at][list(kept)].tolist())
    assert adaptation.settle() is choice


@pytest.mark.parametrize(
    ("name", "kind", "part", "place", "unit"),
    [
        ("up_proj", 1, "ffn", 5, 5),
        ("gate_proj", 1, "ffn", 5, 5),
        ("down_proj", 0, "ffn", 5, 5),
        ("q_proj", 1, "groups", 16, 1),  # the first of the second group's two query heads of 8
        ("k_proj", 1, "groups", 8, 1),
        ("v_proj", 1, "groups", 15, 1),
        ("o_proj", 0, "groups", 31, 1),
    ],
)
def test_a_faithful_score_is_of_all_gates_tied_in_the_unit(
    name: str, kind: int, part: str, place: int, unit: int, world: Path
) -> None:
    adaptation = _adapted(world, finegates_fakes.block(mode="faithful", targets=fakes.TARGETS))
    before = adaptation.objective.scores()
    layer = next(layer for layer in adaptation.objective.layers if (layer.at, layer.name) == (1, name))
    layer.gates("default")[kind].data[place] = -3.0
    after = adaptation.objective.scores()
    changed = [
        (found, at, index)
        for found in ("ffn", "groups")
        for at, (old, new) in enumerate(zip(before.of(found), after.of(found), strict=True))
        for index in (new < old).nonzero().flatten().tolist()
    ]
    assert changed == [(part, 1, unit)]


def test_widths_are_rounded_up(world: Path) -> None:
    given = finegates_fakes.block(share=0.3, multiples={"ffn": 16, "groups": 2})
    adaptation = _adapted(world, given)
    _stir(adaptation)
    choice = adaptation.settle()
    assert {len(kept) % 16 for kept in choice.kept.ffn} == {0}
    assert {len(kept) for kept in choice.kept.groups} == {2}
    assert choice.after_rounding < choice.before_rounding


def test_whole_layers_can_go(world: Path) -> None:
    adaptation = _adapted(world, finegates_fakes.block(share=0.5, layers=1))
    _stir(adaptation)
    kept = adaptation.settle().kept.layers
    before = fakes.logits(adaptation.model)
    finished = adaptation.finish()
    assert kept == (0, 2)
    assert finished.model.config.num_hidden_layers == 2
    torch.testing.assert_close(fakes.logits(finished.model), before, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("mode", "rank"), [("global", None), ("global", 2), ("uniform", None), ("faithful", None)]
)
def test_the_biases_of_whole_layers_go_too(mode: str, rank: int | None, tmp_path: Path) -> None:
    """Closed columns leave the biases of o_proj and down_proj; the saved adapter must be the cut model."""
    biased = {**SHAPE, "layers": 4, "attention_bias": True, "mlp_bias": True}
    world = fakes.make_base(tmp_path / "biased", "llama", **biased)
    targets = fakes.TARGETS if mode == "faithful" or rank else None
    given = finegates_fakes.block(0.5, mode, rank, targets, layers=1)
    adaptation = _adapted(world, given)
    _stir(adaptation)
    choice = adaptation.settle()
    assert len(choice.kept.layers) == 3
    adaptation.save_adapter(tmp_path / "adapter")
    gated = fakes.logits(adaptation.model)
    small = adaptation.finish().model
    assert small.config.num_hidden_layers == 3
    again = PeftModel.from_pretrained(load_model(world / "base", dtype=torch.float32), tmp_path / "adapter")
    assert torch.equal(fakes.logits(again), gated)
    torch.testing.assert_close(fakes.logits(small), gated, rtol=0, atol=1e-4 if rank else 1e-5)


def test_a_gated_model_that_is_not_the_cut_one_fails(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adaptation = _adapted(world, finegates_fakes.block(share=0.5))
    _stir(adaptation)
    adaptation.settle()
    layer = adaptation.objective.layers[0]
    monkeypatch.setattr(layer, "_gates", lambda _: (torch.ones(layer.in_features), None))
    with pytest.raises(RuntimeError, match="not one function"):
        adaptation.finish()


@pytest.mark.parametrize("mode", ["global", "faithful"])
def test_after_the_last_step_the_cut_is_evaluated(mode: str, world: Path) -> None:
    targets = fakes.TARGETS if mode == "faithful" else None
    given = finegates_fakes.block(mode=mode, targets=targets)
    adaptation = _adapted(world, given)
    fakes.fit(world, adaptation, given)
    shown = fakes.logits(adaptation.model)
    gates = [layer.gates("default")[0].detach().clone() for layer in adaptation.objective.layers]
    assert not all(set(found.tolist()) <= {0.0, 1.0} for found in gates)
    adaptation.settle()
    assert torch.equal(fakes.logits(adaptation.model), shown)
    for layer, found in zip(adaptation.objective.layers, gates, strict=True):
        layer.gates("default")[0].data.copy_(found)
    assert not torch.equal(fakes.logits(adaptation.model), shown)


def _mu(adaptation: FineGates) -> torch.Tensor:
    return torch.cat([layer.gates("default")[0].detach().clone() for layer in adaptation.objective.layers])


def test_beside_matrices_the_gates_settle_early(world: Path) -> None:
    """At .4 of the steps the units are picked: what is trained from then on is what will be cut."""
    given = finegates_fakes.block(rank=2, targets=["q_proj", "down_proj"])
    adaptation = _adapted(world, given)
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
    adaptation = _adapted(world, finegates_fakes.block())
    steps = adaptation.context.steps
    assert not adaptation.objective.settles(steps - 1, steps)
    assert adaptation.objective.settles(steps, steps)


@pytest.mark.parametrize("mode", ["global", "uniform"])
def test_gates_begin_in_the_order_of_calibrated_scores(mode: str, world: Path) -> None:
    """They are still open, so that a fresh model is the base; the least unit of a budget begins near 1."""
    adaptation = _adapted(world, finegates_fakes.block(mode=mode, calibration=512))
    units, model = adaptation.units, load_model(world / "base")
    context = fakes.context(world, finegates_fakes.block(calibration=512))
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
    given = finegates_fakes.block(tokens=640, checkpoint_steps=2, **changes)
    whole = _adapted(world, given)
    losses = fakes.fit(world, whole, given).losses
    whole.save_adapter(tmp_path / "whole")
    killed = _adapted(world, given)
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
    again = _adapted(world, given)
    assert fakes.fit(world, again, given, resume).losses == losses
    again.save_adapter(tmp_path / "again")
    # Killed after the last step: nothing is left to train.
    last = _adapted(world, given)
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
        given = finegates_fakes.block(accumulate=accumulate)
        adaptation = _adapted(world, given)
        fakes.fit(world, adaptation, given)
        found.append(torch.cat([layer.gates("default")[0].detach() for layer in adaptation.objective.layers]))
    assert float((found[0] - 1).abs().max()) > 0.3
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=2e-3)


def test_a_loss_that_is_not_a_number_stops_with_the_step(world: Path, tmp_path: Path) -> None:
    given = finegates_fakes.block(checkpoint_steps=2)
    adaptation = _adapted(world, given)
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
        given = finegates_fakes.block(rate=rate, rank=2, targets=["q_proj"], tokens=64 * 6)
        adaptation = _adapted(world, given)
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
    adaptation = _adapted(world, finegates_fakes.block())
    assert trainable_parameters(adaptation.model) == 3 * (64 + 2)
    beside = _adapted(world, finegates_fakes.block(rank=2, targets=["q_proj"]))
    assert trainable_parameters(beside.model) == 3 * (64 + 2) + 3 * 2 * (32 + 32)


def test_the_penalty_is_part_of_the_loss_in_faithful_only(world: Path) -> None:
    seen = {}
    for mode, targets in (("faithful", fakes.TARGETS), ("global", None)):
        adaptation = _adapted(world, finegates_fakes.block(mode=mode, targets=targets))
        loss = adaptation.loss(lambda *_: torch.zeros((), requires_grad=True))
        seen[mode] = loss(adaptation.model, None)
    # All gates are open: Phi(1.26 / .5) - .7 on average, times 50.
    assert float(seen["faithful"]) == pytest.approx(50 * 0.294, rel=0.02)
    assert float(seen["global"]) == 0


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"rank": 2, "targets": ["q_proj", "w_pack"]}, r"names w_pack, .* it has q_proj, k_proj, v_proj"),
        ({"share": 0.9, "multiples": {"ffn": 32}}, r"share: 0.9 would empty a layer; .* at least 32"),
        ({"layers": 2}, "at most 1 can go"),
        ({"mode": "faithful", "targets": ["v_proj"], "share": 0.6}, "share: 0.6 would empty a layer"),
        ({"mode": "faithful", "targets": ["q_proj"]}, "gates on q_proj close no unit; target v_proj or o_p"),
        (
            {"mode": "faithful", "targets": ["o_proj"], "layers": 1},
            "layers: a whole layer goes by the gates on down_proj and o_proj; target down_proj too",
        ),
    ],
)
def test_what_cannot_work_is_refused_before_the_training(
    changes: dict[str, Any], match: str, world: Path
) -> None:
    with pytest.raises(UserError, match=match):
        _adapted(world, finegates_fakes.block(**changes))


def test_a_quantised_base_is_refused(world: Path) -> None:
    given = finegates_fakes.block()
    model = tiny_model(**SHAPE)
    model.config.quantization_config = {"quant_method": "lowbit"}
    with pytest.raises(UserError, match="quantised; a cut needs the dense weights"):
        wrap_of("finegates")(model, fakes.context(world, given))


def test_gates_find_what_is_useless(world: Path) -> None:
    """A model learns with 24 neurons a layer, then gets 24 more that write almost nothing."""
    narrow = tiny_model(**{**SHAPE, "layers": 2}, intermediate_size=24)
    given = finegates_fakes.block(tokens=64 * 100)
    plain = replace_training(given, learning_rate=0.01)
    fit_plain(world, narrow, plain)
    wide = tiny_model(**{**SHAPE, "layers": 2}, intermediate_size=48)
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
