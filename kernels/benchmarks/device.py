"""Kernels on a GPU, in one call of under 8 minutes: `python kernels/benchmarks/device.py OUT.json`.

Correctness of every operation against its float64 reference on the device, then the time of one decoder
layer's linear layers, rotation and activation quantisation included, beside cuBLAS in bfloat16 and the int4
product of torch itself, and as a share of the time that the bytes moved take at measured copy bandwidth.
Copies of the layer rotate through more memory than the L2 cache holds; a CUDA graph runs them. What no time
is left for is listed under `skipped`. `--plan` says what would be measured and needs no GPU.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lowbit import grids, higgs, ternary
from lowbit.hadamard import block_size
from lowbit.ops import common, higgs_matmul, quantize_activation, rotate, ternary_matmul
from lowbit.ops.higgs_matmul.layout import CHUNK_WORDS, HiggsOperand, code_table, merged
from lowbit.ops.shapes import GRIDS, MODELS, TOKENS, Linear
from lowbit.ops.ternary_matmul.layout import CHUNK, FIELDS, TernaryOperand

DTYPE = torch.bfloat16
PEER = "int4-tinygemm"  # torch._weight_int4pack_mm, groups of 128
FORMATS = ("bf16", *(f"higgs-{grid}" for grid in GRIDS), "ternary", PEER)
L2_MULTIPLE = 4
MOST_COPIES = 32
REPLAYS = 20
TUNING_SHARE = 0.6  # of the time limit; afterwards the first configuration of a list runs
Prepare = Callable[[torch.Tensor], Any]
Product = Callable[[Any], torch.Tensor]


@dataclass(frozen=True)
class Built:
    """One copy of a decoder layer: what every source of input goes through, and the products by layer name.
    `bytes` is what the products read of weights.
    """

    prepare: dict[str, Prepare]
    products: dict[str, Product]
    bytes: int


def build(form: str, layers: Sequence[Linear], device: torch.device) -> Built:
    """Random weights of format `form` for `layers`. Quantising real ones would take longer than measuring."""
    prepare: dict[str, Prepare] = {}
    products: dict[str, Product] = {}
    total = 0
    for layer in layers:
        bias = torch.randn(layer.outputs, device=device, dtype=DTYPE) if layer.bias else None
        prepare[layer.source], products[layer.name], size = _BUILDERS[form.split("-")[0]](
            form, layer, bias, device
        )
        total += size
    return Built(prepare, products, total)


Parts = tuple[Prepare, Product, int]


def _bf16(_form: str, layer: Linear, bias: torch.Tensor | None, device: torch.device) -> Parts:
    weight = torch.randn(layer.outputs, layer.inputs, device=device, dtype=DTYPE)
    return lambda x: x, lambda x: torch.nn.functional.linear(x, weight, bias), 2 * weight.numel()


def _higgs(form: str, layer: Linear, bias: torch.Tensor | None, device: torch.device) -> Parts:
    grid, group = grids.load(form.removeprefix("higgs-")), block_size(layer.inputs)
    count = merged(grid.p, grid.index_bits)
    step, codes = grid.p * count, layer.inputs // (grid.p * count)
    words = -(-codes // (CHUNK_WORDS * 4)) * CHUNK_WORDS
    shape = (layer.outputs, words)
    operand = HiggsOperand(
        torch.randint(-(1 << 31), (1 << 31) - 1, shape, device=device, dtype=torch.int32),
        code_table(grid.points, grid.index_bits, count, DTYPE).to(device),
        torch.rand(layer.outputs, layer.inputs // group, device=device).half() + 0.5,
        (layer.outputs, layer.inputs), group, 8, step,
    )  # fmt: skip
    signs = rotate.signs_on(0, layer.inputs, device)
    return (
        lambda x: rotate.rotate(x, signs, group),
        lambda x: higgs_matmul.product(x, operand, bias),
        operand.bytes,
    )


def _ternary(_form: str, layer: Linear, bias: torch.Tensor | None, device: torch.device) -> Parts:
    width = -(-layer.inputs // CHUNK) * CHUNK
    # Two bits that are never both set: fields 0, 1, 2.
    high = torch.randint(0, 256, (layer.outputs, width // FIELDS), device=device, dtype=torch.uint8) & 0xAA
    low = torch.randint(0, 256, high.shape, device=device, dtype=torch.uint8) & 0x55 & ~(high >> 1)
    levels = torch.rand(layer.outputs, device=device).half()
    operand = TernaryOperand(high | low, levels, (layer.outputs, width))
    return (
        lambda x: quantize_activation.quantize_activation(x, width),
        lambda q: ternary_matmul.product(*q, operand, DTYPE, bias),
        operand.bytes,
    )


def _int4(_form: str, layer: Linear, _bias: torch.Tensor | None, device: torch.device) -> Parts:
    shape = (layer.outputs, layer.inputs // 2)
    codes = torch.randint(0, 256, shape, device=device, dtype=torch.uint8)
    packed = torch._convert_weight_to_int4pack(codes, 8)
    scales = torch.rand(layer.inputs // 128, layer.outputs, 2, device=device, dtype=DTYPE)
    size = codes.numel() + 2 * scales.numel()
    return lambda x: x, lambda x: torch._weight_int4pack_mm(x, packed, 128, scales), size


_BUILDERS = {"bf16": _bf16, "higgs": _higgs, "ternary": _ternary, "int4": _int4}


def run(built: Built, layers: Sequence[Linear], inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """All products of one copy; every source is rotated or quantised once."""
    ready = {source: built.prepare[source](inputs[source]) for source in inputs}
    return {layer.name: built.products[layer.name](ready[layer.source]) for layer in layers}


def inputs_of(layers: Sequence[Linear], tokens: int, device: torch.device) -> dict[str, torch.Tensor]:
    """Random activations of every source."""
    widths = {layer.source: layer.inputs for layer in layers}
    return {
        source: torch.randn(tokens, width, device=device, dtype=DTYPE) for source, width in widths.items()
    }


def microseconds(body: Callable[[], object]) -> float:
    """Median time of a replay of the CUDA graph of `body`."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        body()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        body()
    times = []
    for number in range(REPLAYS + 3):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        if number >= 3:
            times.append(1000 * start.elapsed_time(end))
    return statistics.median(times)


