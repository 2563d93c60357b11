"""What each command of `gorn` does; the imports stand where they are needed."""

from __future__ import annotations

import json
import os
import sys
from argparse import Namespace
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from stages.common.params import Params, load

if TYPE_CHECKING:
    from flows.registry import Registry


def _open() -> tuple[Params, Registry]:
    from flows.registry import connect

    params = load()
    return params, connect(params.promotion)


def run(arguments: Namespace) -> None:
    """`gorn run`."""
    params = load()
    if arguments.dry_run:
        from flows.plan import show

        show(force=arguments.force)
        return
    from flows.processes import ending_children
    from flows.registry import connect
    from flows.server import TemporaryServer

    with ending_children():
        server = None if os.environ.get("PREFECT_API_URL") else TemporaryServer()
        connect(params.promotion)
        from flows.retrain import retrain, settle

        if server:
            server.wait()
        try:
            retrain(arguments.force, arguments.commit, arguments.verbose, arguments.jobs)
        except Exception:
            settle()
            raise
        settle()


def publish(_arguments: Namespace) -> None:
    """`gorn publish`."""
    from flows import publish as publishing
    from flows.results import read
    from flows.table import render

    params = load()
    results = read()
    _, registry = _open()
    done = publishing.publish(registry, params, results)
    told = (
        ", ".join(f"{name} is version {number}" for name, number in done.versions.items())
        or "no candidate passed"
    )
    render(results, f"MLflow run {done.run} ({'new' if done.new else 'recorded before'}); {told}")


def promote(arguments: Namespace) -> None:
    """`gorn promote`."""
    from flows.promote import promote as promote_winner

    params, registry = _open()
    print(promote_winner(registry, params.promotion.mode == "manual", arguments.version).text)


def rollback(_arguments: Namespace) -> None:
    """`gorn rollback`."""
    from flows.promote import rollback as roll_back

    _, registry = _open()
    print(roll_back(registry).text)


def champion(arguments: Namespace) -> None:
    """`gorn champion fetch|show`."""
    from flows import champion as reigning

    if arguments.action == "show":
        print(json.dumps(asdict(reigning.read()), indent=1))
        return
    _, registry = _open()
    found = reigning.refresh(registry)
    name = (
        "the base model (nothing was promoted yet)" if found.version is None else f"version {found.version}"
    )
    print(f"champion: {name}, at {found.path}")


def pull(arguments: Namespace) -> None:
    """`gorn pull`."""
    from flows import champion as reigning

    _, registry = _open()
    version = reigning.pull(registry, arguments.version, arguments.folder)
    name = version.tags.get("candidate", "model")
    print(f"{arguments.folder}: version {version.number}, {name}, digest {version.digest[:12]}")


def ask(arguments: Namespace) -> None:
    """`gorn ask`."""
    from flows.ask import answer, base_of, locate

    adapter = arguments.adapter
    folder = locate(arguments.model or (base_of(adapter) if adapter else "champion"))
    print(answer(folder, arguments.prompt, arguments.max_tokens, load().threads, adapter))


def raters(arguments: Namespace) -> None:
    """`gorn raters export|import`."""
    from flows import raters as people

    if arguments.action == "export":
        cell, folder = arguments.names
        print(people.export(load(), cell, Path(folder)))
        return
    print(people.bring([Path(name) for name in arguments.names], arguments.key))


def submission(arguments: Namespace) -> int:
    """`gorn submission write|check`."""
    from flows import submission as zips

    if arguments.action == "write":
        print("\n".join(zips.write(arguments.cell, arguments.zip)))
        return 0
    found, notes = zips.check(arguments.zip, arguments.items)
    print("\n".join([*notes, *(found or [f"{arguments.zip}: no fault"])]))
    return 1 if found else 0


def serve(arguments: Namespace) -> None:
    """`gorn serve`."""
    from flows.serve import serve as serve_flow

    serve_flow(arguments.cron, arguments.port, arguments.verbose)


def ui(arguments: Namespace) -> None:
    """`gorn ui`."""
    from flows.ui import run as run_pages

    run_pages(arguments.mlflow_port, arguments.prefect_port)


def doctor(_arguments: Namespace) -> int:
    """`gorn doctor`."""
    from flows.doctor import report

    return report(sys.stdout)


def use(arguments: Namespace) -> None:
    """`gorn use`."""
    from flows import profiles

    if arguments.list:
        for name, sentence in profiles.available().items():
            print(f"{name:<24}{sentence}")
        return
    print(profiles.use(arguments.profile, arguments.force))
