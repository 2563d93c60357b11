"""What the tests of the gates in the stage share."""

from __future__ import annotations

from pathlib import Path

import adapt_fakes as fakes
import finegates_fakes
import pytest


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards and a base of three layers."""
    return fakes.make_base(tmp_path_factory.mktemp("gated"), **finegates_fakes.LAYERS)
