"""`gorn doctor`: what of this machine would get in the way of a run, and what to do about it."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TextIO

from flows import graph, ports, settings
from flows.source import git
from stages.common import environment
from stages.common.errors import UserError, one_line
from stages.common.params import load

LOCK_NAMES = ("requirements.lock", "requirements.txt", "uv.lock")
PINNED = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s;+]+)")
NEEDED_BYTES = 5 * 10**9
PORTS = {4200: "Prefect (`gorn ui`, `gorn serve`)", 5000: "MLflow (`gorn ui`)"}


@dataclass(frozen=True)
class Finding:
    """One thing looked at: `ok`, `note` (works, but know it) or `bad` (a run will fail)."""

    level: str
    what: str
    text: str


def report(stream: TextIO) -> int:
    """Print every finding; 1 when one of them is bad, else 0."""
    found = [finding for check in CHECKS for finding in check()]
    for finding in found:
        stream.write(f"{finding.level:<5}{finding.what:<12}{finding.text}\n")
    bad = sum(finding.level == "bad" for finding in found)
    stream.write(f"{bad} problem{'s' if bad != 1 else ''} to mend\n" if bad else "ready: `gorn run`\n")
    return 1 if bad else 0


def python() -> Iterator[Finding]:
    """Interpreter and platform."""
    where = f"{platform.python_version()} at {sys.executable}, {platform.platform(terse=True)}"
    yield Finding("ok", "python", where)


def packages() -> Iterator[Finding]:
    """Installed versions against the lock file."""
    lock = next((Path(name) for name in LOCK_NAMES if Path(name).exists()), None)
    if lock is None:
        yield Finding("note", "packages", "no lock file here to compare with")
        return
    wrong = list(differences(lock.read_text(encoding="utf-8")))
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        yield Finding(
            "note", "packages", f"{', '.join(wrong[:3])}{more} against {lock}; `make install` mends it"
        )
    else:
        yield Finding("ok", "packages", f"as in {lock}")


def differences(lock: str) -> Iterator[str]:
    """`name installed (locked)` for every pinned package whose installed version is another."""
    for line in lock.splitlines():
        pinned = PINNED.match(line.strip())
        # A pin under a condition (`; platform_system == ...`) may not concern this machine.
        if not pinned or ";" in line:
            continue
        try:
            installed = version(pinned["name"]).partition("+")[0]
        except PackageNotFoundError:
            yield f"{pinned['name']} missing ({pinned['version']})"
            continue
        if installed != pinned["version"]:
            yield f"{pinned['name']} {installed} ({pinned['version']})"


def parameters() -> Iterator[Finding]:
    """params.yaml and the graph of dvc.yaml."""
    try:
        params = load()
        nodes = graph.stages()
    except UserError as error:
        yield Finding("bad", "params", one_line(error))
        return
    yield Finding("ok", "params", f"{len(params.candidates)} candidates, {len(nodes)} stages")
    cores = os.cpu_count() or 1
    if params.threads > cores:
        yield Finding(
            "note", "threads", f"params.yaml says {params.threads}, this machine has {cores}; it will be slow"
        )
    else:
        yield Finding("ok", "threads", f"{params.threads} of {cores}")


def device() -> Iterator[Finding]:
    """CUDA, and whether params.yaml can have what it asks for."""
    import torch

    has_cuda = torch.cuda.is_available()
    name = torch.cuda.get_device_name(0) if has_cuda else "no GPU; everything runs on the CPU"
    try:
        wanted = load().device
    except UserError:
        return
    if wanted == "cuda" and not has_cuda:
        yield Finding("bad", "device", "params.yaml says cuda, but torch sees no GPU; set device: auto")
    else:
        yield Finding("ok", "device", name)


def four_bits() -> Iterator[Finding]:
    """bitsandbytes, where params.yaml asks for a 4-bit base."""
    try:
        wanted = load().adapt.nf4
    except UserError:
        return
    try:
        installed = version("bitsandbytes")
    except PackageNotFoundError:
        if wanted:
            text = "params.yaml says adapt.nf4, bitsandbytes is not installed; `make baselines`, or set false"
            yield Finding("bad", "nf4", text)
        return
    yield Finding("ok", "nf4", f"bitsandbytes {installed}, {'asked for' if wanted else 'not asked for'}")


def repository() -> Iterator[Finding]:
    """git, DVC and their state."""
    if git("--version") is None:
        yield Finding("bad", "git", "not found; install it, DVC needs it")
    elif git("rev-parse", "HEAD") is None:
        yield Finding(
            "note", "git", "this folder is no repository with a commit; runs are recorded without one"
        )
    else:
        yield Finding("ok", "git", f"commit {(git('rev-parse', 'HEAD') or '')[:12]}")
    if not Path(".dvc").is_dir():
        yield Finding("bad", "dvc", "this folder has no .dvc; run `dvc init`")
    else:
        yield Finding("ok", "dvc", version("dvc"))


def disk() -> Iterator[Finding]:
    """Free space under the checkout."""
    free = shutil.disk_usage(".").free
    text = f"{free / 1e9:.1f} GB free"
    if free < NEEDED_BYTES:
        yield Finding("note", "disk", f"{text}; real profiles want {NEEDED_BYTES / 1e9:.0f} GB and more")
    else:
        yield Finding("ok", "disk", text)


def stores() -> Iterator[Finding]:
    """Folders that a run writes to, and the tracking store."""
    for folder in (settings.STATE, Path("out"), settings.model_store()):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            yield Finding("bad", "store", f"{folder}: cannot be written ({error.strerror})")
            continue
        yield Finding("ok", "store", f"{folder} is writable")
    from flows.registry import connect

    try:
        connect(load().promotion)
    except UserError as error:
        yield Finding("bad", "mlflow", one_line(error))
    else:
        yield Finding("ok", "mlflow", settings.shown(settings.tracking_uri()))


def network() -> Iterator[Finding]:
    """Ports, and the switches that keep tools quiet."""
    for port, what in PORTS.items():
        if ports.in_use(port):
            yield Finding("note", "port", f"{port} is in use; {what} needs another one")
        else:
            yield Finding("ok", "port", f"{port} is free for {what}")
    loud = [name for name, value in environment.QUIET.items() if os.environ.get(name) != value]
    if loud:
        yield Finding(
            "note",
            "telemetry",
            f"the environment overrides {', '.join(loud)}; unset them to keep tools quiet",
        )
    else:
        yield Finding("ok", "telemetry", "switched off")


CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    python,
    packages,
    parameters,
    device,
    four_bits,
    repository,
    disk,
    stores,
    network,
)
