"""The machine that the numbers belong to. Measurements may hold host facts; no other out may."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any


def describe(library: dict[str, Any]) -> dict[str, Any]:
    """CPU, cores, memory and load of this machine, with what the child said about its libraries and GPU.

    `load_average` is that of the last minute: well above the threads in use, it says that neighbours were
    busy.
    """
    import psutil

    return {
        "cpu": cpu_model(),
        "cores": psutil.cpu_count(logical=False),
        "logical_cores": psutil.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "load_average": round(os.getloadavg()[0], 2),
        **library,
    }


def cpu_model(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The CPU's model name as Linux tells it, else what Python's `platform` knows."""
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return " ".join(value.split())
    return platform.processor() or platform.machine()


def peak_rss_bytes(status: Path = Path("/proc/self/status")) -> int:
    """Peak resident memory of this process.

    Linux's VmHWM begins anew at exec; `getrusage` would also hold what the parent had before it started us.
    """
    if status.exists():
        for line in status.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if platform.system() == "Darwin" else peak * 1024
