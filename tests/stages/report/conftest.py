"""Reports of invented results: one that tests only read, and one of its own for a test that changes it."""

from __future__ import annotations

from pathlib import Path

import pytest
from report_fake_out import Project, new_project


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Results that the test may change before it writes the report."""
    monkeypatch.chdir(tmp_path)
    return new_project(tmp_path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A report of unchanged results, written once."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        project = new_project(folder)
        project.report()
    return project
