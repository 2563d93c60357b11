"""Unstructured and 2:4 masks: the pattern is exact, the least important weights go, in the decoder alone."""

from __future__ import annotations

import pytest
import torch
import training_fakes as fakes
from hypothesis import given
from hypothesis import strategies as st
from prune_fakes import batches

from stages.adapt.prune import calibration, masks
from stages.common.errors import UserError

UP = "model.layers.0.mlp.up_proj"


@given(st.integers(0, 2**31), st.integers(1, 5), st.integers(1, 6))
def test_two_of_every_four_along_the_input_stay_and_they_are_the_best(
    seed: int, outputs: int, blocks: int
) -> None:
    score_OI = torch.rand(outputs, 4 * blocks, generator=torch.Generator().manual_seed(seed)).round(
        decimals=1
    )
    kept_OB4 = masks.two_four(score_OI).view(outputs, blocks, 4)
    assert bool((kept_OB4.sum(-1) == 2).all())
    score_OB4 = score_OI.view(outputs, blocks, 4)
    worst_kept = score_OB4.masked_fill(~kept_OB4, 2.0).amin(-1)
    assert bool((worst_kept >= score_OB4.masked_fill(kept_OB4, -1.0).amax(-1)).all())


def test_a_known_mask() -> None:
    score_OI = torch.tensor([[1.0, 2.0, 3.0, 4.0], [40.0, 10.0, 20.0, 30.0]])
    assert masks.two_four(score_OI).tolist() == [[False, False, True, True], [True, False, False, True]]
    assert masks.per_row(0.25)(score_OI).tolist() == [[False, True, True, True], [True, False, True, True]]
    assert masks.per_layer(0.5)(score_OI).tolist() == [[False] * 4, [True] * 4]


def test_inputs_that_are_no_fours_are_refused() -> None:
    with pytest.raises(UserError, match="multiples of 4; a layer has 6"):
        masks.two_four(torch.ones(2, 6))


def test_wanda_weighs_by_what_comes_in() -> None:
    model = fakes.tiny_model().eval()
    activations = calibration.collect(model, batches(2))
    weight_OI = model.get_submodule(UP).weight.detach()
    score_OI = masks.wanda(activations)(UP, weight_OI)
    norm_I = activations.squares[UP].sqrt()
    assert float(score_OI[2, 7]) == pytest.approx(abs(float(weight_OI[2, 7])) * float(norm_I[7]))
    torch.testing.assert_close(masks.magnitude(UP, weight_OI), weight_OI.double().abs())


@pytest.mark.parametrize(
    ("pattern", "share"), [(masks.per_row(0.25), 0.25), (masks.per_layer(0.25), 0.25), (masks.two_four, 0.5)]
)
def test_masks_zero_their_share_of_the_decoder_and_nothing_else(pattern: masks.Pattern, share: float) -> None:
    model = fakes.tiny_model(tie_word_embeddings=False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert masks.apply(model, masks.magnitude, pattern) == pytest.approx(share)
    for name, value in model.state_dict().items():
        linear = name.endswith("proj.weight")
        assert float((value == 0).float().mean()) == pytest.approx(share) or not linear
        left = value != 0
        assert torch.equal(value[left], before[name][left])
        assert linear or torch.equal(value, before[name])
