"""dvc.yaml, the stages and their code agree: what is read but not declared would leave a stale cache."""

from __future__ import annotations

import ast
import importlib
import json
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from stages.common import manifest
from stages.common.hashing import sha256_path
from stages.common.params import Params, parse
from stages.common.stage import Stage

ROOT = Path(__file__).resolve().parent.parent
ANCHORS = {"base": [{"metric": "bpc_en", "margin": 0.05, "relative": True}]}
PACKAGES = ("stages", "evals", "flows", "lowbit")


@cache
def _graph() -> dict[str, dict[str, Any]]:
    files = (ROOT / "stages" / "dvc.yaml", ROOT / "dvc.yaml")
    graphs = [yaml.safe_load(file.read_text(encoding="utf-8"))["stages"] for file in files]
    return {name: entry for stages in graphs for name, entry in stages.items()}


def _body(entry: dict[str, Any]) -> dict[str, Any]:
    return dict(entry.get("do", entry))


def _module(entry: dict[str, Any]) -> str:
    return str(_body(entry)["cmd"]).split()[2]


def _stage(entry: dict[str, Any]) -> Stage:
    name = _module(entry)
    for candidate in (name, f"{name}.stage", f"{name}.__main__"):
        try:
            module = importlib.import_module(candidate)
        except ModuleNotFoundError:
            continue
        if hasattr(module, "STAGE"):
            return module.STAGE  # type: ignore[no-any-return]
    raise AssertionError(f"{name} defines no STAGE")


def graph_stages() -> list[Stage]:
    """The stages of the graph, each once, in the order in which it lists them."""
    found: dict[str, Stage] = {}
    for entry in _graph().values():
        stage = _stage(entry)
        found.setdefault(stage.name, stage)
    return list(found.values())


def _paths(items: list[Any]) -> set[str]:
    return {next(iter(item)) if isinstance(item, dict) else item for item in items}


def _cell(entry: dict[str, Any], params: Params) -> str | None:
    words = str(_body(entry)["cmd"]).split()
    if len(words) < 4:
        return None
    cells = {
        "${candidates}": params.candidates,
        "${evaluate.endpoints}": params.evaluate.endpoints,
        "${gate.against_anchor}": ANCHORS,
    }
    return next(iter(cells[entry["foreach"]])) if "key" in words[3] else words[3]


def _params() -> Params:
    """The default run, with a rule against a fixed model and a model behind an address: two stages more."""
    values = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    values["gate"]["against_anchor"] = ANCHORS
    named = {"api": {"address": "http://localhost:1/v1", "model": "m"}}
    values["evaluate"] |= {"mode": "generate", "texts_may_leave": True, "endpoints": named}
    return parse(values, "params.yaml")


def _fill(path: str, cell: str | None, params: Params) -> str:
    champion = json.loads((ROOT / "champion.json").read_text(encoding="utf-8"))
    filled = path.replace("${path}", champion["path"])
    if cell in params.candidates:
        filled = filled.replace("${item.source}", params.candidates[cell].source)
    return filled.replace("${key}", cell or "")


@pytest.mark.parametrize("name", sorted(_graph()))
def test_declared_parameters_are_those_read(name: str) -> None:
    entry = _graph()[name]
    keys = _body(entry).get("params", [])
    keys = [key for item in keys for key in (item["params.yaml"] if isinstance(item, dict) else [item])]
    declared = {str(key).replace("candidates.${key}", "candidates") for key in keys}
    assert declared == set(_stage(entry).reads)


@pytest.mark.parametrize("name", sorted(_graph()))
def test_declared_outs_and_inputs_are_those_of_the_stage(name: str) -> None:
    entry, params = _graph()[name], _params()
    stage, cell = _stage(entry), _cell(entry, params)
    inputs, outputs = stage.locate(params, cell)
    outs = {_fill(path, cell, params) for path in _paths(_body(entry)["outs"])}
    expected = {str(path) for path in outputs.values()}
    if not stage.checkpoint:
        expected.add(str(manifest.sidecar(next(iter(outputs.values())))))
    assert outs == expected
    deps = {_fill(path, cell, params) for path in _body(entry)["deps"]}
    for path in inputs.values():
        assert any(Path(dep) == path or Path(dep) in path.parents for dep in deps), f"{path} is not declared"


def _out_options(entry: dict[str, Any]) -> list[dict[str, Any]]:
    return [next(iter(out.values())) if isinstance(out, dict) else {} for out in _body(entry)["outs"]]


@pytest.mark.parametrize("name", sorted(_graph()))
def test_dvc_removes_no_out_before_a_stage_runs(name: str) -> None:
    assert all(options.get("persist") for options in _out_options(_graph()[name]))


@pytest.mark.slow
def test_a_stage_that_fails_leaves_its_earlier_outs(tmp_path: Path) -> None:
    for folder in ("stages", "evals"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("params.yaml", "champion.json"):
        shutil.copyfile(ROOT / file, tmp_path / file)
    stages = {"corpus": _graph()["corpus"]}
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}), encoding="utf-8")
    values = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    values["corpus"]["sources"][0] |= {"size": 0.05, "tasks_per_kind": 20}

    def repro(**corpus: Any) -> subprocess.CompletedProcess[str]:
        text = yaml.safe_dump({**values, "corpus": values["corpus"] | corpus})
        (tmp_path / "params.yaml").write_text(text, encoding="utf-8")
        command = ["dvc", "repro", "corpus"]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    subprocess.run(["dvc", "init", "-q", "--no-scm"], cwd=tmp_path, check=True)
    done = repro()
    assert done.returncode == 0, done.stderr
    before = sha256_path(tmp_path / "out" / "corpus")
    failed = repro(min_chars=100_000)
    assert failed.returncode != 0
    assert "corpus: nothing is left" in failed.stderr
    assert sha256_path(tmp_path / "out" / "corpus") == before


@cache
def _file(module: str) -> Path | None:
    relative = Path(*module.split("."))
    base = ROOT / "kernels" if module.split(".")[0] == "lowbit" else ROOT
    for path in (base / relative / "__init__.py", (base / relative).with_suffix(".py")):
        if path.is_file():
            return path
    return None


@cache
def _imports(path: Path, module: str) -> set[str]:
    """Modules of this repository that the file imports anywhere, inside functions too."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")
                base = ".".join(
                    [*parts[: len(parts) - node.level + 1], *([node.module] if node.module else [])]
                )
            found |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return {name for name in found if name.split(".")[0] in PACKAGES and _file(name)}


def _closure(module: str) -> set[Path]:
    queue, seen = [module, f"{module}.__main__", f"{module}.stage"], set()
    while queue:
        name = queue.pop()
        path = _file(name)
        if name in seen or path is None:
            continue
        seen.add(name)
        queue += _imports(path, name)
        queue.append(name.rpartition(".")[0])
    return {path for name in seen if (path := _file(name))}


@pytest.mark.parametrize("name", sorted(_graph()))
def test_imported_code_is_declared(name: str) -> None:
    entry = _graph()[name]
    deps = [ROOT / path for path in _paths(_body(entry)["deps"])]
    package_roots = {ROOT / "stages/__init__.py"}
    missing = [
        str(path.relative_to(ROOT))
        for path in sorted(_closure(_module(entry)) - package_roots)
        if not any(dep == path or dep in path.parents for dep in deps)
    ]
    assert not missing, f"{name} imports code that dvc.yaml does not list: {missing}"
