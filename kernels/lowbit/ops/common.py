"""What the operations share: when kernels can run, launch configurations, and the autotuner with its cache.

A configuration is chosen by a key: operation, variant of the kernel, M rounded up to a power of two, N, K and
dtype. The hot path is a dictionary look-up: nothing is measured, synchronised or written there, so launches
can be captured into CUDA graphs. Measured choices come from `<cache>/<GPU name>.json`, which only `tuning()`
writes; a key that is not in it runs the first configuration of its list.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import logging
import os
import re
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lowbit.errors import LowbitError

log = logging.getLogger("lowbit")

DTYPES = (torch.float16, torch.bfloat16)
CACHE_VARIABLE = "LOWBIT_CACHE"
CACHE_VERSION = 1
LARGEST_BUCKET = 4096
WARMUP, REPEATS = 3, 20
AGREEMENT = 2e-2  # of the largest output: two correct configurations differ by rounding alone


@dataclass(frozen=True)
class Config:
    """One way to launch a kernel: `tiles` are its compile-time constants, in elements."""

    tiles: tuple[tuple[str, int], ...]
    warps: int
    stages: int = 1

    @property
    def name(self) -> str:
        """Stands for the configuration in the cache: `BN=4 BW=512 warps=4 stages=1`."""
        parts = [*self.tiles, ("warps", self.warps), ("stages", self.stages)]
        return " ".join(f"{key}={value}" for key, value in parts)

    def __getitem__(self, tile: str) -> int:
        return dict(self.tiles)[tile]

    def launch(self, fuse: bool = True) -> dict[str, Any]:
        """Keyword arguments of a launch. `fuse` allows a*b + c in one rounding (Triton's default changes in
        3.10, so it is always said).
        """
        options = {"num_warps": self.warps, "num_stages": self.stages, "enable_fp_fusion": fuse}
        return {**dict(self.tiles), **options}


def config(warps: int, stages: int = 1, **tiles: int) -> Config:
    """A `Config`, written shortly."""
    return Config(tuple(tiles.items()), warps, stages)


@functools.cache
def has_triton() -> bool:
    """Whether Triton is installed; it is not imported."""
    return importlib.util.find_spec("triton") is not None


def runs_on(device: torch.device) -> bool:
    """Whether kernels run on `device`: a CUDA or ROCm device, and Triton installed."""
    return device.type == "cuda" and has_triton()


def interpreting() -> bool:
    """Whether kernels run in Triton's interpreter (`TRITON_INTERPRET=1` before Triton was imported)."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def next_power(value: int) -> int:
    """The smallest power of two that is not below `value`; 1 for 0."""
    return 1 << max(0, value - 1).bit_length()


def bucket(tokens: int) -> int:
    """M as the autotuner's key knows it: the next power of two, at most 4096."""
    return min(next_power(tokens), LARGEST_BUCKET)


def check(condition: bool, operation: str, tensor: str, why: str) -> None:
    """Raise `LowbitError` naming the operation and the tensor unless `condition` holds."""
    if not condition:
        raise LowbitError(f"{operation}: {tensor} {why}")


def check_activations(x: torch.Tensor, operation: str, width: int | None = None) -> None:
    """Activations are float16 or bfloat16 (M, K), with K = `width` when it is given."""
    check(x.dtype in DTYPES, operation, "x", f"is {x.dtype}; give float16 or bfloat16")
    check(x.dim() == 2, operation, "x", f"has shape {tuple(x.shape)}; give (M, K)")
    if width is not None:
        fits = f"has {x.shape[1]} columns where the weight has {width}"
        check(x.shape[1] == width, operation, "x", fits)


def rows_contiguous(x: torch.Tensor, alignment: int = 16) -> torch.Tensor:
    """`x` (M, K), or a copy when its rows are strided or it starts off a multiple of `alignment` bytes, which
    would forbid vector loads and 32-bit views.
    """
    if x.stride(1) != 1 and x.shape[1] > 1:
        return x.contiguous()
    return x.clone(memory_format=torch.contiguous_format) if x.data_ptr() % alignment else x


@dataclass(frozen=True, eq=False)
class Call:
    """A launch: `options` holds compile-time constants and Triton's own options."""

    kernel: Any
    grid: tuple[int, ...]
    arguments: tuple[Any, ...]
    options: dict[str, Any]


_recorded: list[Call] | None = None


def start(kernel: Any, grid: tuple[int, ...], *arguments: Any, **options: Any) -> None:
    """Launch `kernel`, or only note the launch inside `recording()`."""
    if _recorded is None:
        kernel[grid](*arguments, **options)
    else:
        _recorded.append(Call(kernel, grid, arguments, options))


