"""A finished out/ before the stage, judges that are served, and the stage's run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from judge_server import serve
from judge_stage_fakes import CELL, COUNT, Outcome, Planted, write_answers, write_lineage

from stages.common import judges
from stages.common.atomic import write_json
from stages.common.params import Params, load
from stages.common.stage import execute
from stages.judge.stage import STAGE


@pytest.fixture
def serving() -> Iterator[Callable[..., Planted]]:
    """Starts servers that end with the test: `serving(choose=..., plan=...)`."""
    with ExitStack() as stack:

        def start(**settings: Any) -> Planted:
            server = Planted(None, None, ("1", "2", "0"), **settings)
            stack.enter_context(serve(server))
            return server

        yield start


@pytest.fixture
def params(root: Path) -> Params:
    whole = load(root / "params.yaml")
    return whole.model_copy(update={"threads": 1, "device": "cpu"})


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """out/ in which the candidate is right on three quarters of the questions, the champion on half."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "out"
    right = ["верно", "неверно"]
    write_answers(folder / "evaluate" / CELL, "candidate", [f"{right[i % 4 == 3]} {i}" for i in range(COUNT)])
    write_answers(folder / "evaluate/champion", "champion", [f"{right[i % 2]} {i}." for i in range(COUNT)])
    write_lineage(folder / "quantize" / CELL, {"source": "bootstrap"})
    write_lineage(folder / "base", {"source": "bootstrap"})
    write_json(tmp_path / "champion.json", {"version": None, "digest": None, "path": "out/base"})
    (folder / "sources").mkdir()
    judges.write(folder / "judge_model", {})
    return folder


@pytest.fixture
def judge(params: Params, out: Path) -> Callable[..., Outcome]:
    """Run the stage with other keys of block `judge`: `judge(judges=[...], sequential=True)`."""

    def run(**changes: Any) -> Outcome:
        changes = {"texts_may_leave": True, "probe_pairs": 2, **changes}
        if changes["probe_pairs"] == 0:  # with a threshold on it, params.yaml is refused
            changes["passport"] = params.judge.passport.model_copy(update={"injection": None})
        block = params.judge.model_copy(update=changes)
        execute(STAGE, params.model_copy(update={"judge": block}), CELL)
        return Outcome(out / "judge" / CELL)

    return run
