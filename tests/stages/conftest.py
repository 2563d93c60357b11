"""Packed shards that the tests of the training stages share; its folder puts `training_fakes` on the path."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shards_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small `out/tokens` with `world-ru` and `world-en`; only to be read."""
    from training_fakes import make_shards

    return make_shards(tmp_path_factory.mktemp("tokens") / "tokens")
