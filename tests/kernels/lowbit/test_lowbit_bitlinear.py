"""BitLinear: the arithmetic of BitNet, its gradients, and packed checkpoints that compute the same bits."""

from __future__ import annotations

import filecmp
import json
import math
from pathlib import Path
from typing import Any

import lowbit
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lowbit import activations, bitlinear, ternary
from lowbit.bitlinear import SUBLN, BitLinear
from lowbit.errors import LowbitError
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F
from transformers import AutoModelForCausalLM

IDS = torch.arange(24).view(2, 12)
LEVELS = ("absmean", "lsq", "lloyd")
ALL = ("q", "k", "v", "o", "gate", "up", "down")
UP = "model.layers.0.mlp.up_proj"


def _random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _model(folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()


@torch.no_grad()
def _logits(model: Any) -> torch.Tensor:
    return model(IDS).logits


def _layer(level: str = "absmean", per: str = "tensor", norm: bool = False, bias: bool = True) -> BitLinear:
    linear = nn.Linear(24, 10, bias)
    with torch.no_grad():
        linear.weight.copy_(_random(10, 24))
    layer = BitLinear.from_linear(linear, level=level, per=per, norm_eps=1e-6 if norm else None)
    if layer.norm_weight is not None:
        with torch.no_grad():
            layer.norm_weight.copy_(1 + 0.1 * _random(24, seed=1))
    return layer


@given(st.integers(1, 4), st.integers(1, 70), st.integers(0, 10**6), st.sampled_from([1e-7, 1e-3, 1.0, 1e4]))
def test_tokens_become_whole_numbers_of_their_own_scale(
    rows: int, width: int, seed: int, size: float
) -> None:
    x = _random(rows, width, seed=seed) * size
    codes, scale = activations.quantize_tokens(x)
    assert torch.equal(codes, codes.round())
    assert codes.abs().max() <= 127
    assert torch.equal(scale[:, 0], 127 / x.abs().amax(1).clamp(min=1e-5))
    if size >= 1e-3:
        assert bool((codes.abs().amax(1) == 127).all())
    assert bool(((codes / scale - x).abs() <= 0.5001 / scale).all())


@given(st.integers(1, 3), st.integers(1, 12), st.integers(1, 300), st.integers(0, 10**6))
def test_the_product_is_exact_arithmetic_of_whole_numbers(
    tokens: int, out: int, width: int, seed: int
) -> None:
    codes, scale = activations.quantize_tokens(_random(tokens, width, seed=seed))
    weight = torch.randint(-1, 2, (out, width), generator=torch.Generator().manual_seed(seed))
    sums = codes.long() @ weight.T
    for level in (torch.tensor([0.03]), _random(out, seed=seed).abs()):
        y = activations.product(codes, scale, weight.float(), level, None, torch.float32)
        assert torch.equal(y, sums / 128 * (level * 128 / scale))
        assert torch.allclose(y, sums * level / scale, rtol=1e-6)
        short = activations.product(codes, scale, weight.float(), level, None, torch.bfloat16)
        assert short.dtype == torch.bfloat16
        assert torch.allclose(short.float(), y, rtol=2**-7)


def test_float16_does_not_overflow() -> None:
    x = torch.full((1, 4096), 3.0, dtype=torch.float16)
    codes, scale = activations.quantize_tokens(x)
    y = activations.product(codes, scale, torch.ones(2, 4096), torch.ones(1), None, torch.float16)
    assert torch.allclose(y.float(), torch.full((1, 2), 3.0 * 4096), rtol=2**-10)


@pytest.mark.parametrize("per", ["tensor", "row"])
@pytest.mark.parametrize("level", LEVELS)
def test_a_fresh_layer_holds_what_the_quantiser_gives(level: str, per: Any) -> None:
    layer = _layer(level, per)
    reference = ternary.quantize(layer.weight, level, per)
    codes, levels = layer.codes()
    assert torch.equal(codes.to(torch.int8), reference.trits)
    assert torch.allclose(levels, reference.scales.float(), rtol=2**-10)
    assert torch.equal(layer.packed().trits, reference.trits)
    assert layer.packed().scales.dtype == torch.float32
    with torch.no_grad():
        layer.weight *= 4
    assert torch.equal(layer.codes()[0], codes)
    assert torch.equal(layer.codes()[1], 4 * levels)


def test_a_better_level_has_a_smaller_error() -> None:
    linear = nn.Linear(512, 256, bias=False)
    with torch.no_grad():
        linear.weight.copy_(_random(256, 512))
    errors = [
        BitLinear.from_linear(linear, level=level).packed().relative_error(linear.weight) for level in LEVELS
    ]
    assert errors == pytest.approx([0.2634, 0.2130, 0.1902], rel=0.01)


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("blend", [0.0, 0.3, 1.0])
def test_gradients_pass_straight_through(blend: float, level: str, norm: bool) -> None:
    layer = _layer(level, norm=norm)
    layer.blend = blend
    x = _random(2, 3, 24, seed=2).requires_grad_()
    upstream = _random(2, 3, 10, seed=3)
    y = layer(x)
    y.backward(upstream)

    # The same by x + lambda sg(q(x) - x), written out.
    z, weight, bias = (t.detach().clone().requires_grad_() for t in (x, layer.weight, layer.bias))
    gain = layer.norm_weight.detach().clone().requires_grad_() if norm else None
    inner = z if gain is None else z * torch.rsqrt(z.square().mean(-1, keepdim=True) + 1e-6) * gain
    scale = 127 / inner.detach().abs().amax(-1, keepdim=True)
    inner = inner + blend * ((inner * scale).round() / scale - inner).detach()
    codes, levels = layer.codes()
    blended = weight + blend * (codes * levels[:, None] - weight).detach()
    expected = F.linear(inner, blended, bias)
    expected.backward(upstream)
    assert torch.allclose(y, expected, atol=1e-5)
    pairs = [(x.grad, z.grad), (layer.weight.grad, weight.grad), (layer.bias.grad, bias.grad)]
    if gain is not None and layer.norm_weight is not None:
        pairs.append((layer.norm_weight.grad, gain.grad))
    for ours, theirs in pairs:
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-5)


