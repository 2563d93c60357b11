"""Every kernel against its reference in Triton's interpreter.

The interpreter is chosen when Triton is imported, so the cases run in a process of their own: one for all,
for its imports take as long as the cases of a kernel.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CASES = sorted(Path(__file__).parent.glob("case_*.py"))


@pytest.fixture(scope="module")
def told(root: Path) -> str:
    """What pytest says of every case under the interpreter."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist"),
            *("--noconftest", "-rA", "--show-capture=no", *map(str, CASES)),
        ],
        env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        cwd=root,
        capture_output=True,
        text=True,
    )
    return done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("file", CASES, ids=lambda file: file.stem)
def test_case(file: Path, told: str, root: Path) -> None:
    name = file.relative_to(root).as_posix()
    ended = [line for line in told.splitlines() if f" {name}" in line]
    assert ended, told[-4000:]
    assert {line.split()[0] for line in ended} == {"PASSED"}, told[-6000:]