@contextmanager
def recording() -> Iterator[list[Call]]:
    """Collects what would be launched, so that it can be compiled without a device (`lowbit.ops.aot`)."""
    global _recorded
    calls: list[Call] = []
    _recorded = calls
    try:
        yield calls
    finally:
        _recorded = None


def _folder() -> Path:
    given = os.environ.get(CACHE_VARIABLE)
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(given) if given else root / "lowbit"


def cache_file(device_name: str) -> Path:
    """Where the choices for GPUs of this name are kept: `$LOWBIT_CACHE`, or `lowbit` in the user's cache."""
    return _folder() / f"{re.sub(r'[^A-Za-z0-9.]+', '-', device_name).strip('-')}.json"


class Choices:
    """Configurations chosen for the GPUs of one name: key -> name of a `Config`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.names: dict[str, str] = {}
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
            if value.get("version") == CACHE_VERSION:
                self.names = {str(key): str(name) for key, name in value["choices"].items()}
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
            # A damaged cache costs speed, not correctness.
            log.warning("%s: autotune cache is not readable (%s); it is ignored", path, error)

    def find(self, key: str, configs: Sequence[Config]) -> Config | None:
        """The choice for `key`, if it is one of `configs` still."""
        name = self.names.get(key)
        return next((entry for entry in configs if entry.name == name), None)

    def keep(self, key: str, chosen: Config) -> None:
        """Remember a choice and write the file atomically, with what other processes put there meanwhile."""
        self.names = {**Choices(self.path).names, **self.names, key: chosen.name}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        value = {"version": CACHE_VERSION, "choices": dict(sorted(self.names.items()))}
        partial.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
        partial.replace(self.path)


@functools.cache
def _choices(index: int) -> Choices:
    return Choices(cache_file(torch.cuda.get_device_name(index)))


_chosen: dict[tuple[str, int], Config] = {}
_tuning = False


@contextmanager
def tuning() -> Iterator[None]:
    """Within this block every key that is met for the first time on this GPU is measured and kept.

    Not for a block that captures a CUDA graph: measuring synchronises.
    """
    global _tuning
    before, _tuning = _tuning, True
    try:
        yield
    finally:
        _tuning = before


Launch = Callable[[Config], torch.Tensor]


def choose(key: str, configs: Sequence[Config], device: torch.device, launch: Launch) -> Config:
    """The configuration for `key`: measured before, measured now (in `tuning()`), or the list's first."""
    if device.type != "cuda":
        return configs[0]
    index = torch.cuda.current_device() if device.index is None else device.index
    found = _chosen.get((key, index))
    if found is not None and not _tuning:
        return found
    choices = _choices(index)
    found = choices.find(key, configs)
    if found is None and _tuning and not torch.cuda.is_current_stream_capturing():
        found = fastest(key, configs, launch)
        choices.keep(key, found)
    _chosen[(key, index)] = found or configs[0]
    return _chosen[(key, index)]


def fastest(key: str, configs: Sequence[Config], launch: Launch) -> Config:
    """Measure all `configs` on the current device and return the fastest.

    One whose output differs from the first configuration's by more than rounding, or that the device refuses,
    is passed over and logged. Raises `LowbitError` when none is left.
    """
    expected: torch.Tensor | None = None
    times: dict[Config, float] = {}
    for entry in configs:
        try:
            found = launch(entry).float()
            times[entry] = _milliseconds(functools.partial(launch, entry))
        except Exception as error:
            # What a compiler or driver raises for a tile that does not fit has no common class.
            log.warning("%s: configuration %s does not run (%s)", key, entry.name, error)
            continue
        expected = found if expected is None else expected
        largest = float(expected.abs().max()) if expected.numel() else 0.0
        if found.numel() and not float((found - expected).abs().max()) <= AGREEMENT * max(largest, 1e-6):
            log.warning("%s: configuration %s disagrees with %s", key, entry.name, configs[0].name)
            del times[entry]
    if not times:
        raise LowbitError(f"{key}: no configuration runs on this device")
    return min(times, key=times.__getitem__)


def _milliseconds(run: Callable[[], object]) -> float:
    """Median time of a run. The L2 cache is overwritten before each, as a model's other layers would do."""
    cache = torch.empty(256 << 20, dtype=torch.int8, device="cuda")
    for _ in range(WARMUP):
        run()
    times = []
    for _ in range(REPEATS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        cache.zero_()
        start.record()
        run()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return statistics.median(times)
