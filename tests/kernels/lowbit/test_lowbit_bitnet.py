"""BitNet checkpoints of Transformers: the same function on both sides, whichever way the scale is meant."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lowbit
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lowbit import bitlinear, bitnet, packing
from lowbit.errors import LowbitError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModelForCausalLM
from transformers.integrations import bitnet as theirs

IDS = torch.arange(24).view(2, 12)
CLASSES = ("bitlinear", "autobitlinear")
UP, Q = "model.layers.0.mlp.up_proj", "model.layers.1.self_attn.q_proj"


@pytest.fixture(autouse=True)
def eager() -> Iterator[None]:
    """Transformers compiles its functions, which takes minutes here and changes nothing."""
    with torch.compiler.set_stance("force_eager"):
        yield


def _model(folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()


@torch.no_grad()
def _logits(model: Any) -> torch.Tensor:
    return model(IDS).logits


def _packed(source: Path, target: Path, dtype: torch.dtype = torch.float32, **options: Any) -> Path:
    model = _model(source)
    bitlinear.convert(model, **options)
    with torch.no_grad():
        for layer in bitlinear.layers(model).values():
            if layer.norm_weight is not None:
                layer.norm_weight.add_(torch.linspace(0, 0.5, layer.in_features))
    model.to(dtype)
    bitlinear.pack(model).save_pretrained(target)
    return target


@pytest.fixture(scope="module")
def ours(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """lowbit checkpoints in float32: plain, with norms, with a layer that stays dense."""
    root = tmp_path_factory.mktemp("bitnet")
    every = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    return {
        "plain": _packed(checkpoint, root / "plain"),
        "normed": _packed(checkpoint, root / "normed", norm=every, eps=1e-4),
        "mixed": _packed(checkpoint, root / "mixed", keep=["1.mlp.down_proj"], level="lsq"),
    }


@pytest.mark.parametrize("linear_class", CLASSES)
@pytest.mark.parametrize("which", ["plain", "normed", "mixed"])
def test_transformers_computes_what_lowbit_computes(
    which: str, linear_class: str, ours: dict[str, Path], tmp_path: Path
) -> None:
    layers = bitnet.write_folder(ours[which], tmp_path / "theirs", linear_class=linear_class)
    assert len(layers) == (13 if which == "mixed" else 14)
    foreign, own = _model(tmp_path / "theirs"), _model(ours[which])
    modules = {type(module) for module in foreign.modules()}
    assert (theirs.BitLinear if linear_class == "bitlinear" else theirs.AutoBitLinear) in modules
    if which == "mixed":
        assert type(foreign.model.layers[1].mlp.down_proj) is nn.Linear
    # One token in a thousand lands on another side of a rounding after float32 noise of other layers.
    assert torch.allclose(_logits(foreign), _logits(own), rtol=1e-3, atol=2e-2 * float(_logits(own).std()))
    x = torch.randn(5, 64, generator=torch.Generator().manual_seed(0))
    for name in (UP, Q):
        with torch.no_grad():
            there, here = foreign.get_submodule(name)(x), own.get_submodule(name)(x)
        assert torch.allclose(there, here, rtol=1e-5, atol=1e-5 * float(here.abs().max()))

    back = bitnet.read_folder(tmp_path / "theirs", tmp_path / "back")
    assert back == layers
    before, after = (load_file(folder / "model.safetensors") for folder in (ours[which], tmp_path / "back"))
    assert set(before) == set(after)
    for name, tensor in before.items():
        assert tensor.dtype == after[name].dtype, name
        if linear_class == "bitlinear" or name.endswith("bias"):
            assert torch.allclose(tensor, after[name], rtol=2e-7, atol=0), name
        else:
            assert torch.equal(tensor, after[name]), name
    assert torch.allclose(_logits(_model(tmp_path / "back")), _logits(own), rtol=1e-3, atol=1e-2)


def test_what_transformers_trains_online_is_the_same_layer() -> None:
    linear = nn.Linear(64, 32)
    layer = bitlinear.BitLinear.from_linear(linear, norm_eps=1e-6)
    auto = theirs.AutoBitLinear(64, 32, online_quant=True, use_rms_norm=True)
    auto.load_state_dict({**linear.state_dict(), "rms_norm.weight": torch.ones(64)})
    x = torch.randn(7, 64, generator=torch.Generator().manual_seed(1))
    mine, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    a, b = layer(mine), auto(other)
    assert torch.allclose(a, b, rtol=1e-4, atol=1e-5)
    a.square().sum().backward()
    b.square().sum().backward()
    assert torch.allclose(layer.weight.grad, auto.weight.grad, rtol=1e-3, atol=1e-4)
    assert torch.allclose(mine.grad, other.grad, rtol=1e-3, atol=1e-4)


def _foreign(source: Path, target: Path, scales: str, **declared: Any) -> Path:
    """A checkpoint as its own makers write it: bfloat16, absmean levels."""
    shutil.copytree(source, target)
    tensors = load_file(target / "model.safetensors")
    for name in [name for name in tensors if name.endswith("proj.weight")]:
        weight = tensors[name].float()
        gamma = weight.abs().mean().bfloat16()
        codes = (weight / gamma.float()).round().clamp(-1, 1)
        tensors[name] = theirs.pack_weights(codes)
        scale = gamma if scales == "multiply" else (1 / gamma.float()).bfloat16()
        tensors[f"{name}_scale"] = scale.view(1)
    save_file(tensors, target / "model.safetensors", {"format": "pt"})
    config = json.loads((target / "config.json").read_text())
    config["quantization_config"] = {
        "quant_method": "bitnet",
        "modules_to_not_convert": ["lm_head"],
        **declared,
    }
    (target / "config.json").write_text(json.dumps(config))
    return target


def _distance(own: Path, foreign: Path, linear_class: str) -> float:
    """Greatest relative difference between lowbit's and Transformers' layers, float32, with a bias and
    without.
    """
    stored = {name: tensor.float() for name, tensor in load_file(foreign / "model.safetensors").items()}
    model = _model(own)
    found = []
    for name, bias in ((UP, False), (Q, True)):
        ours = model.get_submodule(name)
        kind = theirs.BitLinear if linear_class == "bitlinear" else theirs.AutoBitLinear
        there = kind(ours.in_features, ours.out_features, bias, dtype=torch.float32)
        state = {part: stored[f"{name}.{part}"] for part in there.state_dict()}
        packed = state["weight"].to(torch.uint8)
        state["weight"] = (
            packed if linear_class == "bitlinear" else theirs.unpack_weights(packed, torch.float32)
        )
        there.load_state_dict(state)
        x = torch.randn(9, ours.in_features, generator=torch.Generator().manual_seed(3))
        with torch.no_grad():
            found.append(float((ours(x) - there(x)).norm() / there(x).norm()))
    return max(found)


AUTO = {"linear_class": "autobitlinear", "quantization_mode": "offline"}


@pytest.mark.parametrize(
    ("scales", "declared"), [("divide", {"linear_class": "bitlinear"}), ("multiply", AUTO)]
)
def test_the_trap_of_the_scale(
    scales: Any, declared: dict[str, str], checkpoint: Path, tmp_path: Path
) -> None:
    folder = _foreign(checkpoint, tmp_path / "theirs", scales, **declared)
    bitnet.read_folder(folder, tmp_path / "right")
    level = load_file(tmp_path / "right" / "model.safetensors")[f"{UP}.weight_scales"]
    mean = load_file(checkpoint / "model.safetensors")[f"{UP}.weight"].float().abs().mean()
    assert float(level) == pytest.approx(float(mean), rel=2**-8)
    assert _distance(tmp_path / "right", folder, declared["linear_class"]) < 1e-5

    other = "divide" if scales == "multiply" else "multiply"
    bitnet.read_folder(folder, tmp_path / "wrong", scales=other)
    wrong = load_file(tmp_path / "wrong" / "model.safetensors")[f"{UP}.weight_scales"]
    assert float(wrong) == pytest.approx(1 / float(level))
    assert _distance(tmp_path / "wrong", folder, declared["linear_class"]) > 1

    again = bitnet.write_folder(tmp_path / "right", tmp_path / "again", linear_class=declared["linear_class"])
    assert len(again) == 14
    first, second = (load_file(path / "model.safetensors") for path in (folder, tmp_path / "again"))
    assert set(first) == set(second)
    for name, tensor in first.items():
        assert tensor.dtype == second[name].dtype, name
        assert torch.equal(tensor, second[name]), name


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.floats(2**-10, 2**12, width=16), st.sampled_from([torch.bfloat16, torch.float16]))
def test_short_scales_survive_their_inversion(value: float, dtype: torch.dtype) -> None:
    scale = torch.tensor([value], dtype=dtype)
    for how, level in (("divide", 1 / scale.float()), ("multiply", scale.float())):
        back = bitnet._scale(float(level), how, dtype)  # type: ignore[arg-type]
        assert back.dtype == dtype
        assert torch.equal(back, scale)
    third = torch.tensor([1 / 3])
    assert bitnet._scale(float(third), "multiply", dtype).dtype == torch.float32


def test_spread_codes_are_read_too(checkpoint: Path, tmp_path: Path) -> None:
    folder = _foreign(checkpoint, tmp_path / "theirs", "multiply", **AUTO)
    bitnet.read_folder(folder, tmp_path / "packed")
    tensors = load_file(folder / "model.safetensors")
    for name in [name for name in tensors if name.endswith("proj.weight")]:
        tensors[name] = packing.unpack_quarters(tensors[name]).bfloat16()
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    bitnet.read_folder(folder, tmp_path / "spread")
    packed, spread = (load_file(tmp_path / name / "model.safetensors") for name in ("packed", "spread"))
    assert all(torch.equal(packed[name], spread[name]) for name in packed)
    tensors[f"{UP}.weight"][0, 0] = 0.5
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(LowbitError, match=rf"{UP}\.weight: holds other numbers"):
        bitnet.read_folder(folder, tmp_path / "half")


@pytest.mark.parametrize(
    ("config", "found"),
    [
        ({"quant_method": "bitnet", "linear_class": "bitlinear"}, "divide"),
        ({"quant_method": "bitnet", "linear_class": "bitlinear", "quantization_mode": "offline"}, "divide"),
        ({"quant_method": "bitnet", **AUTO}, "multiply"),
        ({"quant_method": "gptq"}, "quant_method is 'gptq'"),
        ({}, "quant_method is None"),
        ({"quant_method": "bitnet"}, "has no linear_class.*scales='divide'"),
        ({"quant_method": "bitnet", "linear_class": "bitblas"}, "unknown linear_class `bitblas`"),
        ({"quant_method": "bitnet", "linear_class": "autobitlinear"}, "quantization_mode is None"),
        ({"quant_method": "bitnet", **AUTO, "quantization_mode": "online"}, "online stores dense"),
    ],
)
def test_the_convention_is_known_or_refused(config: dict[str, Any], found: str) -> None:
    if found in ("divide", "multiply"):
        assert bitnet.convention(config) == found
    else:
        with pytest.raises(LowbitError, match=found):
            bitnet.convention(config)


def test_damaged_bitnet_checkpoints_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    folder = _foreign(checkpoint, tmp_path / "theirs", "multiply", **AUTO)
    tensors = load_file(folder / "model.safetensors")
    damages: tuple[tuple[dict[str, torch.Tensor | None], str], ...] = (
        ({f"{UP}.weight": torch.full((44, 64), 255, dtype=torch.uint8)}, f"{UP}.weight: two bits are 3"),
        ({f"{UP}.weight": torch.zeros(43, 64, dtype=torch.uint8)}, rf"{UP}.weight: shape \(43, 64\)"),
        ({f"{UP}.weight": None}, f"{UP}.weight: the checkpoint has no such tensor"),
        ({f"{UP}.weight_scale": None}, f"{UP}.weight: is packed, but"),
        ({f"{UP}.weight_scale": torch.tensor([-1.0])}, f"{UP}.weight_scale: .*one positive number"),
        ({f"{UP}.weight_scale": torch.tensor([torch.nan])}, f"{UP}.weight_scale: .*one positive number"),
        ({f"{UP}.weight_scale": torch.ones(176)}, f"{UP}.weight_scale: .*one positive number"),
        ({"lost.weight_scale": torch.ones(1)}, "lost.weight_scale: belongs to no linear layer"),
        ({f"{UP}.rms_norm.weight": torch.ones(64)}, "although use_rms_norm is not set"),
        ({f"{name}_scale": None for name in tensors if name.endswith("proj.weight")}, "is packed, but"),
    )
    for damage, message in damages:
        damaged = {name: tensor for name, tensor in (tensors | damage).items() if tensor is not None}
        save_file(damaged, folder / "model.safetensors", {"format": "pt"})
        with pytest.raises(LowbitError, match=message):
            bitnet.read_folder(folder, tmp_path / "target")
        assert {path.name for path in tmp_path.iterdir()} == {"theirs"}
    with pytest.raises(LowbitError, match="quant_method is None"):
        bitnet.read_folder(checkpoint, tmp_path / "target", scales="divide")
    with pytest.raises(LowbitError, match="scales is `times`"):
        bitnet.read_folder(folder, tmp_path / "target", scales="times")  # type: ignore[arg-type]


def test_what_bitnet_cannot_hold_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    lowbit.quantize_folder(checkpoint, {UP: {"recipe": "int8"}}, tmp_path / "int8")
    lowbit.quantize_folder(checkpoint, "ternary", tmp_path / "ternary")
    _packed(checkpoint, tmp_path / "rows", per="row")
    _packed(checkpoint, tmp_path / "some", norm=["o_proj"])
    for name, message in (
        ("int8", f"{UP}: cannot become a BitNet layer: its kind is `uniform`"),
        ("ternary", "its kind is `ternary`"),
        ("rows", "it has a level per row"),
        ("some", "some layers have a norm"),
    ):
        with pytest.raises(LowbitError, match=message):
            bitnet.write_folder(tmp_path / name, tmp_path / "target")
    with pytest.raises(LowbitError, match="no lowbit checkpoint"):
        bitnet.write_folder(checkpoint, tmp_path / "target")
    with pytest.raises(LowbitError, match="linear_class `linear`"):
        bitnet.write_folder(tmp_path / "rows", tmp_path / "target", linear_class="linear")
    assert not (tmp_path / "target").exists()