@given(st.floats(0, 1), st.integers(0, 1000))
def test_the_blend_goes_evenly_from_dense_to_quantised(amount: float, seed: int) -> None:
    x, value = _random(5, seed=seed), _random(5, seed=seed + 1)
    assert torch.equal(activations.blended(x, value, 0.0), x)
    assert torch.equal(activations.blended(x, value, 1.0), value)
    assert torch.allclose(activations.blended(x, value, amount), x + amount * (value - x), atol=1e-6)


def test_at_blend_zero_the_model_is_its_parent(checkpoint: Path) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        model = _model(checkpoint, dtype)
        before = _logits(model)
        names = bitlinear.convert(model, level="lloyd")
        assert len(names) == bitlinear.set_blend(model, 0) == 14
        assert torch.equal(_logits(model), before)
        bitlinear.set_blend(model, 0.5)
        half = _logits(model)
        bitlinear.set_blend(model, 1)
        assert not torch.equal(half, before)
        assert not torch.equal(_logits(model), half)


def test_convert_keeps_and_norms_what_it_is_told(checkpoint: Path) -> None:
    model = _model(checkpoint)
    kept = ["1.mlp.down_proj", "model.layers.0.self_attn.q_proj"]
    names = bitlinear.convert(model, keep=kept, norm=SUBLN)
    assert len(names) == 12
    assert type(model.model.layers[1].mlp.down_proj) is type(model.lm_head) is nn.Linear
    normed = {name for name, layer in bitlinear.layers(model).items() if layer.norm_weight is not None}
    ends = ("0.self_attn.o_proj", "1.self_attn.o_proj", "0.mlp.down_proj")
    assert normed == {f"model.layers.{end}" for end in ends}
    assert bitlinear.layers(model)["model.layers.0.mlp.down_proj"].norm_eps == model.config.rms_norm_eps
    for refused, message in (
        ({"keep": ["q_prj"]}, "keep names `q_prj`"),
        ({"norm": ["proj"]}, "norm names `proj`"),
        ({"level": "best"}, "level `best`"),
        ({"per": "block"}, "per `block`"),
        ({"keep": [f"{part}_proj" for part in ALL]}, "no linear layer to convert"),
    ):
        with pytest.raises(LowbitError, match=message):
            bitlinear.convert(_model(checkpoint), **refused)
    with pytest.raises(LowbitError, match="is a BitLinear already"):
        bitlinear.convert(model)
    with pytest.raises(LowbitError, match="BitLinear layers"):
        lowbit.quantize_model(model, "int8")
    with pytest.raises(LowbitError, match=r"blend 1\.5"):
        bitlinear.set_blend(model, 1.5)


def test_poisoned_weights_are_named(checkpoint: Path) -> None:
    model = _model(checkpoint)
    with torch.no_grad():
        model.get_submodule(UP).weight[3, 3] = torch.nan
    with pytest.raises(LowbitError, match=rf"{UP}.weight: holds NaN"):
        bitlinear.convert(model)


