"""Registers `lowbit` with Transformers at the moment Transformers loads its own registries, not before.

Importing Transformers' quantisers and models takes seconds; `import lowbit` must not. What is imported
already is extended at once; otherwise a finder waits for the module and extends it right after it has run.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.util
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

# Model types of layers with widths of their own: of the stock family, with this before its name.
PREFIX = "lowbit_"
FAMILIES = ("llama", "mistral", "qwen2", "qwen3")


class _Loader(importlib.abc.Loader):
    """The target's own loader, and a registration after it."""

    def __init__(self, inner: importlib.abc.Loader, register: Callable[[], None]) -> None:
        self._inner, self._register = inner, register

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._inner.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._inner.exec_module(module)
        # Later imports, importlib.reload and pickling of the module's classes see the usual loader.
        module.__loader__ = self._inner
        if module.__spec__ is not None:
            module.__spec__.loader = self._inner
        self._register()


class _Finder(importlib.abc.MetaPathFinder):
    """Finds only `target`, once, through the finders behind it."""

    def __init__(self, target: str, register: Callable[[], None]) -> None:
        self.target, self._register = target, register

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        if fullname != self.target:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, self._register)
        return spec


class _Waiting(dict[str, Any]):
    """Configuration classes by model type, of which ours are imported when the first of them is wanted."""

    def __init__(self, known: dict[str, Any], waiting: Iterable[str]) -> None:
        super().__init__(known)
        self.update(dict.fromkeys(waiting))

    def _arrive(self) -> None:
        if any(value is None for value in super().values()):
            importlib.import_module("lowbit.layerwise")

    def __getitem__(self, key: str) -> Any:
        if super().__getitem__(key) is None:
            self._arrive()
        return super().__getitem__(key)

    def values(self) -> Any:
        self._arrive()
        return super().values()

    def items(self) -> Any:
        self._arrive()
        return super().items()


def _register_quantizer() -> None:
    # The module registers itself when it has run; it may be the very one that is importing Transformers
    # just now.
    importlib.import_module("lowbit.integration")


def _register_models() -> None:
    """Announce our model types; their classes need modelling code that cannot be imported just now."""
    known: Any = sys.modules["transformers.models.auto.configuration_auto"].CONFIG_MAPPING
    if not isinstance(known._extra_content, _Waiting):
        known._extra_content = _Waiting(known._extra_content, (PREFIX + family for family in FAMILIES))


def _register_tokenizers() -> None:
    """Give our model types the tokenizer class of their family: it stands over what a checkpoint says."""
    module = sys.modules["transformers.models.auto.tokenization_auto"]
    names: dict[str, Any] = getattr(module, "TOKENIZER_MAPPING_NAMES", {})
    corrected: set[str] = getattr(module, "MODELS_WITH_INCORRECT_HUB_TOKENIZER_CLASS", set())
    for family in FAMILIES:
        if family in names:
            names[PREFIX + family] = names[family]
        if family in corrected:
            corrected.add(PREFIX + family)


TARGETS = {
    "transformers.quantizers.auto": _register_quantizer,
    "transformers.models.auto.configuration_auto": _register_models,
    "transformers.models.auto.tokenization_auto": _register_tokenizers,
}


def install() -> None:
    """Register now, or as soon as Transformers' registries are imported."""
    waiting = {finder.target for finder in sys.meta_path if isinstance(finder, _Finder)}
    for target, register in TARGETS.items():
        if target in sys.modules:
            register()
        elif target not in waiting:
            sys.meta_path.insert(0, _Finder(target, register))
