"""One default-sized and one test-sized world for all tests of this folder."""

from __future__ import annotations

import pytest

from stages.corpus.world import World, generate

SEED = 7


@pytest.fixture(scope="session")
def world() -> World:
    return generate(SEED, 1.0, 220)


@pytest.fixture(scope="session")
def small_world() -> World:
    return generate(SEED, 0.05, 20)
