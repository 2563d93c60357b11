"""champion.json as the stages read it: where the champion lies, and that it is the one that is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages.common import champion
from stages.common.atomic import write_json
from stages.common.checkpoint import digest
from stages.common.errors import UserError
from stages.common.params import Params, load
from stages.common.stage import Stage
from stages.evaluate.stage import STAGE as EVALUATE
from stages.measure.stage import STAGE as MEASURE


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint in the current folder."""
    monkeypatch.chdir(tmp_path)
    folder = Path("out/base")
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


@pytest.fixture
def params(root: Path) -> Params:
    return load(root / "params.yaml")


@pytest.mark.parametrize("stage", [EVALUATE, MEASURE], ids=["evaluate", "measure"])
@pytest.mark.parametrize("broken", [{}, [], {"path": None}])
def test_a_file_without_a_path_is_refused_by_every_stage(
    base: Path, params: Params, stage: Stage, broken: object
) -> None:
    write_json(champion.CHAMPION_FILE, broken)
    with pytest.raises(UserError, match=r"champion\.json: has no `path`; restore it from git"):
        stage.locate(params, champion.CHAMPION)


def test_the_champions_bytes_must_be_the_named_ones(base: Path) -> None:
    file = champion.CHAMPION_FILE
    for named in (None, digest(base)):
        write_json(file, {"version": 1, "digest": named, "path": str(base)})
        champion.check(file, champion.folder())
    (base / "model.safetensors").write_bytes(b"others")
    with pytest.raises(UserError, match=rf"its digest is {digest(base)[:12]}, but .* `gorn champion fetch`"):
        champion.check(file, champion.folder())
    champion.check(file, base, found=str(named))
