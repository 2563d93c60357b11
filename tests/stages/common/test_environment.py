"""What is set before anything heavy is imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ASK = """
import importlib.util
from stages.common import environment
environment.prepare_imports()
print(importlib.util.find_spec("kernels") is not None)
"""


@pytest.mark.parametrize(("installed", "seen"), [(False, "False"), (True, "True")])
def test_only_an_installed_package_kernels_is_seen(
    root: Path, tmp_path: Path, installed: bool, seen: str
) -> None:
    if installed:
        (tmp_path / "kernels").mkdir()
        (tmp_path / "kernels" / "__init__.py").touch()
    command = [sys.executable, "-c", f"import sys; sys.path.append({str(tmp_path)!r})\n{ASK}"]
    done = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == seen
