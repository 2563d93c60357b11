"""How a stage runs: parameters in, staged outs, manifest, rename; errors as one line and an exit status."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.common import environment, faults, manifest
from stages.common.atomic import disk_errors, partial_name, replace_folder, write_json
from stages.common.errors import EXIT_OURS, EXIT_USER, UserError, one_line
from stages.common.manifest import Facts
from stages.common.params import Params, load, resolved, select

Paths = Mapping[str, Path]
OUT = Path("out")


@dataclass(frozen=True)
class Stage:
    """One stage of dvc.yaml.

    `run(params, inputs, outputs)` writes into the staged folders `outputs` and returns the manifest's facts.
    `reads` are the blocks of params.yaml that it may read; `locate(params, cell)` names its inputs and outs;
    the first out carries the manifest. `cells(params)` are the cells of a matrix stage. dvc.yaml declares the
    same, and tests/test_graph.py compares the two.
    """

    name: str
    run: Callable[[Any, Paths, Paths], Facts]
    reads: tuple[str, ...]
    locate: Callable[[Params, str | None], tuple[dict[str, Path], dict[str, Path]]]
    cells: Callable[[Params], Sequence[str]] | None = None
    checkpoint: bool = False
    torch: bool = True


def execute(stage: Stage, params: Params, cell: str | None = None) -> None:
    """Run `stage` once: stage the outs under temporary names, write the manifest, rename.

    Raises `UserError` when an input is missing. Earlier outs are touched only once the new ones are complete.
    """
    if stage.torch:
        environment.fix_threads(params.threads)
    inputs, outputs = stage.locate(params, cell)
    for name, path in inputs.items():
        if not path.exists():
            raise UserError(f"{stage.name}: its input {name} ({path}) does not exist; run `dvc repro` first")
    staged = {name: partial_name(path) for name, path in outputs.items()}
    for path in staged.values():
        shutil.rmtree(path, ignore_errors=True)
        with disk_errors(path):
            path.mkdir(parents=True)
    try:
        reads = select(params, stage.reads, cell)
        main_name, main_out = next(iter(outputs.items()))
        with disk_errors(main_out):
            facts = stage.run(reads, inputs, staged)
            facts_json = manifest.build(stage.name, cell, resolved(reads), inputs, staged[main_name], facts)
            if stage.checkpoint:
                write_json(staged[main_name] / manifest.CHECKPOINT_MANIFEST, facts_json)
            for name, path in outputs.items():
                replace_folder(staged[name], path)
            faults.point(f"between-rename-and-manifest:{stage.name}")
            if not stage.checkpoint:
                write_json(manifest.sidecar(main_out), facts_json)
    finally:
        for path in staged.values():
            shutil.rmtree(path, ignore_errors=True)


def main(stage: Stage, argv: Sequence[str] | None = None) -> int:
    """The command `python -m stages.NAME [CELL] [-v]`. Returns 0, 1 (the user's mistake) or 70 (ours)."""
    # Only a stage that computes with tensors reads the number of threads.
    if argv is None and "threads" in stage.reads:
        environment.use_allocator()
    environment.quiet()
    environment.prepare_imports()
    parser = argparse.ArgumentParser(prog=f"python -m stages.{stage.name}", description=stage.run.__doc__)
    if stage.cells:
        parser.add_argument("cell", help="which cell of the matrix, as in dvc.yaml")
    parser.add_argument(
        "-v",
        "--verbose",
        action="store_true",
        default=bool(os.environ.get(environment.VERBOSE)),
        help="show the traceback of an error",
    )
    arguments = parser.parse_args(argv)
    try:
        params = load()
        cell = _known_cell(stage, params, arguments.cell) if stage.cells else None
        execute(stage, params, cell)
    except Exception as error:
        # EvalError and LowbitError carry the status too; importing them here would import their packages.
        return _fail(stage.name, error, getattr(error, "exit_status", EXIT_OURS), arguments.verbose)
    return 0


def _known_cell(stage: Stage, params: Params, cell: str) -> str:
    known = stage.cells(params) if stage.cells else ()
    if cell not in known:
        raise UserError(f"{stage.name}: no cell `{cell}`; params.yaml declares {', '.join(known)}")
    return cell


def _fail(name: str, error: Exception, status: int, verbose: bool) -> int:
    if verbose:
        traceback.print_exception(error)
    kind = "" if status == EXIT_USER else f"internal error, {type(error).__name__}: "
    hint = "" if status == EXIT_USER or verbose else " (-v shows the traceback)"
    sys.stderr.write(f"{name}: {kind}{one_line(error).removeprefix(f'{name}: ')}{hint}\n")
    return status
