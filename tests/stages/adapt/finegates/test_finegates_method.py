"""FineGates in the stage: exact budgets, cut = masked = loaded, resume to the byte, gates that learn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import adapt_fakes as fakes
import finegates_fakes as tuner
import pytest
import torch
from peft import PeftModel
from training_fakes import tiny_model

from stages.adapt.finegates.method import FineGates
from stages.adapt.methods import wrap_of
from stages.common.checkpoint import load_model, load_tokenizer, save_model
from stages.common.errors import UserError

WORLDS = {
    "qwen2": {"tie_word_embeddings": True},
    "llama": {"tie_word_embeddings": False},
    "qwen3": {"tie_word_embeddings": True},
}


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {
        family: fakes.make_base(tmp_path_factory.mktemp(family), family, **tuner.LAYERS, **changes)
        for family, changes in WORLDS.items()
    }


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
    given = tuner.block(share=0.4, tokens=512, **changes)
    adaptation = tuner.adapted(world, given)
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
    adaptation = tuner.adapted(world, tuner.block(0.4, "faithful", targets=["q_proj", target]))
    _stir(adaptation)
    choice = adaptation.settle()
    assert abs(choice.before_rounding - 0.4) < 0.1
    adaptation.finish()


@pytest.mark.parametrize("share", [0.1, 0.2, 0.3, 0.4, 0.5])
@pytest.mark.parametrize("mode", ["global", "faithful"])
def test_the_budget_is_exact_to_half_a_unit(share: float, mode: str, world: Path) -> None:
    targets = fakes.TARGETS if mode == "faithful" else None
    adaptation = tuner.adapted(world, tuner.block(share=share, mode=mode, targets=targets))
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
    adaptation = tuner.adapted(world, tuner.block(share=0.4, mode=mode))
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
    adaptation = tuner.adapted(world, tuner.block(tokens=64 * 118))
    adaptation.before(adaptation.model, 77 / 118)
    assert adaptation.model.base_model._step == (77, 118)


def test_uniform_keeps_as_many_groups_as_the_gates_do(world: Path) -> None:
    kept = []
    for groups_mu in (5.0, -5.0):
        adaptation = tuner.adapted(world, tuner.block(share=0.3, mode="uniform"))
        for layer in adaptation.objective.layers:
            if layer.part == "groups":
                layer.gates("default")[0].data[0] = groups_mu
        kept.append({len(groups) for groups in adaptation.settle().kept.groups})
    assert kept == [{2}, {1}]


def test_settled_gates_are_zero_and_one(world: Path) -> None:
    adaptation = tuner.adapted(world, tuner.block(share=0.3))
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
    adaptation = tuner.adapted(world, tuner.block(mode="faithful", targets=fakes.TARGETS))
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
    given = tuner.block(share=0.3, multiples={"ffn": 16, "groups": 2})
    adaptation = tuner.adapted(world, given)
    _stir(adaptation)
    choice = adaptation.settle()
    assert {len(kept) % 16 for kept in choice.kept.ffn} == {0}
    assert {len(kept) for kept in choice.kept.groups} == {2}
    assert choice.after_rounding < choice.before_rounding


def test_whole_layers_can_go(world: Path) -> None:
    adaptation = tuner.adapted(world, tuner.block(share=0.5, layers=1))
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
    biased = {**tuner.LAYERS, "layers": 4, "attention_bias": True, "mlp_bias": True}
    world = fakes.make_base(tmp_path / "biased", "llama", **biased)
    targets = fakes.TARGETS if mode == "faithful" or rank else None
    given = tuner.block(0.5, mode, rank, targets, layers=1)
    adaptation = tuner.adapted(world, given)
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
    adaptation = tuner.adapted(world, tuner.block(share=0.5))
    _stir(adaptation)
    adaptation.settle()
    layer = adaptation.objective.layers[0]
    monkeypatch.setattr(layer, "_gates", lambda _: (torch.ones(layer.in_features), None))
    with pytest.raises(RuntimeError, match="not one function"):
        adaptation.finish()


@pytest.mark.parametrize("mode", ["global", "faithful"])
def test_after_the_last_step_the_cut_is_evaluated(mode: str, world: Path) -> None:
    targets = fakes.TARGETS if mode == "faithful" else None
    given = tuner.block(mode=mode, targets=targets)
    adaptation = tuner.adapted(world, given)
    fakes.fit(world, adaptation, given)
    shown = fakes.logits(adaptation.model)
    gates = [layer.gates("default")[0].detach().clone() for layer in adaptation.objective.layers]
    assert not all(set(found.tolist()) <= {0.0, 1.0} for found in gates)
    adaptation.settle()
    assert torch.equal(fakes.logits(adaptation.model), shown)
    for layer, found in zip(adaptation.objective.layers, gates, strict=True):
        layer.gates("default")[0].data.copy_(found)
    assert not torch.equal(fakes.logits(adaptation.model), shown)


def test_the_penalty_is_part_of_the_loss_in_faithful_only(world: Path) -> None:
    seen = {}
    for mode, targets in (("faithful", fakes.TARGETS), ("global", None)):
        adaptation = tuner.adapted(world, tuner.block(mode=mode, targets=targets))
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
        tuner.adapted(world, tuner.block(**changes))


def test_a_quantised_base_is_refused(world: Path) -> None:
    given = tuner.block()
    model = tiny_model(**tuner.LAYERS)
    model.config.quantization_config = {"quant_method": "lowbit"}
    with pytest.raises(UserError, match="quantised; a cut needs the dense weights"):
        wrap_of("finegates")(model, fakes.context(world, given))
