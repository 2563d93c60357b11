"""Fixtures of the flows.

A project folder to stand in, and a tracking store that is created once per session.
"""

from __future__ import annotations

import logging
import shutil
import subprocess
from pathlib import Path

import flows_fakes as fakes
import pytest

from flows import settings
from flows.promote import promote
from flows.publish import publish
from flows.registry import Registry, connect
from flows.results import read
from stages.common.params import load


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of the developer's own stores or servers reaches a test, and nothing that a test sets stays."""
    login = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", *login, "PREFECT_API_URL", "GORN_MODELS"):
        # `setenv` first, so that what the code under test sets is taken back too.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tracking store after its migrations, which take seconds."""
    from mlflow import MlflowClient

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    file = tmp_path_factory.mktemp("store") / "mlflow.db"
    client = MlflowClient(f"sqlite:///{file}", f"sqlite:///{file}")
    client.search_experiments(max_results=1)
    client.search_registered_models(max_results=1)
    return file


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_store: Path) -> Path:
    """The current folder: a project whose graph is finished, with an empty tracking store."""
    root = fakes.finished(tmp_path / "project")
    fakes.copy_store(empty_store, root)
    return stand_in(root, monkeypatch)


def stand_in(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make `root` the current folder of the test."""
    monkeypatch.chdir(root)
    settings.prepare()
    return root


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project under git with two profiles, `good` and `bad`, as the current folder."""
    folder = fakes.finished(tmp_path / "small")
    (folder / "profiles").mkdir()
    text = (folder / "params.yaml").read_text(encoding="utf-8")
    (folder / "profiles" / "good.yaml").write_text(
        "# Another seed\n" + text.replace("seed: 1\n", "seed: 2\n"), "utf-8"
    )
    (folder / "profiles" / "bad.yaml").write_text(text.replace("seed: 1\n", "seed: -2\n"), encoding="utf-8")
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    for command in (["init", "-q"], ["add", "-A"], [*identity, "commit", "-qm", "start"]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def registry(project: Path) -> Registry:
    """The registry of `project`."""
    return connect(load().promotion)


@pytest.fixture(scope="session")
def stories(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> dict[str, Path]:
    """Projects at two points of one story: `first` has a champion, `second` a better model that waits to
    follow it.

    Publishing takes seconds, so it is done once and the folders are copied.
    """
    root = fakes.finished(tmp_path_factory.mktemp("story") / "project")
    fakes.copy_store(empty_store, root)
    saved = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", "")
        patch.delenv("MLFLOW_TRACKING_URI")
        stand_in(root, patch)
        registry = connect(load().promotion)
        for name, seed in (("first", 1), ("second", 2)):
            fakes.retrained(root, seed)
            publish(registry, load(), read())
            if name == "first":
                promote(registry, manual=False)
            saved[name] = Path(shutil.copytree(root, root.parent / name))
            patch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return saved


def retold(story: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """A copy of a story's project as the current folder; its registry."""
    stand_in(Path(shutil.copytree(story, tmp_path / "story")), monkeypatch)
    return connect(load().promotion)


@pytest.fixture
def first(stories: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """The registry of a project with a champion, version 1; the project is the current folder."""
    return retold(stories["first"], tmp_path, monkeypatch)


@pytest.fixture
def second(stories: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """The same with version 2 published, which the gate prefers to version 1."""
    return retold(stories["second"], tmp_path, monkeypatch)
