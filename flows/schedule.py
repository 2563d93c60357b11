"""Which stage starts next: dependencies first, light stages side by side, every other one alone."""

from __future__ import annotations

from collections.abc import Sequence

from flows import graph
from flows.graph import StageNode
from stages.common.params import Params

# Mostly one core's work: imports, reading, packing, a model that answers. Trainings use all cores, and a
# measurement means nothing beside a neighbour.
LIGHT = frozenset(
    (
        *("corpus", "supervised", "validate", "tokens", "judge_model", "quantize"),
        *("evaluate", "evaluate_champion", "evaluate_anchor", "evaluate_endpoint", "judge"),
    )
)

# What a tiny model leaves free on the two cores of a laptop; more would only wait for each other.
SIDE_BY_SIDE = 2


def jobs_for(params: Params) -> int:
    """Light stages at a time unless the user says otherwise: two of a bootstrapped model fit every machine.

    A model that was brought along may fill the memory or the one GPU by itself.
    """
    return SIDE_BY_SIDE if params.base.source == "bootstrap" else 1


class Schedule:
    """The stages that are waiting, running and done; at most `jobs` light ones run at a time.

    `nodes` stand in topological order; a dependency outside them counts as done.
    """

    def __init__(self, nodes: Sequence[StageNode], jobs: int) -> None:
        self.jobs = jobs
        self.waiting = list(nodes)
        self.running: list[StageNode] = []

    @property
    def finished(self) -> bool:
        """Whether nothing is left to start or to wait for."""
        return not self.waiting and not self.running

    def start(self) -> StageNode | None:
        """The next stage, running from now on; None when one has to end first.

        Light stages wait while another can run: later there are more of them, to run in pairs.
        """
        if len(self.running) >= self.jobs or any(node.name not in LIGHT for node in self.running):
            return None
        unfinished = {node.addressing for node in (*self.waiting, *self.running)}
        ready = [node for node in self.waiting if unfinished.isdisjoint(node.upstream)]
        if self.running:
            ready = [node for node in ready if node.name in LIGHT]
        chosen = min(ready, key=lambda node: node.name in LIGHT, default=None)
        if chosen:
            self.waiting.remove(chosen)
            self.running.append(chosen)
        return chosen

    def end(self, node: StageNode) -> None:
        """`node` is done."""
        self.running.remove(node)


class Changes:
    """What DVC says has changed, asked again before a stage is skipped behind one that ran."""

    def __init__(self, force: bool) -> None:
        self.force = force
        self._known: set[str] | None = None
        self._fresh = False

    def include(self, node: StageNode) -> bool:
        """Whether `node` has to run.

        Also when DVC cannot tell, since another process holds a lock: then `dvc repro` finds out, and waits.
        """
        if self.force:
            return True
        if not self._fresh and node.addressing not in (self._known or ()):
            self._known, self._fresh = graph.changed(), True
        return self._known is None or node.addressing in self._known

    def outdated(self) -> None:
        """A stage ran: what was unchanged may have changed."""
        self._fresh = False
