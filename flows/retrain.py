"""The flow `retrain`: champion in, DVC's stages one Prefect task each, then MLflow and promotion.

Imported only when a flow is about to run, because Prefect takes a second or more to import.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.states import Completed
from prefect.tasks import Task

from flows import champion, graph, source
from flows.display import Display
from flows.dvc_runner import LockHeldError, Outcome, reproduce
from flows.promote import NotPromotedError, promote
from flows.publish import Published, publish
from flows.registry import Registry, connect
from flows.results import Results, read
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
def stage(addressing: str, display: Display, force: bool) -> object:
    """Reproduce one stage of dvc.yaml; its lines go to the task's log and to the terminal."""
    logger = get_run_logger()
    display.start(addressing)

    def emit(line: str) -> None:
        logger.info(line)
        display.line(line)

    try:
        outcome = reproduce(addressing, emit, force=force, verbose=display.verbose)
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


def run_stages(display: Display, nodes: list[graph.StageNode], force: bool) -> None:
    """Every stage, dependencies first. DVC says what changed, and is asked again before a stage is skipped
    behind one that ran.
    """
    changed: set[str] | None = None
    asked = False
    for node in nodes:
        label = graph.label(node.addressing)
        if not force and not asked and node.addressing not in (changed or ()):
            changed, asked = graph.changed(), True
        # Unknown while another process holds a lock: then `dvc repro` finds out, and waits.
        if not force and changed is not None and node.addressing not in changed:
            unchanged.with_options(name=label, task_run_name=label)(node.addressing, display)
            continue
        stage.with_options(name=label, task_run_name=label, description=node.description or None)(
            node.addressing, display, force
        )
        asked = False


@flow(name="retrain", persist_result=False, validate_parameters=False)
def retrain(force: bool = False, commit: bool = False, verbose: bool = False) -> None:
    """Retrain, record, promote.

    `force` runs every stage again; `commit` commits dvc.lock and champion.json.
    """
    prepare(verbose)
    in_project()
    make_state()
    params = load()
    nodes = graph.stages()
    registry = connect(params.promotion)
    with Display(len(nodes), verbose) as display:
        refresh_champion(registry)
        run_stages(display, nodes, force)
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
