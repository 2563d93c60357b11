"""FineGates in a training loop of one's own: the page's snippet ends in a smaller model."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from finegates_fakes import ALL, IDS, base, logits, wrapped
from peft import PeftModel

from stages.adapt.shrink.slicing import apply_mask, cut, verify
from stages.adapt.shrink.units import Units
from stages.common.errors import UserError
from stages.common.params.adaptation import Multiples

PAGE = Path(__file__).parents[4] / "docs" / "finegates.md"
KINDS = {
    "global": "",
    "uniform": 'mode="uniform", ',
    "faithful": 'mode="faithful", ',
    "beside": f"r=2, target_modules={ALL}, ",
}


def stirred(**changes: Any) -> Any:
    """Gates of random values."""
    model = wrapped(**changes)
    generator = torch.Generator().manual_seed(0)
    for name, value in model.named_parameters():
        if "finegates_" in name:
            value.data += torch.randn(value.shape, generator=generator)
    return model


@pytest.mark.parametrize("kind", KINDS)
def test_the_snippet_of_the_page(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code = re.search(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert code is not None
    batches = [{"input_ids": IDS, "labels": IDS}] * 12
    found: dict[str, Any] = {"base": base(), "batches": batches}
    exec(code[1].replace("FineGatesConfig(", f"FineGatesConfig({KINDS[kind]}"), found)
    choice, small, units = found["choice"], found["small"], Units.of(base().config)
    step = sum(layer.ffn_cost for layer in units.layers) if kind == "uniform" else units.layers[0].ffn_cost
    assert abs(choice.before_rounding - 0.3) * units.gateable <= step / 2 + 1e-6
    freed = base().num_parameters() - small.num_parameters()
    assert freed == units.removed(choice.kept) == round(choice.after_rounding * units.gateable)
    verify(found["merged"], small, IDS)
    again = PeftModel.from_pretrained(base(), tmp_path / "gates")
    torch.testing.assert_close(logits(small), logits(again), rtol=0, atol=1e-5)
    assert not torch.allclose(logits(again), logits(base()), atol=1e-3)


@pytest.mark.parametrize("mode", ["global", "faithful"])
def test_settled_gates_learn_no_more(mode: str) -> None:
    model = stirred(mode=mode, r=2, target_modules=ALL)
    tuner = model.base_model
    tuner.set_step(5, 10)
    model.train()(input_ids=IDS, labels=IDS).loss.backward()
    choice = tuner.settle()
    assert tuner.settle() is choice
    shown = logits(model)
    with torch.no_grad():
        assert torch.equal(model.train()(input_ids=IDS, use_cache=False).logits, shown)
    model(input_ids=IDS, labels=IDS).loss.backward()
    gates = [value for layer in tuner.objective().layers for value in layer.gates("default")]
    assert all(value.grad is None and not value.requires_grad for value in gates)
    beside = [value for name, value in model.named_parameters() if "finegates_B" in name]
    assert all(value.grad is not None and bool(value.grad.any()) for value in beside)


def test_picked_gates_keep_their_parameters() -> None:
    model = stirred()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    choice = model.base_model.pick()
    shown = logits(model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.base_model.settle() == choice
    assert torch.equal(logits(model), shown)


def test_another_share_and_other_multiples() -> None:
    model = stirred()
    choice = model.base_model.settle(share=0.4, multiples=Multiples(ffn=16, groups=2))
    assert choice.asked == 0.4
    assert {len(kept) % 16 for kept in choice.kept.ffn} == {0}
    masked = base()
    apply_mask(masked, choice.kept)
    verify(masked, cut(base(), choice.kept), IDS)
    assert torch.equal(logits(model), logits(masked))


def test_only_the_gated_part_goes() -> None:
    model = stirred(share=0.2, target_modules=["down_proj"])
    choice = model.base_model.settle(multiples=Multiples(ffn=1))
    assert {len(kept) for kept in choice.kept.groups} == {2}
    units = Units.of(base().config, ["ffn"])
    assert units.removed(choice.kept) / units.gateable == pytest.approx(0.2, abs=0.01)


@pytest.mark.parametrize(
    ("config", "asked", "match"),
    [
        ({}, {"share": 0.95}, "share: 0.95, must be within"),
        ({"target_modules": ["down_proj"]}, {"layers": 1}, "target o_proj too, or set layers to 0"),
        ({"mode": "faithful", "target_modules": ["q_proj"]}, {}, "gates on q_proj close no unit"),
    ],
)
def test_what_cannot_be_cut_is_refused(config: Any, asked: Any, match: str) -> None:
    with pytest.raises(UserError, match=match):
        stirred(**config).base_model.settle(**asked)
