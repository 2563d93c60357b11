"""The stage graph as DVC knows it: the one list of stages there is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stages.common.errors import UserError, one_line


def label(addressing: str) -> str:
    """A stage as people call it: without the file that declares it."""
    return addressing.rpartition(":")[2]


@dataclass(frozen=True)
class StageNode:
    """One stage: its addressing (`quantize@adapt-ternary`), what it depends on directly, its description.

    `always`: it runs every time, whether or not anything changed.
    """

    addressing: str
    upstream: tuple[str, ...] = ()
    always: bool = False
    description: str = ""

    @property
    def name(self) -> str:
        """The stage without its cell."""
        return label(self.addressing).partition("@")[0]

    @property
    def cell(self) -> str | None:
        """The cell of a matrix stage."""
        return self.addressing.partition("@")[2] or None


def open_repo() -> Any:
    """The DVC repository of the current folder, parsed anew: addressings are relative to it.

    Raises `UserError` when it is none or dvc.yaml is broken.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        return Repo(".")
    except DvcException as error:
        raise UserError(f"dvc.yaml: {one_line(error)}") from error


def stages() -> list[StageNode]:
    """Every stage, dependencies first; among equals in the order of their addressing.

    Raises `UserError` when dvc.yaml cannot be read or has a cycle.
    """
    import networkx
    from dvc.exceptions import DvcException

    with open_repo() as repo:
        try:
            graph = repo.index.graph
        except DvcException as error:
            raise UserError(f"dvc.yaml: {one_line(error)}") from error
        # Edges of DVC's graph point from a stage to what it depends on.
        forward = graph.reverse(copy=True)
        order = networkx.lexicographical_topological_sort(forward, key=lambda stage: stage.addressing)
        return [_node(graph, stage) for stage in order]


def _node(graph: Any, stage: Any) -> StageNode:
    upstream = sorted(other.addressing for other in graph.successors(stage))
    return StageNode(stage.addressing, tuple(upstream), bool(stage.always_changed), stage.desc or "")


def changed() -> set[str] | None:
    """Addressings of the stages that `dvc repro --single-item` would run now, judged by DVC itself.

    A stage whose upstream has yet to run is listed only if its own inputs or outs differ already. None when
    another DVC process holds a lock, so that nobody can tell.
    """
    from dvc.lock import LockError

    with open_repo() as repo:
        try:
            return set(repo.status())
        except LockError:
            return None


def forecast(nodes: list[StageNode], own_changes: set[str]) -> dict[str, str]:
    """What a run would do, by addressing.

    `checks`: runs always; `runs`: its own inputs changed; `may run`: one upstream does; else `unchanged`.
    """
    told: dict[str, str] = {}
    for node in nodes:
        if node.always:
            told[node.addressing] = "checks"
        elif node.addressing in own_changes:
            told[node.addressing] = "runs"
        elif any(told[other] in ("runs", "may run") for other in node.upstream):
            told[node.addressing] = "may run"
        else:
            told[node.addressing] = "unchanged"
    return told
