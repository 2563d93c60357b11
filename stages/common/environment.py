"""The one place where telemetry, network and threads are set; imported before anything heavy."""

from __future__ import annotations

import gc
import importlib.util
import os
import sys

QUIET = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "true",  # MLflow obeys the word `true` only
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DVC_NO_ANALYTICS": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TQDM_MININTERVAL": "1",
}
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
# Set to anything, it does for a stage what `-v` does; `gorn run -v` sets it, for DVC stands between the two.
VERBOSE = "GORN_VERBOSE"
# glibc gives freed tensors back to the kernel after every step unless told otherwise.
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "4000000000", "MALLOC_TRIM_THRESHOLD_": "8000000000"}


def quiet(offline: bool = True) -> None:
    """Switch telemetry off and, unless `offline` is false, the hub too. What is set already stands."""
    for name, value in {**QUIET, **(OFFLINE if offline else {})}.items():
        os.environ.setdefault(name, value)


def skip_plugins() -> None:
    """Keep Pydantic from reading the metadata of everything installed in search of plugins; we have none.

    Called before the first model is made.
    """
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")


def use_allocator() -> None:
    """Begin this program anew with the allocator's settings, unless it has them: glibc reads them once, at
    the start.
    """
    missing = {name: value for name, value in ALLOCATOR.items() if name not in os.environ}
    if missing:
        os.environ.update(missing)
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def prepare_imports() -> None:
    """Shorten the imports of torch and Transformers, which every stage begins with."""
    # The collector would walk the ever more objects of an import again and again.
    gc.set_threshold(100_000, 50, 1000)
    # Run from the repository, Transformers takes its folder kernels/ for the package of that name and reads
    # the file lists of everything installed to find its version. A folder has no origin.
    found = importlib.util.find_spec("kernels")
    if found is not None and found.origin is None:
        sys.modules["kernels"] = None  # type: ignore[assignment]


def fix_threads(threads: int) -> None:
    """Use `threads` CPU threads everywhere: results depend on the number, so it is a parameter."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(threads)
    import torch

    torch.set_num_threads(threads)
    # Not `use_deterministic_algorithms`, which imports the whole compiler: seconds at every start of a stage.
    torch.set_deterministic_debug_mode("warn")
    # Deterministic mode would fill every fresh tensor with NaN: a tenth of a training step, for no result.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
