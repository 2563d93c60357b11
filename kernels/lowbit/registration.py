"""Registers `lowbit` with Transformers at the moment Transformers loads its own quantisers, not before.

Importing Transformers' quantisers takes seconds; `import lowbit` must not. If they are imported already
they are extended at once; otherwise a finder waits for `transformers.quantizers.auto` and registers right
after that module has run.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.util
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

TARGET = "transformers.quantizers.auto"


class _Loader(importlib.abc.Loader):
    """The target's own loader, and a registration after it."""

    def __init__(self, inner: importlib.abc.Loader) -> None:
        self._inner = inner

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._inner.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._inner.exec_module(module)
        # Later imports, importlib.reload and pickling of the module's classes see the usual loader.
        module.__loader__ = self._inner
        if module.__spec__ is not None:
            module.__spec__.loader = self._inner
        _register()


class _Finder(importlib.abc.MetaPathFinder):
    """Finds only `TARGET`, once, through the finders behind it."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        if fullname != TARGET:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


def _register() -> None:
    # The module registers itself when it has run; it may be the very one that is importing Transformers
    # just now.
    importlib.import_module("lowbit.integration")


def install() -> None:
    """Register now, or as soon as Transformers' quantisers are imported."""
    if TARGET in sys.modules:
        _register()
    elif not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