def test_master_weights_stay_float32_whatever_the_model_is_cast_to(checkpoint: Path) -> None:
    model = _model(checkpoint)
    bitlinear.convert(model, norm=["o_proj"], level="lsq")
    layer = bitlinear.layers(model)[UP]
    with torch.no_grad():
        layer.weight += 1e-6
    before = layer.weight.clone()
    ratio = layer.level_ratio.clone()
    _logits(model)
    model.to(torch.bfloat16)
    layers = bitlinear.layers(model).values()
    assert torch.equal(layer.weight, before)
    assert torch.equal(layer.level_ratio, ratio)
    assert isinstance(layer.weight, nn.Parameter)
    assert all(one.norm_weight.dtype == torch.float32 for one in layers if one.norm_weight is not None)
    assert {one.bias.dtype for one in layers if one.bias is not None} == {torch.bfloat16}
    model(IDS).logits.float().sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.dtype == torch.float32


def test_training_lowers_the_loss_while_quantisation_is_blended_in(checkpoint: Path) -> None:
    model = _model(checkpoint).train()
    bitlinear.convert(model, norm=SUBLN)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for step in range(30):
        bitlinear.set_blend(model, min(step / 10, 1))
        loss = model(IDS, labels=IDS).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]
    packed = bitlinear.pack(model.eval())
    with torch.no_grad():
        assert float(packed(IDS, labels=IDS).loss) < 0.6 * losses[0]


def _trained(folder: Path, dtype: torch.dtype, **options: Any) -> Any:
    """A converted model whose parameters have moved away from where they began."""
    model = _model(folder)
    bitlinear.convert(model, **options)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter += 0.1 * parameter.abs().mean() * noise
    return _cast(model, dtype)


def _cast(model: Any, dtype: torch.dtype) -> Any:
    """`model.to(dtype)` but for the angles of the positions, which a loaded model has in float32."""
    angles = model.model.rotary_emb.inv_freq
    model.to(dtype).model.rotary_emb.inv_freq = angles
    return model


@pytest.mark.parametrize(
    ("options", "dtype"),
    [
        ({}, torch.float32),
        ({"norm": SUBLN, "level": "lloyd"}, torch.float32),
        ({"norm": SUBLN, "level": "lsq", "per": "row", "keep": ["k_proj"]}, torch.bfloat16),
        ({"eps": 1e-3, "norm": ["q_proj"]}, torch.float16),
    ],
    ids=["plain", "normed", "rows-bf16", "fp16"],
)
def test_packed_checkpoints_give_the_logits_of_training(
    options: dict[str, Any], dtype: torch.dtype, checkpoint: Path, tmp_path: Path
) -> None:
    model = _trained(checkpoint, dtype, **options)
    expected = _logits(model)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = _logits(model)
    statistics = bitlinear.statistics(model)
    assert bitlinear.pack(model) is model
    assert torch.equal(_logits(model), expected)
    model.save_pretrained(tmp_path / "one")
    loaded = _model(tmp_path / "one", dtype)
    assert torch.equal(_logits(loaded), expected)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(_logits(loaded), mixed)
    lowbit.set_mode(loaded, "packed")
    assert torch.equal(_logits(loaded), expected)
    _cast(_cast(loaded, torch.float64 if dtype == torch.float32 else torch.float32), dtype)
    assert torch.equal(_logits(loaded), expected)
    loaded.save_pretrained(tmp_path / "two")
    for name in ("model.safetensors", "config.json"):
        assert filecmp.cmp(tmp_path / "one" / name, tmp_path / "two" / name, shallow=False), name
    layers = loaded.config.quantization_config.layers
    assert set(layers) == set(statistics)
    assert {spec["kind"] for spec in layers.values()} == {"bitlinear"}
    assert loaded.generate(IDS[:1, :3], max_new_tokens=3, do_sample=False, pad_token_id=0).shape == (1, 6)


def test_a_hybrid_is_packed_with_its_int8_layers(checkpoint: Path, tmp_path: Path) -> None:
    model = _model(checkpoint)
    bitlinear.convert(model, keep=["down_proj"])
    plan = {f"model.layers.{number}.mlp.down_proj": {"recipe": "int8"} for number in range(2)}
    expected = _logits(model)
    bitlinear.pack(model, plan, seed=2)
    kinds = [spec["kind"] for spec in model.config.quantization_config.layers.values()]
    assert sorted(kinds) == ["bitlinear"] * 12 + ["uniform"] * 2
    assert (_logits(model) - expected).norm() < 0.05 * expected.norm()
    model.save_pretrained(tmp_path / "hybrid")
    assert torch.equal(_logits(_model(tmp_path / "hybrid")), _logits(model))


