"""The judges whose weights are here: `judge.json` in out/judge_model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from stages.common.atomic import read_json, write_json
from stages.common.errors import UserError

FILE = "judge.json"


@dataclass(frozen=True)
class Weights:
    """`embedded`: they lie beside judge.json. `folder`: at `path`.

    A `reason` says in words why this judge is not to be asked at all.
    """

    kind: Literal["embedded", "folder"]
    digest: str
    path: str | None = None
    reason: str = ""


def write(folder: Path, judges: Mapping[str, Weights]) -> None:
    """Write judge.json, weights by the judge's name, into `folder`."""
    write_json(folder / FILE, {name: asdict(weights) for name, weights in judges.items()})


def read(folder: Path) -> dict[str, Weights]:
    """The judges that `folder` (out/judge_model) names. Raises `UserError` when the file is not ours."""
    value = read_json(folder / FILE)
    try:
        return {name: Weights(**told) for name, told in value.items()}
    except (AttributeError, TypeError) as error:
        raise UserError(
            f"{folder / FILE}: not written by this version; run `dvc repro judge_model`"
        ) from error


def checkpoint(judge: Weights, folder: Path) -> Path:
    """Where the judge's weights are. Raises `UserError` when they are not those that judge.json names."""
    from stages.common.checkpoint import digest

    place = folder if judge.kind == "embedded" else Path(str(judge.path))
    found = digest(place)
    if found != judge.digest:
        raise UserError(
            f"{place}: the judge's weights have changed ({found[:12]}); run `dvc repro judge_model`"
        )
    return place
