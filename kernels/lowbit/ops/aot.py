"""Compiles recorded launches ahead of time, for a target that need not be there, and reads what they take.

`cuobjdump` comes with Triton, so registers and spills of NVIDIA targets are known without a GPU.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from dataclasses import dataclass
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from lowbit.errors import LowbitError
from lowbit.ops.common import Call

TARGETS = {
    "sm_80": GPUTarget("cuda", 80, 32),
    "sm_90": GPUTarget("cuda", 90, 32),
    "gfx942": GPUTarget("hip", "gfx942", 64),
}
BINARY = {"cuda": "cubin", "hip": "hsaco"}
TYPES = {
    torch.int8: "i8",
    torch.uint8: "u8",
    torch.int32: "i32",
    torch.float16: "fp16",
    torch.bfloat16: "bf16",
    torch.float32: "fp32",
}
ALIGNMENT = 16
# Of a multiprocessor of an H100: registers, shared memory in bytes, threads, programs.
REGISTERS, SHARED, THREADS, PROGRAMS = 65536, 227 << 10, 2048, 32


@dataclass(frozen=True)
class Resources:
    """What one program takes: registers a thread, spilled bytes a thread, shared memory in bytes."""

    registers: int
    spill_bytes: int
    shared_bytes: int
    threads: int

    @property
    def programs(self) -> int:
        """How many fit on a multiprocessor of an H100 at a time."""
        fits = [PROGRAMS, THREADS // self.threads, REGISTERS // (max(self.registers, 16) * self.threads)]
        return min([*fits, SHARED // (self.shared_bytes + 1024)])


def source(call: Call) -> tuple[ASTSource, dict[str, Any]]:
    """The launch as the run-time compiler would see it, specialised on alignment and on the value 1, and its
    options.
    """
    names = call.kernel.arg_names
    given = dict(zip(names, call.arguments, strict=False))
    options = {key: value for key, value in call.options.items() if key not in names}
    given |= {key: value for key, value in call.options.items() if key in names}
    signature: dict[str, str] = {}
    constants: dict[tuple[int, ...], Any] = {}
    attributes: dict[tuple[int, ...], Any] = {}
    for index, parameter in enumerate(call.kernel.params):
        value = given[parameter.name]
        special = not parameter.do_not_specialize
        if parameter.is_constexpr or value is None or (special and isinstance(value, int) and value == 1):
            signature[parameter.name] = "constexpr"
            constants[(index,)] = value
            continue
        if isinstance(value, torch.Tensor):
            signature[parameter.name] = f"*{TYPES[value.dtype]}"
            aligned = True
        else:
            signature[parameter.name] = "i32" if abs(value) < 1 << 31 else "i64"
            aligned = special and value % ALIGNMENT == 0
        if aligned:
            attributes[(index,)] = [["tt.divisibility", ALIGNMENT]]
    return ASTSource(call.kernel, signature, constexprs=constants, attrs=attributes), options


def compiled(call: Call, target: str) -> Any:
    """The launch compiled to machine code for a name of `TARGETS`."""
    if target not in TARGETS:
        raise LowbitError(f"target `{target}` is not known; known: {', '.join(TARGETS)}")
    ast, options = source(call)
    return triton.compile(ast, target=TARGETS[target], options=options)


def resources(call: Call, target: str = "sm_90") -> Resources:
    """What the launch takes on an NVIDIA target, read from its machine code by `cuobjdump`."""
    kernel = compiled(call, target)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        command = [str(triton.knobs.nvidia.cuobjdump.path), "--dump-resource-usage", file.name]
        report = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return _parsed(report, kernel.metadata.shared, 32 * call.options["num_warps"])


def _parsed(report: str, shared: int, threads: int) -> Resources:
    used = re.search(r"REG:(\d+) STACK:(\d+) SHARED:\d+ LOCAL:(\d+)", report)
    if used is None:
        raise LowbitError(f"cuobjdump: no resource usage in its report: {report.strip()[-200:]}")
    # The kernels have no arrays of their own: whatever lies on the stack was spilled there.
    return Resources(int(used[1]), int(used[2]) + int(used[3]), shared, threads)
