"""Which model judges: `judge.json` in out/judge_model, written by `judge_model` and read by `judge`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from stages.common.atomic import read_json, write_json
from stages.common.errors import UserError

FILE = "judge.json"
Kind = Literal["embedded", "folder", "none"]


@dataclass(frozen=True)
class Judge:
    """`embedded`: the weights lie beside judge.json. `folder`: at `path`. `none`: there are no weights.

    A `reason` says in words why this judge is not to be asked at all.
    """

    kind: Kind
    digest: str | None = None
    path: str | None = None
    reason: str = ""

    def write(self, folder: Path) -> None:
        """Write judge.json into `folder`."""
        write_json(folder / FILE, dict(vars(self)))


def read(folder: Path) -> Judge:
    """The judge that `folder` (out/judge_model) names. Raises `UserError` when the file is not ours."""
    value = read_json(folder / FILE)
    try:
        return Judge(**value)
    except TypeError as error:
        raise UserError(
            f"{folder / FILE}: not written by this version; run `dvc repro judge_model`"
        ) from error


def checkpoint(judge: Judge, folder: Path) -> Path:
    """Where the judge's weights are. Raises `UserError` when they are not those that judge.json names."""
    from stages.common.checkpoint import digest

    place = folder if judge.kind == "embedded" else Path(str(judge.path))
    found = digest(place)
    if found != judge.digest:
        raise UserError(
            f"{place}: the judge's weights have changed ({found[:12]}); run `dvc repro judge_model`"
        )
    return place
