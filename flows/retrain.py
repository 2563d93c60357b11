"""The flow `retrain`: champion in, DVC's stages one Prefect task each, then MLflow and promotion.

Imported only when a flow is about to run, because Prefect takes a second or more to import.
"""

from __future__ import annotations

from collections.abc import Coroutine
from queue import SimpleQueue
from typing import Any
from uuid import UUID

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.futures import PrefectFuture
from prefect.states import Completed
from prefect.tasks import Task

from flows import champion, graph, source
from flows.display import Display
from flows.dvc_runner import Group, LockHeldError, Outcome, reproduce
from flows.promote import NotPromotedError, promote
from flows.publish import Published, publish
from flows.registry import Registry, connect
from flows.results import Results, read
from flows.schedule import LIGHT, Changes, Schedule, jobs_for
from flows.settings import in_project, make_state, prepare
from stages.common.errors import one_line
from stages.common.params import Params, load

LOCK_RETRY_SECONDS: list[float] = [1, 2, 4, 8, 15, 30]


def only_locks(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """Whether to try again: DVC's locks pass, a failed stage does not."""
    return isinstance(state.result(raise_on_failure=False), LockHeldError)


@task(
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=len(LOCK_RETRY_SECONDS),
    retry_delay_seconds=LOCK_RETRY_SECONDS,
    retry_condition_fn=only_locks,
)
def stage(addressing: str, display: Display, force: bool, shares: bool, group: Group) -> object:
    """Reproduce one stage of dvc.yaml; its lines go to the task's log and to the terminal.

    `shares`: another one may run beside it. `group`: those that end with it.
    """
    logger = get_run_logger()
    display.start(addressing)

    def emit(line: str) -> None:
        logger.info(line)
        display.line(addressing, line)

    try:
        outcome = reproduce(
            addressing, emit, force=force, verbose=display.verbose, shares=shares, group=group
        )
    except LockHeldError as error:
        display.note(f"{one_line(error)}; waiting")
        raise
    display.end(outcome)
    return Completed(name=outcome.state.capitalize(), message=f"{outcome.state} in {outcome.seconds:.1f} s")


@task(cache_policy=NO_CACHE, persist_result=False)
def unchanged(addressing: str, display: Display) -> object:
    """A stage whose inputs and outs are what dvc.lock says: shown, not started."""
    display.start(addressing)
    display.end(Outcome(addressing, "unchanged", 0.0))
    return Completed(name="Unchanged", message="inputs and outs are what dvc.lock says")


@task(name="refresh champion", cache_policy=NO_CACHE, persist_result=False)
def refresh_champion(registry: Registry) -> champion.Champion:
    """Bring champion.json and the champion's bytes in line with the registry."""
    found = champion.refresh(registry)
    get_run_logger().info("champion: %s", found)
    return found


@task(name="publish", cache_policy=NO_CACHE, persist_result=False)
def publish_results(registry: Registry, params: Params, results: Results) -> Published:
    """Write the finished graph into MLflow."""
    done = publish(registry, params, results)
    get_run_logger().info(
        "MLflow run %s (%s); versions: %s", done.run, "new" if done.new else "known", done.versions
    )
    return done


@task(name="promote", cache_policy=NO_CACHE, persist_result=False)
def promote_winner(registry: Registry, manual: bool) -> str:
    """Act on the gate's decision; one sentence about what happened."""
    try:
        text = promote(registry, manual).text
    except NotPromotedError as held:
        text = f"Not promoted: {one_line(held)}"
    get_run_logger().info(text)
    return text


def run_stages(display: Display, nodes: list[graph.StageNode], force: bool, jobs: int) -> None:
    """Every stage, dependencies first, light ones `jobs` at a time. The first failure ends the others."""
    changes, schedule, group = Changes(force), Schedule(nodes, jobs), Group()
    ended: SimpleQueue[PrefectFuture[object]] = SimpleQueue()
    started: dict[UUID, graph.StageNode] = {}
    try:
        while not schedule.finished:
            while (node := schedule.start()) is not None:
                label = graph.label(node.addressing)
                if not changes.include(node):
                    unchanged.with_options(name=label, task_run_name=label)(node.addressing, display)
                    schedule.end(node)
                    continue
                named = stage.with_options(
                    name=label, task_run_name=label, description=node.description or None
                )
                shares = jobs > 1 and node.name in LIGHT
                future = named.submit(node.addressing, display, force, shares, group)
                started[future.task_run_id] = node
                future.add_done_callback(ended.put)
            if schedule.running:
                future = ended.get()
                future.result()
                schedule.end(started[future.task_run_id])
                changes.outdated()
    except BaseException:
        group.end()
        raise


@flow(name="retrain", persist_result=False, validate_parameters=False)
def retrain(
    force: bool = False, commit: bool = False, verbose: bool = False, jobs: int | None = None
) -> None:
    """Retrain, record, promote.

    `force` runs every stage again; `commit` commits dvc.lock and champion.json; `jobs` light stages run at a
    time, where None leaves it to `jobs_for`.
    """
    prepare(verbose)
    in_project()
    make_state()
    params = load()
    nodes = graph.stages()
    registry = connect(params.promotion)
    with Display(len(nodes), verbose) as display:
        refresh_champion(registry)
        run_stages(display, nodes, force, jobs or jobs_for(params))
        results = read()
        display.note("recording in MLflow")
        publish_results(registry, params, results)
        text = promote_winner(registry, params.promotion.mode == "manual")
    if commit:
        text = f"{text}\n{source.commit_lock()}"
    from flows.table import render

    render(results, text)


def settle(seconds: float = 10.0) -> None:
    """Let Prefect's background threads hand over their last logs and events before its server is ended."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    # Outside an event loop this waits and returns; inside one it would hand back a coroutine.
    for worker in (APILogWorker, EventsWorker):
        assert not isinstance(worker.drain_all(timeout=seconds), Coroutine)
