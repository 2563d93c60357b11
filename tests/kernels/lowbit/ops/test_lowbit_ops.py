"""The operations as torch sees them: references on the CPU, fake tensors, torch.compile, clear errors."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lowbit import grids, higgs, ternary
from lowbit.errors import LowbitError
from lowbit.ops import common, higgs_matmul, quantize_activation, rotate, ternary_matmul
from lowbit.ops.higgs_matmul import layout
from lowbit.ops.shapes import Linear
from lowbit.ops.ternary_matmul.layout import pack_fields, unpack_fields

CPU = torch.device("cpu")


def _weight(outputs: int, inputs: int) -> torch.Tensor:
    return torch.randn(outputs, inputs, generator=torch.Generator().manual_seed(0))


@given(st.sampled_from([8, 16]), st.integers(1, 3), st.integers(1, 70), st.integers(0, 1000))
def test_words_hold_every_code(bits: int, rows: int, count: int, seed: int) -> None:
    codes = torch.randint(0, 1 << bits, (rows, count), generator=torch.Generator().manual_seed(seed))
    words = layout.pack_words(codes.to(torch.int32), bits)
    assert torch.equal(layout.unpack_words(words, bits, count), codes)


@given(st.integers(1, 3), st.integers(1, 200), st.integers(0, 1000))
def test_fields_hold_every_code(rows: int, count: int, seed: int) -> None:
    codes = torch.randint(-1, 2, (rows, count), generator=torch.Generator().manual_seed(seed))
    fields = pack_fields(codes.to(torch.int8), -(-count // 64) * 64)
    assert torch.equal(unpack_fields(fields)[:, :count].long(), codes)


@pytest.mark.parametrize("grid", grids.NAMES)
def test_operand_stands_for_the_weight(grid: str) -> None:
    packed = higgs.quantize(_weight(6, 336), grid, seed=4)
    x = _weight(5, 336).half()
    turned = rotate.rotate(x, rotate.signs_on(4, packed.padded_width, CPU), packed.group_size)
    found = higgs_matmul.product(turned, higgs_matmul.prepare(packed, torch.float16)).double()
    expected = x.double() @ packed.dequantize().double().T
    assert float((found - expected).norm() / expected.norm()) < 1e-3


def test_ternary_pair_of_operations_is_w158a8() -> None:
    weight = ternary.quantize(_weight(9, 100))
    x = _weight(4, 100).to(torch.bfloat16)
    operand = ternary_matmul.prepare(weight)
    codes, scales = quantize_activation.quantize_activation(x, operand.shape[1])
    assert (
        float((codes[:, :100].float() * scales[:, None] - x.float()).abs().max()) <= float(scales.max()) / 2
    )
    found = ternary_matmul.product(codes, scales, operand, torch.bfloat16).float()
    expected = (codes[:, :100].float() * scales[:, None]) @ weight.dequantize().T
    assert float((found - expected).abs().max()) < 2**-7 * float(expected.abs().max())


def test_torch_compile_sees_through() -> None:
    packed = higgs.quantize(_weight(8, 64), seed=1)
    operand, signs = higgs_matmul.prepare(packed, torch.float16), rotate.signs_on(1, 64, CPU)
    trits = ternary_matmul.prepare(ternary.quantize(_weight(8, 64)))

    def layers(x: torch.Tensor) -> torch.Tensor:
        codes, scales = quantize_activation.quantize_activation(x, 64)
        first = ternary_matmul.product(codes, scales, trits, x.dtype)
        return first + higgs_matmul.product(rotate.rotate(x, signs, 64), operand)

    x = _weight(3, 64).half()
    with torch.no_grad():
        assert torch.equal(torch.compile(layers, backend="aot_eager", fullgraph=True)(x), layers(x))


@pytest.mark.parametrize("operation", ["rotate", "quantize_activation", "higgs_matmul", "ternary_matmul"])
def test_fake_tensors_have_the_right_shape(operation: str) -> None:
    x = _weight(3, 64).half()
    operand = higgs_matmul.prepare(higgs.quantize(_weight(5, 64)), torch.float16)
    trits = ternary_matmul.prepare(ternary.quantize(_weight(5, 64)))
    codes, scales = quantize_activation.quantize_activation(x, 64)
    arguments: dict[str, tuple[Any, ...]] = {
        "rotate": (x, rotate.signs_on(0, 64, CPU), 64),
        "quantize_activation": (x, 128),
        "higgs_matmul": (x, operand.words, operand.table, operand.scales, None, 64, 8, 2),
        "ternary_matmul": (codes, scales, trits.fields, trits.levels, None, torch.float16),
    }
    call = getattr(torch.ops.lowbit, operation).default
    torch.library.opcheck(call, arguments[operation], test_utils=("test_schema", "test_faketensor"))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: rotate.rotate(x.float(), rotate.signs_on(0, 64, CPU), 64), "rotate: x is torch.float32"),
        (lambda x: rotate.rotate(x, rotate.signs_on(0, 64, CPU), 48), "rotate: block is 48"),
        (lambda x: rotate.rotate(x, rotate.signs_on(0, 32, CPU), 16), "rotate: x has 64 columns"),
        (lambda x: quantize_activation.quantize_activation(x, 32), "quantize_activation: x has 64 columns"),
        (
            lambda x: quantize_activation.quantize_activation(x[0], 64),
            r"quantize_activation: x has shape \(64,\)",
        ),
    ],
)
def test_bad_input_names_the_tensor(call: Any, message: str) -> None:
    with pytest.raises(LowbitError, match=message):
        call(_weight(2, 64).half())


def test_bad_weights_are_named() -> None:
    operand = higgs_matmul.prepare(higgs.quantize(_weight(5, 64)), torch.float16)
    with pytest.raises(LowbitError, match=r"higgs_matmul: x has 32 columns where the weight has 64"):
        higgs_matmul.product(_weight(2, 32).half(), operand)
    trits = ternary_matmul.prepare(ternary.quantize(_weight(5, 64)))
    codes, scales = quantize_activation.quantize_activation(_weight(2, 64).half(), 64)
    with pytest.raises(LowbitError, match=r"ternary_matmul: scales must be contiguous float32"):
        ternary_matmul.product(codes, scales[:1], trits, torch.float16)
    with pytest.raises(LowbitError, match=r"ternary_matmul: dtype is torch\.float32"):
        ternary_matmul.product(codes, scales, trits, torch.float32)


def test_misaligned_and_strided_rows_are_copied() -> None:
    x = torch.randn(4, 33).half()
    assert common.rows_contiguous(x[:, 1:]).data_ptr() % 16 == 0
    assert common.rows_contiguous(x.T).stride(1) == 1
    whole = torch.randn(4, 64).half()
    assert common.rows_contiguous(whole) is whole


def test_choices_survive_a_process_and_damage(tmp_path: Path) -> None:
    path = tmp_path / "NVIDIA-H100.json"
    configs = (common.config(4, BN=4), common.config(8, BN=8))
    common.Choices(path).keep("a", configs[1])
    common.Choices(path).keep("b", configs[0])
    assert common.Choices(path).find("a", configs) == configs[1]
    assert common.Choices(path).find("a", configs[:1]) is None
    assert json.loads(path.read_text())["version"] == common.CACHE_VERSION
    path.write_text("{", encoding="utf-8")
    assert common.Choices(path).find("a", configs) is None


def test_tuner_passes_over_what_fails_or_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    good, slow, wrong, broken = (common.config(1, BN=size) for size in (1, 2, 4, 8))
    monkeypatch.setattr(common, "_milliseconds", lambda run: {1: 2.0, 2: 3.0, 4: 1.0}[run.args[0]["BN"]])

    def launch(entry: common.Config) -> torch.Tensor:
        if entry == broken:
            raise RuntimeError("out of resources")
        return torch.full((2,), 5.0 if entry == wrong else 1.0)

    assert common.fastest("key", (slow, good, wrong, broken), launch) == good
    with pytest.raises(LowbitError, match="no configuration runs"):
        common.fastest("key", (broken,), launch)


def test_import_costs_neither_torch_nor_triton() -> None:
    code = "import sys, lowbit, lowbit.ops; print(sorted({'torch', 'triton'} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_everything_but_kernels_imports_without_triton() -> None:
    code = (
        "import sys; sys.modules['triton'] = None\n"
        "import lowbit.linear, lowbit.running\n"
        "from lowbit.ops import rotate, higgs_matmul, ternary_matmul, quantize_activation\n"
        "print('fine')"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "fine"


def test_device_benchmark_says_what_it_would_measure(root: Path, tmp_path: Path) -> None:
    script, out = root / "kernels/benchmarks/device.py", tmp_path / "plan.json"
    command = [sys.executable, str(script), str(out), "--plan", "--tokens", "1", "16"]
    assert subprocess.run(command, cwd=root).returncode == 0
    cases = json.loads(out.read_text(encoding="utf-8"))["cases"]
    assert len(cases) == 2 * 2 * 5
    assert ["Llama-3.1-8B", 1, "higgs-p2n256"] in cases
    wrong = subprocess.run([*command[:-1], "many"], cwd=root, capture_output=True)
    assert wrong.returncode == 2


@pytest.mark.parametrize("form", ["bf16", "higgs-p2n256", "higgs-p1n16", "ternary"])
def test_device_benchmark_builds_and_runs_a_layer(
    form: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = importlib.util.spec_from_file_location("device", root / "kernels/benchmarks/device.py")
    assert spec is not None and spec.loader is not None
    device = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "device", device)
    spec.loader.exec_module(device)
    layers = (Linear("q", 48, 64, "x", bias=True), Linear("k", 16, 64, "x"), Linear("down", 64, 96, "h"))
    built = device.build(form, layers, CPU)
    outputs = device.run(built, layers, device.inputs_of(layers, 3, CPU))
    assert {name: tuple(y.shape) for name, y in outputs.items()} == {
        "q": (3, 48),
        "k": (3, 16),
        "down": (3, 64),
    }
    assert all(bool(torch.isfinite(y).all()) for y in outputs.values())
    assert 0 < built.bytes <= 2 * sum(layer.outputs * layer.inputs for layer in layers)
