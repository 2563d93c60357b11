"""`python -m lowbit.ops.compile_table OUT.json`: registers, spills and shared memory on sm_90 of every
configuration that the autotuner may pick at the benchmarked shapes, compiled here, without a GPU.

Exit status 1 when a configuration spills: it has to leave the list of its operation.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import triton

from lowbit import grids
from lowbit.hadamard import block_size
from lowbit.ops import aot, common, higgs_matmul, quantize_activation, rotate, ternary_matmul
from lowbit.ops.common import Call, Config
from lowbit.ops.higgs_matmul import HiggsOperand
from lowbit.ops.higgs_matmul.layout import CHUNK_WORDS, WORD_BITS, merged
from lowbit.ops.shapes import GRIDS, MODELS, TOKENS, Linear
from lowbit.ops.ternary_matmul import TernaryOperand
from lowbit.ops.ternary_matmul.layout import CHUNK, FIELDS

TARGET = "sm_90"
DTYPE = torch.bfloat16


@dataclass(frozen=True)
class Case:
    """One configuration of one operation at one shape: `calls` is what it launches."""

    operation: str
    tokens: int
    config: Config
    calls: tuple[Call, ...]


def meta(*shape: int, dtype: torch.dtype = DTYPE) -> torch.Tensor:
    """A tensor without memory."""
    return torch.empty(shape, dtype=dtype, device="meta")


def operand(layer: Linear, grid: str) -> HiggsOperand:
    """The HIGGS operand of a layer, without memory."""
    found, group = grids.load(grid), block_size(layer.inputs)
    count = merged(found.p, found.index_bits)
    step, bits = found.p * count, 8 if count * found.index_bits <= 8 else 16
    chunk = WORD_BITS // bits * CHUNK_WORDS
    words = -(-layer.inputs // step // chunk) * CHUNK_WORDS
    return HiggsOperand(
        meta(layer.outputs, words, dtype=torch.int32),
        meta(1 << (found.index_bits * count), max(1, step // 2), dtype=torch.int32),
        meta(layer.outputs, layer.inputs // group, dtype=torch.float16),
        (layer.outputs, layer.inputs), group, bits, step,
    )  # fmt: skip


def cases(layer: Linear, tokens: int) -> Iterator[Case]:
    """Everything that may run for `layer` and that many tokens."""
    from lowbit.ops.higgs_matmul.triton import launch as higgs
    from lowbit.ops.quantize_activation.triton import launch as quantize
    from lowbit.ops.rotate.triton import launch as turn
    from lowbit.ops.ternary_matmul.triton import launch as ternary

    x, block = meta(tokens, layer.inputs), block_size(layer.inputs)
    bias = meta(layer.outputs) if layer.bias else None
    width = -(-layer.inputs // CHUNK) * CHUNK
    fields = meta(layer.outputs, width // FIELDS, dtype=torch.uint8)
    weight = TernaryOperand(fields, meta(layer.outputs, dtype=torch.float16), (layer.outputs, width))
    codes, scales = meta(tokens, width, dtype=torch.int8), meta(tokens, dtype=torch.float32)
    signs = meta(layer.inputs, dtype=torch.int8)

    def each(operation: str, configs: Sequence[Config], launch: Callable[[Config], object]) -> Iterator[Case]:
        for entry in configs:
            with common.recording() as calls:
                launch(entry)
            yield Case(operation, tokens, entry, tuple(calls))

    yield from each(rotate.NAME, rotate.configs(block), lambda entry: turn(x, signs, block, entry))
    for grid in GRIDS:
        packed = operand(layer, grid)
        variants = higgs_matmul.configs(higgs_matmul.tile_of(tokens))
        yield from each(higgs_matmul.NAME, variants, partial(higgs, x, packed, bias))
    yield from each(
        quantize_activation.NAME, quantize_activation.configs(), lambda entry: quantize(x, width, entry)
    )
    variants = ternary_matmul.configs(ternary_matmul.tile_of(tokens))
    yield from each(
        ternary_matmul.NAME, variants, lambda entry: ternary(codes, scales, weight, bias, DTYPE, entry)
    )


def all_cases() -> Iterator[tuple[str, Linear, Case]]:
    """Every case of every model, layer and number of tokens that is benchmarked."""
    for model, layers in MODELS.items():
        for tokens in TOKENS:
            for layer in layers:
                for case in cases(layer, tokens):
                    yield model, layer, case


def table() -> list[dict[str, Any]]:
    """One row per distinct machine code, with the shapes (N x K, M) that may run it."""
    rows: dict[str, dict[str, Any]] = {}
    known: dict[str, str] = {}
    found = list(all_cases())
    for done, (_, layer, case) in enumerate(found, 1):
        for call in case.calls:
            ast, options = aot.source(call)
            key = f"{ast.hash()} {sorted(options.items())}"
            if key not in known:
                known[key] = key
                rows[key] = {
                    "operation": case.operation,
                    "kernel": call.kernel.__name__,
                    "config": case.config.name if call.kernel.__name__ != "combine" else "",
                    "constants": _constants(call),
                    **asdict(resources := aot.resources(call, TARGET)),
                    "programs_per_multiprocessor": resources.programs,
                    "tokens": [],
                    "shapes": [],
                }
                _progress(done, len(found), len(rows))
            row = rows[key]
            shape = f"{layer.outputs}x{layer.inputs}"
            row["tokens"] = sorted({*row["tokens"], case.tokens})
            row["shapes"] = sorted({*row["shapes"], shape})
    return list(rows.values())


def _constants(call: Call) -> dict[str, Any]:
    names = [parameter.name for parameter in call.kernel.params if parameter.is_constexpr]
    values = {name: call.options[name] for name in names if name in call.options}
    return {name: value if isinstance(value, int | float) else str(value) for name, value in values.items()}


def _progress(done: int, total: int, rows: int) -> None:
    end = "\r" if sys.stderr.isatty() else "\n"
    if end == "\r" or rows % 20 == 0:
        sys.stderr.write(f"{done}/{total} cases, {rows} kernels compiled{end}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the table; 1 when something spills."""
    parser = argparse.ArgumentParser(prog="python -m lowbit.ops.compile_table", description=__doc__)
    parser.add_argument("out", type=Path, help="JSON file to write")
    out = parser.parse_args(arguments).out
    rows = table()
    spilling = [row for row in rows if row["spill_bytes"]]
    value = {
        "command": f"python -m lowbit.ops.compile_table {out}",
        "target": TARGET,
        "triton": triton.__version__,
        "machine": platform.machine(),
        "kernels": len(rows),
        "spilling": len(spilling),
        "rows": rows,
    }
    out.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    for row in spilling:
        sys.stderr.write(f"spills {row['spill_bytes']} bytes: {row['operation']} {row['config']}\n")
    return 1 if spilling else 0


if __name__ == "__main__":
    sys.exit(main())