def copy_bandwidth() -> float:
    """Bytes read and written per second by a copy of 1 GiB."""
    source = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return 2 * source.numel() / (microseconds(lambda: target.copy_(source)) * 1e-6)


def layer_time(
    form: str, layers: Sequence[Linear], tokens: int, bandwidth: float, tune: bool
) -> dict[str, Any]:
    """Microseconds of one decoder layer's products in format `form`, and its share of the copy bandwidth."""
    device = torch.device("cuda")
    cache = torch.cuda.get_device_properties(device).L2_cache_size
    first = build(form, layers, device)
    copies = [first]
    while sum(copy.bytes for copy in copies) < L2_MULTIPLE * cache and len(copies) < MOST_COPIES:
        copies.append(build(form, layers, device))
    inputs = inputs_of(layers, tokens, device)
    with common.tuning() if tune else nullcontext():
        run(first, layers, inputs)
    ready = {source: first.prepare[source](inputs[source]) for source in inputs}

    def each(body: Callable[[Built], object]) -> float:
        return microseconds(lambda: [body(copy) for copy in copies]) / len(copies)

    single = {
        layer.name: each(lambda copy, at=layer: copy.products[at.name](ready[at.source])) for layer in layers
    }
    turned = {} if form in ("bf16", PEER) else inputs
    prepared = {source: each(lambda copy, at=source: copy.prepare[at](inputs[at])) for source in turned}
    total = each(lambda copy: run(copy, layers, inputs))
    moved = first.bytes + sum(2 * tokens * (layer.inputs + layer.outputs) for layer in layers)
    return {
        "microseconds": total,
        "weight_bytes": first.bytes,
        "bytes": moved,
        "share_of_copy_bandwidth": moved / bandwidth / (total * 1e-6),
        "copies": len(copies),
        "tuned": tune,
        "linear_microseconds": single,
        "prepare_microseconds": prepared,
    }


