"""Reads params.yaml once, whole, and gives a stage the blocks that it declared and nothing else."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from stages.common.errors import UserError
from stages.common.params.schema import Params

PARAMS_FILE = Path("params.yaml")
# libyaml's reader is many times faster; some builds of PyYAML come without it.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def load(path: Path = PARAMS_FILE) -> Params:
    """Parse and check the whole file.

    Raises `UserError` that names the file, the key, what was given and what is allowed.
    """
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=LOADER)
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
    location, known = _walk([part for part in item["loc"] if not str(part).startswith("function-")])
    key = ".".join(str(part) for part in location) or "(the file)"
    match item["type"]:
        case "extra_forbidden":
            return f"unknown key `{key}`{_suggestion(str(location[-1]), known)}"
        case "missing":
            return f"key `{key}` is missing"
        case "value_error":
            said = item["msg"].removeprefix("Value error, ")
            return f"key `{key}`: {said}" if location else said
        case _:
            return f"key `{key}` is {item['input']!r}; {item['msg'][0].lower()}{item['msg'][1:]}"


def _suggestion(key: str, known: list[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1)
    if near:
        return f"; did you mean `{near[0]}`?"
    return f"; allowed: {', '.join(sorted(known))}" if known else ""


def _walk(location: list[Any]) -> tuple[list[Any], list[str]]:
    """`location` as params.yaml has it, and the keys that its last block may have.

    Pydantic also names the member of a union, which is no key of the file.
    """
    blocks: list[type[BaseModel]] = [Params]
    shown: list[Any] = []
    known: list[str] = []
    for part in location:
        if chosen := [block for block in blocks if part in _tags(block)]:
            blocks = chosen
            continue
        shown.append(part)
        known = sorted({name for block in blocks for name in block.model_fields})
        fields = [block.model_fields[part] for block in blocks if part in block.model_fields]
        if fields:
            blocks = [block for field in fields for block in _blocks(field.annotation)]
    return shown, known


def _tags(block: type[BaseModel]) -> tuple[Any, ...]:
    kind = block.model_fields.get("type")
    return get_args(kind.annotation) if kind else ()


def _blocks(annotation: Any) -> list[type[BaseModel]]:
    """The blocks that `annotation` is made of: itself, or those of an optional, a list or a dictionary."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [block for part in get_args(annotation) for block in _blocks(part)]


class Reads(SimpleNamespace):
    """The keys that a stage declared; reading another one is a bug that would leave a stale cache."""

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"key `{name}` of params.yaml is not among those this stage declares to read")


def select(params: Params, keys: Iterable[str], cell: str | None = None) -> Reads:
    """The named blocks (`judge`) and single keys of blocks (`judge.enabled`) of `params`, nothing else.

    A matrix stage sees only its own cell of `candidates` and of `evaluate.endpoints`.
    """
    chosen = Reads()
    for key in keys:
        block, _, part = key.partition(".")
        value = getattr(params, block)
        if part:
            vars(chosen).setdefault(block, Reads())
            setattr(getattr(chosen, block), part, getattr(value, part))
        else:
            setattr(chosen, block, value)
    if cell is not None and "candidates" in vars(chosen):
        chosen.candidates = {cell: params.candidates[cell]}
    if cell is not None and isinstance(vars(chosen).get("evaluate"), BaseModel):
        own = {name: value for name, value in params.evaluate.endpoints.items() if name == cell}
        chosen.evaluate = params.evaluate.model_copy(update={"endpoints": own})
    return chosen


def resolved(reads: Reads) -> dict[str, Any]:
    """What was read as plain JSON values with every default filled in, for the manifest."""
    return {name: _plain(value) for name, value in sorted(vars(reads).items())}


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Reads):
        return resolved(value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value
