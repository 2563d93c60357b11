"""Budget: exact share, floors, rounding, order of the scores, uniform widths, whole layers."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from stages.adapt.shrink.budget import choose
from stages.adapt.shrink.units import FFN, GROUPS, PARTS, Kept, LayerUnits, Scores, Units
from stages.common.errors import UserError


@dataclass(frozen=True)
class Multiples:
    ffn: int = 1
    groups: int = 1


@dataclass(frozen=True)
class Settings:
    share: float = 0.3
    mode: str = "global"
    multiples: Multiples = field(default_factory=Multiples)
    layers: int = 0


def random_scores(units: Units, seed: int = 0, levels: int = 0) -> Scores:
    """Standard normal; with `levels`, so many different values, hence ties."""
    generator = torch.Generator().manual_seed(seed)

    def drawn(count: int) -> torch.Tensor:
        if levels:
            return torch.randint(levels, (count,), generator=generator).float()
        return torch.randn(count, generator=generator)

    return Scores(
        tuple(drawn(layer.ffn) for layer in units.layers),
        tuple(drawn(layer.groups) for layer in units.layers),
    )


def alike(
    layers: int = 4, ffn: int = 24, groups: int = 4, ffn_cost: int = 30, group_cost: int = 200
) -> Units:
    return Units((LayerUnits(ffn, ffn_cost, groups, group_cost),) * layers)


@st.composite
def cases(draw: st.DrawFn, mode: str = "global") -> tuple[Units, Scores, Settings]:
    costs = draw(st.integers(1, 50)), draw(st.integers(1, 400))
    if mode == "uniform":
        sizes = [(draw(st.integers(1, 40)), draw(st.integers(1, 6)))] * draw(st.integers(1, 4))
    else:
        sizes = draw(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 6)), min_size=1, max_size=4))
    layers = tuple(LayerUnits(ffn, costs[0], groups, costs[1]) for ffn, groups in sizes)
    parts = draw(st.sampled_from([frozenset(PARTS), frozenset({FFN}), frozenset({GROUPS})]))
    units = Units(layers, parts)
    multiples = Multiples(draw(st.sampled_from([1, 4, 8])), draw(st.sampled_from([1, 2])))
    settings = Settings(draw(st.floats(0, 0.9)), mode, multiples)
    return units, random_scores(units, draw(st.integers(0, 99)), draw(st.sampled_from([0, 3]))), settings


def chosen(case: tuple[Units, Scores, Settings]):
    try:
        return choose(*case)
    except UserError as error:
        assume("would empty" not in str(error))
        raise


def floor(units: Units, settings: Settings, part: str, at: int) -> int:
    count = units.layers[at].count(part)
    return min(getattr(settings.multiples, part), count) if part in units.parts else count


@given(cases())
def test_the_removed_share_is_the_nearest_to_the_asked_one(case: tuple[Units, Scores, Settings]) -> None:
    units, _, settings = case
    choice = chosen(case)
    missed = abs(choice.before_rounding - settings.share) * units.gateable
    costs = {layer.cost(part) for layer in units.layers for part in units.parts}
    assert missed <= max(costs) / 2 + 1e-6
    if settings.multiples == Multiples() and missed > min(costs) / 2 + 1e-6:
        # Rounding did nothing here, so what was kept tells: no small unit was left to come nearer with.
        assert choice.before_rounding == choice.after_rounding
        for part, at in product(units.parts, range(len(units.layers))):
            if units.layers[at].cost(part) == min(costs):
                assert len(choice.kept.of(part)[at]) == floor(units, settings, part, at)


@given(cases())
def test_floors_hold_and_rounding_only_opens_again(case: tuple[Units, Scores, Settings]) -> None:
    units, _, settings = case
    choice = chosen(case)
    choice.kept.check(units)
    assert units.removed(choice.kept) / units.gateable == pytest.approx(choice.after_rounding)
    assert choice.after_rounding <= choice.before_rounding
    for part, (at, layer) in product(PARTS, enumerate(units.layers)):
        kept = len(choice.kept.of(part)[at])
        assert kept >= floor(units, settings, part, at)
        if part in units.parts:
            assert kept % getattr(settings.multiples, part) == 0 or kept == layer.count(part)
        else:
            assert kept == layer.count(part)


@given(cases())
def test_no_closed_unit_is_better_than_an_open_one_of_its_layer(case: tuple[Units, Scores, Settings]) -> None:
    units, scores, _ = case
    kept = chosen(case).kept
    for part, at in product(PARTS, range(len(units.layers))):
        values, inside = scores.of(part)[at].tolist(), set(kept.of(part)[at])
        worst = min(values[index] for index in inside)
        assert all(value <= worst for index, value in enumerate(values) if index not in inside)


@given(cases(), st.integers(0, 3), st.integers(0, 39))
def test_raising_a_score_never_closes_the_unit(
    case: tuple[Units, Scores, Settings], layer: int, unit: int
) -> None:
    units, scores, settings = case
    layer %= len(units.layers)
    unit %= units.layers[layer].ffn
    before = chosen(case)
    higher = list(scores.ffn)
    higher[layer] = higher[layer].clone()
    higher[layer][unit] += 1
    after = choose(units, Scores(tuple(higher), scores.groups), settings)
    assert unit not in before.kept.ffn[layer] or unit in after.kept.ffn[layer]


@given(cases("uniform"))
def test_uniform_gives_equal_widths_nearest_to_the_budget(case: tuple[Units, Scores, Settings]) -> None:
    units, _, settings = case
    choice = chosen(case)
    widths = {
        (len(ffn), len(groups)) for ffn, groups in zip(choice.kept.ffn, choice.kept.groups, strict=True)
    }
    assert len(widths) == 1
    # No pair of widths that the floors and the multiple of groups allow is nearer by more than half a step.
    layer, count = units.layers[0], len(units.layers)
    ffn = range(floor(units, settings, FFN, 0), layer.ffn + 1) if FFN in units.parts else [layer.ffn]
    step = settings.multiples.groups
    groups = [g for g in range(1, layer.groups + 1) if g % step == 0 or g == layer.groups]
    groups = groups if GROUPS in units.parts else [layer.groups]
    miss = min(
        abs(
            count
            * (
                (layer.ffn - f) * layer.ffn_cost * (FFN in units.parts)
                + (layer.groups - g) * layer.group_cost * (GROUPS in units.parts)
            )
            - settings.share * units.gateable
        )
        for f, g in product(ffn, groups)
    )
    half = count * layer.ffn_cost / 2 if FFN in units.parts else 0
    assert abs(choice.before_rounding - settings.share) * units.gateable <= max(miss, half) + 1e-6


def test_known_values_of_global() -> None:
    # 2 layers of 4 neurons (cost 10) and 2 groups (cost 25): 180 parameters, a third is 60.
    units = alike(2, 4, 2, 10, 25)
    scores = Scores(
        (torch.tensor([0.1, 0.9, 0.8, 0.2]), torch.tensor([0.95, 0.3, 0.85, 0.7])),
        (torch.tensor([0.15, 0.5]), torch.tensor([0.35, 0.6])),
    )
    choice = choose(units, scores, Settings(1 / 3))
    # In order: neuron .1 (10), group .15 (35), neuron .2 (45), neuron .3 (55); group .35 would overshoot;
    # neuron .7 would take it to 65, not nearer than 55, but not farther either.
    assert choice.kept == Kept((0, 1), ((1, 2), (0, 2)), ((1,), (0, 1)))
    assert choice.before_rounding == choice.after_rounding == 65 / 180


def test_a_group_may_overshoot_when_no_neuron_is_left() -> None:
    # One of two neurons may go (1), one of three groups costs 10: 11 is nearer to 8 than 1 is.
    units = Units((LayerUnits(2, 1, 3, 10),))
    scores = Scores((torch.tensor([0.1, 0.2]),), (torch.tensor([0.3, 0.5, 0.4]),))
    choice = choose(units, scores, Settings(8 / 32))
    assert choice.kept == Kept((0,), ((1,),), ((1, 2),))
    assert choice.before_rounding == 11 / 32


def test_what_rounding_would_open_again_is_taken_elsewhere() -> None:
    # All that the first layer's floor of 8 leaves goes, and the rest comes from the second.
    units = Units((LayerUnits(16, 1, 1, 1),) * 2, frozenset({FFN}))
    scores = Scores((torch.arange(16.0), 100 + torch.arange(16.0)), (torch.ones(1),) * 2)
    choice = choose(units, scores, Settings(0.5, multiples=Multiples(8, 1)))
    assert choice.after_rounding == choice.before_rounding == 0.5
    assert choice.kept.ffn == (tuple(range(8, 16)),) * 2


def test_uniform_takes_numbers_of_groups_that_need_no_rounding() -> None:
    units = alike(3, 60, 5)
    choice = choose(units, random_scores(units), Settings(0.4, "uniform", Multiples(1, 2)))
    assert {len(groups) for groups in choice.kept.groups} <= {2, 4, 5}
    assert choice.before_rounding == choice.after_rounding == pytest.approx(0.4, abs=0.01)


def test_rounding_opens_the_best_closed_units() -> None:
    units = Units((LayerUnits(10, 1, 1, 1),))
    scores = Scores((torch.arange(10.0),), (torch.tensor([99.0]),))
    choice = choose(units, scores, Settings(5 / 11, multiples=Multiples(4, 1)))
    assert choice.kept.ffn == (tuple(range(2, 10)),)
    assert (choice.before_rounding, choice.after_rounding) == (5 / 11, 2 / 11)


def test_whole_layers_go_first_and_count_in_the_share() -> None:
    units = alike(5)
    scores = random_scores(units)
    low = Scores((*scores.ffn[:3], scores.ffn[3] - 100, scores.ffn[4] - 1000), scores.groups)
    choice = choose(units, low, Settings(0.3, layers=1))
    assert choice.kept.layers == (0, 1, 2, 4)
    assert choice.kept.ffn[3] == choice.kept.groups[3] == ()
    assert choice.before_rounding == pytest.approx(0.3, abs=15 / units.gateable)
    uniform = choose(units, low, Settings(0.3, "uniform", layers=1))
    assert {len(uniform.kept.ffn[at]) for at in uniform.kept.layers} != {0}
    assert uniform.before_rounding == pytest.approx(0.3, abs=4 * 15 / units.gateable)


def test_uniform_takes_only_numbers_of_groups_that_the_stock_class_has() -> None:
    units = Units(alike(3, 60, 4).layers, uniform_groups=frozenset({1, 2, 4}))
    choice = choose(units, random_scores(units), Settings(0.25, "uniform"))
    assert {len(groups) for groups in choice.kept.groups} <= {1, 2, 4}
    assert choice.before_rounding == pytest.approx(0.25, abs=0.5 * 3 * 30 / units.gateable)
    free = choose(alike(3, 60, 4), random_scores(units), Settings(0.25, "uniform"))
    assert {len(groups) for groups in free.kept.groups} == {3}


@pytest.mark.parametrize("mode", ["global", "uniform", "faithful"])
def test_a_budget_that_would_empty_a_layer_names_the_floor(mode: str) -> None:
    units = alike(2, 16, 2)
    with pytest.raises(
        UserError, match=r"share: 0\.9 .*at least 8 FFN neurons and 1 KV groups.*at most 0\.5"
    ):
        choose(units, random_scores(units), Settings(0.9, mode, Multiples(8, 1)))


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        (Settings(-0.1), r"share: -0\.1, must be within 0 and 0\.9"),
        (Settings(0.95), "must be within"),
        (Settings(float("nan")), "must be within"),
        (Settings(0.1, layers=1), r"1 whole layers are 0\.250 .* more than the share of 0\.1"),
        (Settings(0.9, layers=3), "first and the last one stay, so at most 2"),
    ],
)
def test_impossible_settings_are_refused(settings: Settings, what: str) -> None:
    units = alike()
    with pytest.raises(UserError, match=what):
        choose(units, random_scores(units), settings)


def test_scores_must_be_finite_and_fit() -> None:
    units = alike(2)
    scores = random_scores(units)
    broken = Scores((scores.ffn[0], scores.ffn[1] * float("nan")), scores.groups)
    with pytest.raises(UserError, match="ffn of layer 1: NaN"):
        choose(units, broken, Settings())
    with pytest.raises(ValueError, match="not those of the units"):
        choose(units, Scores(scores.ffn[:1], scores.groups), Settings())


def test_nothing_asked_nothing_removed() -> None:
    units = alike(3)
    choice = choose(units, random_scores(units), Settings(0.0, multiples=Multiples(8, 1)))
    assert choice.kept == Kept.all(units)
    assert choice.before_rounding == choice.after_rounding == 0


def test_kept_units_as_json() -> None:
    kept = Kept((0, 2), ((0, 1, 2, 5), (), (7,)), ((1,), (), (0, 1)))
    assert kept.to_json() == [
        {"layer": 0, "ffn": [[0, 2], [5, 5]], "groups": [[1, 1]]},
        {"layer": 2, "ffn": [[7, 7]], "groups": [[0, 1]]},
    ]


@pytest.mark.parametrize(
    "kept",
    [
        Kept((0,), ((0, 1),), ((0,),)),
        Kept((), ((), ()), ((), ())),
        Kept((0, 1), ((1, 0), (0,)), ((0,), (0,))),
        Kept((0, 1), ((0,), (24,)), ((0,), (0,))),
        Kept((0, 1), ((0,), ()), ((0,), (0,))),
        Kept((0,), ((0,), (1,)), ((0,), ())),
    ],
)
def test_a_selection_that_cannot_be_is_refused(kept: Kept) -> None:
    with pytest.raises(ValueError, match=r"kept|cut whole"):
        kept.check(alike(2))