def test_pack_refuses_what_is_not_ready(checkpoint: Path) -> None:
    model = _model(checkpoint)
    with pytest.raises(LowbitError, match="no BitLinear to pack"):
        bitlinear.pack(model)
    bitlinear.convert(model)
    bitlinear.set_blend(model, 0.5)
    with pytest.raises(LowbitError, match=r"q_proj: its blend is 0\.5"):
        bitlinear.pack(model)
    bitlinear.set_blend(model, 1)
    with pytest.raises(LowbitError, match=rf"no linear layer `{UP}`"):
        bitlinear.pack(model, {UP: {"recipe": "int8"}})
    with torch.no_grad():
        bitlinear.layers(model)[UP].weight[0, 0] = torch.inf
    with pytest.raises(LowbitError, match=rf"{UP}.weight: holds NaN"):
        bitlinear.pack(model)
    assert len(bitlinear.layers(model)) == 14


def test_gradients_reach_the_input_of_a_packed_layer(checkpoint: Path) -> None:
    model = _model(checkpoint)
    bitlinear.convert(model)
    layer = bitlinear.layers(model)[UP]
    x = _random(3, 64).requires_grad_()
    layer(x).sum().backward()
    expected = x.grad
    x.grad = None
    packed = bitlinear.pack(model).get_submodule(UP)
    packed(x).sum().backward()
    assert torch.equal(x.grad, expected)
    assert not [name for name, parameter in packed.named_parameters() if parameter.requires_grad]


def test_damaged_checkpoints_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    model = _trained(checkpoint, torch.float32, norm=["o_proj"])
    bitlinear.pack(model).save_pretrained(tmp_path)
    layer = "model.layers.1.self_attn.o_proj"
    config = json.loads((tmp_path / "config.json").read_text())
    tensors = load_file(tmp_path / "model.safetensors")
    for change, message in (
        ({"activation_bits": 4}, f"{layer}: activations of 4 bits"),
        ({"sparse": True}, f"{layer}: .*no key `sparse`"),
        ({"norm_eps": -1.0}, f"{layer}: norm_eps"),
    ):
        changed = json.loads(json.dumps(config))
        changed["quantization_config"]["layers"][layer].update(change)
        (tmp_path / "config.json").write_text(json.dumps(changed))
        with pytest.raises(LowbitError, match=message):
            _model(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config))
    for damage, message in (
        ({f"{layer}.norm_weight": torch.full((64,), torch.nan)}, "norm_weight holds NaN"),
        ({f"{layer}.weight_scales": torch.tensor([torch.inf])}, "scales hold NaN"),
        ({f"{layer}.norm_weight": None}, "no usable tensor .*norm_weight"),
    ):
        damaged = {name: tensor for name, tensor in (tensors | damage).items() if tensor is not None}
        save_file(damaged, tmp_path / "model.safetensors", {"format": "pt"})
        with pytest.raises(LowbitError, match=rf"o_proj.*{message}"):
            _model(tmp_path)


@pytest.mark.parametrize("level", LEVELS)
def test_statistics_are_those_of_gaussian_weights(level: str) -> None:
    linear = nn.Linear(512, 256, bias=False)
    with torch.no_grad():
        linear.weight.copy_(_random(256, 512))
    model = nn.Sequential(BitLinear.from_linear(linear, level=level))
    found = bitlinear.statistics(model)["0"]
    threshold, value = {
        "absmean": (0.399, 0.798),
        "lsq": (0.399, 1.068),
        "lloyd": (0.612, 1.224),
    }[level]
    assert found.threshold == pytest.approx(threshold, abs=0.005)
    assert found.level == pytest.approx(value, abs=0.01)
    assert found.zero == pytest.approx(math.erf(threshold / math.sqrt(2)), abs=0.005)
    assert found.negative + found.zero + found.positive == pytest.approx(1)
    assert found.negative == pytest.approx(found.positive, abs=0.01)


def test_zero_weights_stay_finite() -> None:
    for level in LEVELS:
        linear = nn.Linear(8, 4, bias=False)
        nn.init.zeros_(linear.weight)
        layer = BitLinear.from_linear(linear, level=level, per="row")
        layer(torch.zeros(2, 8)).sum().backward()
        assert layer.weight.grad is not None
        assert bool(torch.isfinite(layer.weight.grad).all())
        assert float(layer.packed().dequantize().abs().max()) == 0
