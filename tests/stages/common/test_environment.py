"""What is set before anything heavy is imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stages.common import environment
from stages.common.params import block

ASK = """
import importlib.util
from stages.common import environment
environment.prepare_imports()
print(importlib.util.find_spec("kernels") is not None)
"""


BEGIN = """
import os
from stages.common import environment
environment.use_allocator()
print(os.getpid(), os.environ["MALLOC_MMAP_THRESHOLD_"])
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


def test_a_stage_runs_with_the_allocator_even_without_gorn(root: Path) -> None:
    """glibc reads the settings at the start, so the program begins anew, once, as the same process."""
    env = {name: value for name, value in os.environ.items() if name not in environment.ALLOCATOR}
    with subprocess.Popen(
        [sys.executable, "-c", BEGIN], cwd=root, env=env, text=True, stdout=subprocess.PIPE
    ) as program:
        told = program.communicate()[0].split()
    assert told == [str(program.pid), environment.ALLOCATOR["MALLOC_MMAP_THRESHOLD_"]]


def test_what_the_caller_says_of_the_allocator_stands(root: Path) -> None:
    env = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "1000000"}
    done = subprocess.run(
        [sys.executable, "-c", BEGIN], cwd=root, env=env, check=True, capture_output=True, text=True
    )
    assert done.stdout.strip().split()[1] == "1000000"


def test_the_models_of_params_yaml_search_for_no_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pydantic would read the metadata of everything installed, in every process of ours."""
    assert block.Block and os.environ["PYDANTIC_DISABLE_PLUGINS"] == "__all__"
    monkeypatch.setenv("PYDANTIC_DISABLE_PLUGINS", "one")
    environment.skip_plugins()
    assert os.environ["PYDANTIC_DISABLE_PLUGINS"] == "one"
