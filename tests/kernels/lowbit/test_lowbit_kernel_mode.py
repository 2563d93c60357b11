"""Mode `kernel` of LowbitLinear. Here the operations run as their CPU references: what is tested is the way
there.
"""

from __future__ import annotations

import pytest
import torch
from lowbit import higgs, ternary, uniform
from lowbit.errors import LowbitError
from lowbit.linear import LowbitLinear, set_mode
from lowbit.ops import common
from lowbit.weight import PackedWeight


def _layer(packed: PackedWeight) -> LowbitLinear:
    bias = torch.randn(packed.shape[0]).to(torch.bfloat16)
    return LowbitLinear.from_packed(packed, getattr(packed, "seed", 0), bias, "layer")


@pytest.fixture
def able(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU that passes for a device with kernels."""
    monkeypatch.setattr(common, "runs_on", lambda _: True)


def test_cpu_is_unchanged_and_says_so() -> None:
    layer = _layer(higgs.quantize(torch.randn(8, 64)))
    assert "runs=cached" in repr(layer)
    layer.set_mode("kernel")
    with pytest.raises(LowbitError, match="layer: mode `kernel` needs a CUDA or ROCm device"):
        layer(torch.randn(2, 64, dtype=torch.bfloat16))


def test_auto_picks_the_kernel_on_a_device() -> None:
    layer = LowbitLinear(higgs.quantize(torch.randn(8, 64)).spec(), 0, False, device="meta")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(common, "runs_on", lambda _: True)
        assert layer.runs == "kernel"
        assert "runs=kernel" in repr(layer)
        patch.setattr(common, "runs_on", lambda _: False)
        assert layer.runs == "packed"


@pytest.mark.usefixtures("able")
@pytest.mark.parametrize("width", [64, 330])
def test_higgs_equals_the_dense_layer_up_to_rounding(width: int) -> None:
    layer = _layer(higgs.quantize(torch.randn(24, width), seed=3))
    x = torch.randn(2, 3, width).to(torch.bfloat16)
    dense = layer(x).float()
    layer.set_mode("kernel")
    found = layer(x).float()
    assert found.shape == (2, 3, 24)
    assert float((found - dense).norm() / dense.norm()) < 0.01


@pytest.mark.usefixtures("able")
def test_ternary_quantises_its_input() -> None:
    layer = _layer(ternary.quantize(torch.randn(24, 100)))
    x = torch.randn(5, 100).half()
    layer.bias = torch.nn.Parameter(layer.bias.half(), requires_grad=False)
    dense = layer(x).float()
    assert set_mode(layer, "kernel") == 1
    assert 0 < float((layer(x).float() - dense).norm() / dense.norm()) < 0.02


@pytest.mark.usefixtures("able")
def test_int8_layers_and_float32_inputs_run_packed() -> None:
    eight = _layer(uniform.quantize(torch.randn(8, 64)))
    eight.set_mode("kernel")
    assert eight.runs == "packed"
    layer = _layer(higgs.quantize(torch.randn(8, 64)))
    layer.bias = None
    layer.mode = "kernel"
    with pytest.raises(LowbitError, match=r"layer: input is torch\.float32"):
        layer(torch.randn(2, 64))


@pytest.mark.usefixtures("able")
def test_moving_or_reloading_forgets_the_layout() -> None:
    layer = _layer(higgs.quantize(torch.randn(8, 64)))
    layer.set_mode("kernel")
    x = torch.randn(2, 64).to(torch.bfloat16)
    layer(x)
    assert layer._operand is not None
    assert [name for name in layer.state_dict() if "operand" in name] == []
    layer.load_state_dict(layer.state_dict())
    assert layer._operand is None
    layer(x.half() if layer.bias is None else x)
    layer.to(torch.float32)
    assert layer._operand is None