def correctness() -> list[dict[str, Any]]:
    """Relative error of every operation on the device against its float64 reference, over odd shapes."""
    device = torch.device("cuda")
    rows = []
    for dtype in common.DTYPES:
        room = 4 * torch.finfo(dtype).eps
        for tokens, outputs, width in ((1, 37, 896), (3, 129, 4864), (17, 65, 1536), (130, 257, 2048)):
            x = torch.randn(tokens, width, device=device, dtype=dtype)
            weight = torch.randn(outputs, width, device=device)
            for grid in ("p2n256", "p1n16", "p2n16", "p2n64", "p1n256", "p2n1024", "p4n256"):
                packed = higgs.quantize(weight, grid)
                turned = rotate.rotate(x, rotate.signs_on(0, width, device), packed.group_size)
                found = higgs_matmul.product(turned, higgs_matmul.prepare(packed, dtype))
                expected = x.double() @ packed.dequantize().double().T
                rows.append(_row("higgs " + grid, dtype, (tokens, outputs, width), found, expected, room))
            trits = ternary.quantize(weight)
            operand = ternary_matmul.prepare(trits)
            codes, scales = quantize_activation.quantize_activation(x, operand.shape[1])
            found = ternary_matmul.product(codes, scales, operand, dtype)
            rounded = codes[:, :width].double() * scales.double()[:, None]
            expected = rounded @ trits.dequantize().double().T
            rows.append(_row("ternary", dtype, (tokens, outputs, width), found, expected, room))
    return rows


def _row(
    what: str,
    dtype: torch.dtype,
    shape: tuple[int, ...],
    found: torch.Tensor,
    expected: torch.Tensor,
    room: float,
) -> dict[str, Any]:
    error = float((found.double() - expected).norm() / expected.norm())
    # A comparison with NaN is false: NaN does not pass.
    passes = error <= room
    return {
        "what": what,
        "dtype": str(dtype),
        "shape": shape,
        "relative_error": error,
        "passes": passes,
    }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Everything; `skipped` lists what the time limit left out."""
    began = time.monotonic()
    properties = torch.cuda.get_device_properties(0)
    result: dict[str, Any] = {
        "command": " ".join(["python", "kernels/benchmarks/device.py", *sys.argv[1:]]),
        "device": properties.name,
        "multiprocessors": properties.multi_processor_count,
        "l2_bytes": properties.L2_cache_size,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "copy_bytes_per_second": copy_bandwidth(),
        "correctness": correctness(),
        "layers": [],
        "skipped": [],
    }
    for model, tokens, form in cases(options):
        spent = time.monotonic() - began
        case = {"model": model, "tokens": tokens, "format": form}
        if spent > options.seconds:
            result["skipped"].append({**case, "why": "no time left"})
            continue
        try:
            tune = options.tune and spent < TUNING_SHARE * options.seconds
            timed = layer_time(form, MODELS[model], tokens, result["copy_bytes_per_second"], tune)
        except Exception as error:
            # A peer that this build of torch lacks, or memory that is not there, must not cost the rest.
            result["skipped"].append({**case, "why": f"{type(error).__name__}: {error}"[:300]})
            continue
        result["layers"].append({**case, **timed})
        sys.stderr.write(f"{spent:5.0f} s  {model}  M={tokens}  {form}  {timed['microseconds']:.1f} us\n")
        options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    result["seconds"] = time.monotonic() - began
    return result


def cases(options: argparse.Namespace) -> list[tuple[str, int, str]]:
    """What is measured, the most wanted first: few tokens before many."""
    return [
        (model, tokens, form)
        for tokens in options.tokens
        for model in options.models
        for form in options.formats
    ]


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line; exit status 2 when it is wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path, help="JSON file to write")
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--tokens", nargs="+", type=int, default=list(TOKENS), help="tokens at a time (M)")
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=list(FORMATS))
    parser.add_argument("--seconds", type=float, default=420.0, help="no case starts later than this")
    parser.add_argument("--no-tune", dest="tune", action="store_false", help="first configuration everywhere")
    parser.add_argument("--plan", action="store_true", help="write what would be measured, and end")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write; 1 without a GPU or when a result is wrong."""
    options = parsed(arguments)
    if options.plan:
        value: dict[str, Any] = {"cases": cases(options), "seconds": options.seconds}
    elif not torch.cuda.is_available() or not common.has_triton():
        sys.stderr.write("device.py: no CUDA or ROCm device with Triton; --plan needs none\n")
        return 1
    else:
        with torch.inference_mode():
            value = measure(options)
    options.out.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    return 0 if all(row["passes"] for row in value.get("correctness", [])) else 1


if __name__ == "__main__":
    sys.exit(main())
