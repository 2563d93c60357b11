"""What tests of several stages share; its folder puts `training_fakes` on the path."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

FileLimit = Callable[[int], AbstractContextManager[None]]


@pytest.fixture(scope="session")
def shards_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small `out/tokens` with `world-ru` and `world-en`; only to be read."""
    from training_fakes import make_shards

    return make_shards(tmp_path_factory.mktemp("tokens") / "tokens")


@pytest.fixture
def file_limit() -> FileLimit:
    """`with file_limit(4096):` no file of this process may grow beyond that."""

    @contextmanager
    def limited(size: int) -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limited
