"""Reads params.yaml once, whole, and gives a stage the blocks that it declared and nothing else."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml
from pydantic import ValidationError

from stages.common.errors import UserError
from stages.common.params.schema import Params

PARAMS_FILE = Path("params.yaml")


def load(path: Path = PARAMS_FILE) -> Params:
    """Parse and check the whole file.

    Raises `UserError` that names the file, the key, what was given and what is allowed.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(
            f"{path}: no such file; run in the project's folder, or `gorn use PROFILE`"
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from error
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected blocks of keys, found {type(values).__name__}")
    return parse(values, str(path))


def parse(values: dict[str, Any], where: str) -> Params:
    """Check `values`, the content of `where`. Raises `UserError`."""
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{where}: {'; '.join(_explain(item) for item in error.errors())}") from error


def _explain(item: Any) -> str:
    location = [part for part in item["loc"] if not (isinstance(part, str) and part.startswith("function-"))]
    key = ".".join(str(part) for part in location) or "(the file)"
    match item["type"]:
        case "extra_forbidden":
            return f"unknown key `{key}`{_suggestion(location)}"
        case "missing":
            return f"key `{key}` is missing"
        case "value_error":
            return f"key `{key}`: {item['msg'].removeprefix('Value error, ')}"
        case _:
            return f"key `{key}` is {item['input']!r}; {item['msg'][0].lower()}{item['msg'][1:]}"


def _suggestion(location: list[Any]) -> str:
    known = _known_keys(location[:-1])
    near = difflib.get_close_matches(str(location[-1]), known, n=1)
    if near:
        return f"; did you mean `{near[0]}`?"
    return f"; allowed: {', '.join(sorted(known))}" if known else ""


def _known_keys(location: list[Any]) -> list[str]:
    model: Any = Params
    for part in location:
        field = getattr(model, "model_fields", {}).get(part)
        if field is None:
            return []
        model = field.annotation
    return list(getattr(model, "model_fields", {}))


class Reads(SimpleNamespace):
    """The blocks that a stage declared; reading another one is a bug that would leave a stale cache."""

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"block `{name}` of params.yaml is not among those this stage declares to read")


def select(params: Params, blocks: Iterable[str], cell: str | None = None) -> Reads:
    """The named blocks of `params`, no others. A matrix stage sees only its own cell of `candidates`."""
    chosen = {block: getattr(params, block) for block in blocks}
    if cell is not None and "candidates" in chosen:
        chosen["candidates"] = {cell: params.candidates[cell]}
    return Reads(**chosen)


def resolved(reads: Reads) -> dict[str, Any]:
    """The blocks as plain JSON values with every default filled in, for the manifest."""
    return {
        name: value.model_dump(mode="json") if hasattr(value, "model_dump") else _plain(value)
        for name, value in sorted(vars(reads).items())
    }


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: item.model_dump(mode="json") if hasattr(item, "model_dump") else item
            for key, item in value.items()
        }
    return value
