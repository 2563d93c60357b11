"""Task declarations for lm-eval: a template per kind of answer, and one YAML file per task of MERA.

`choice.yaml` and `generate.yaml` are the templates. A task that describes itself (a `tasks/index.json` beside
its records) needs nothing more; a MERA task has its choices, version and layout in `mera/<task>.yaml`.
"""

from __future__ import annotations

import importlib.util
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

from evals.errors import EvalError

FOLDER = Path(__file__).resolve().parent
KINDS = ("choice", "generate")
TWIN = "_gen"


@cache
def manager() -> Any:
    """lm-eval's `TaskManager` over this folder alone: indexing its 13,000 own tasks takes 18 s.

    Raises `EvalError` when a YAML file of this folder was not indexed: lm-eval skips broken ones in silence.
    """
    from lm_eval.tasks import TaskManager

    found = TaskManager(include_defaults=False, include_path=str(FOLDER))
    indexed = {str(entry.yaml_path) for entry in found.task_index.values()}
    for path in sorted(FOLDER.rglob("*.yaml")):
        if str(path) not in indexed:
            raise EvalError(
                f"{path}: lm-eval cannot read this task declaration; check its YAML and its task name"
            )
    return found


def template(kind: str) -> dict[str, Any]:
    """The configuration for tasks of `kind` (choice or generate), functions resolved. Raises `EvalError`."""
    if kind not in KINDS:
        raise EvalError(f"task type `{kind}` is not built; built: {', '.join(KINDS)}")
    return _read(FOLDER / f"{kind}.yaml")


def declaration(task: str) -> dict[str, Any] | None:
    """The configuration of a MERA task by its name, in any case; None when this folder declares none.

    A choice task has a generative twin, `<task>_gen`: the same prompts, and an answer that is written out.
    """
    name = task.lower()
    path = FOLDER / "mera" / f"{name.removesuffix(TWIN)}.yaml"
    if not path.is_file():
        return None
    config = _read(path)
    if not name.endswith(TWIN):
        return config
    return _twin(config) if config["output_type"] == "multiple_choice" else None


def mera() -> list[str]:
    """The names of the declared MERA tasks, without their twins, sorted."""
    return sorted(path.stem for path in (FOLDER / "mera").glob("*.yaml"))


def _twin(config: dict[str, Any]) -> dict[str, Any]:
    """The generative form of a choice task: MERA counts equal answers where the other counts the likelier."""
    metrics = ["em" if name == "acc" else name for name in config["metadata"]["metrics"]]
    written = template("generate")
    return {
        **written,
        "task": config["task"] + TWIN,
        "metadata": {**config["metadata"], "choices": config["doc_to_choice"], "metrics": metrics},
    }


def _read(path: Path) -> dict[str, Any]:
    # A suite asks for the same few templates again and again; callers change what they get.
    return deepcopy(_loaded(path))


@cache
def _loaded(path: Path) -> dict[str, Any]:
    return dict(_reader().load_yaml(path))


@cache
def _reader() -> Any:
    """lm-eval's reader of YAML, which needs nothing but PyYAML; its package takes seconds to import."""
    package = importlib.util.find_spec("lm_eval")
    folder = Path(next(iter((package and package.submodule_search_locations) or ())))
    spec = importlib.util.spec_from_file_location("_lm_eval_yaml", folder / "tasks" / "_yaml_loader.py")
    if spec is None or spec.loader is None:
        raise EvalError(f"{folder}: lm-eval is not whole; install the locked versions (`make install`)")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
