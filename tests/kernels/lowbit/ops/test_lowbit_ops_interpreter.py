"""Every kernel against its reference in Triton's interpreter.

The interpreter is chosen when Triton is imported, so the cases run in a process of their own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CASES = sorted(path.stem for path in Path(__file__).parent.glob("case_*.py"))


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_case(case: str, root: Path) -> None:
    file = Path(__file__).with_name(f"{case}.py")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:xdist",
            "--noconftest",
            str(file),
        ],
        env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        cwd=root,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
