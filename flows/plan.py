"""`gorn run --dry-run`: what would run, and what memory and time the trainings will ask for."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from evals.gate.words import size
from flows import graph
from flows.settings import DECISION_FILE
from stages.common.atomic import read_json
from stages.common.params import Params, load
from stages.common.plan import Row, plan

if TYPE_CHECKING:
    from rich.table import Table

# Of the speed of a big matrix product, what a training step reaches. Two CPU cores: 10 to 13 k tokens/s
# of a 1.05 M-parameter model in fp32 (6 FLOP each) beside a product at 165 GFLOP/s; bigger ones come nearer.
EFFICIENCY = 0.45
UNKNOWN, CANDIDATE, PARENT = "-", "quantize ", "parent"


def matrix_speed(threads: int, device: str, rounds: int = 200) -> float:
    """FLOP per second of a matrix product where training would run: the best round, as neighbours disturb."""
    import torch

    from stages.common import environment

    environment.fix_threads(threads)
    on_gpu = device != "cpu" and torch.cuda.is_available()
    size, dtype = (4096, torch.bfloat16) if on_gpu else (512, torch.float32)
    left = torch.ones(size, size, dtype=dtype, device="cuda" if on_gpu else "cpu")
    best = float("inf")
    for _ in range(rounds):
        started = time.perf_counter()
        left @ left
        if on_gpu:
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - started)
    return 2.0 * size**3 / best


def memory_available(device: str) -> tuple[int, str]:
    """Bytes that a training may use, and of what."""
    import psutil
    import torch

    if device != "cpu" and torch.cuda.is_available():
        return int(torch.cuda.mem_get_info()[0]), "GPU memory"
    return int(psutil.virtual_memory().available), "memory"


def duration(seconds: float) -> str:
    """Seconds in the unit that a person would use."""
    for unit, length in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 1.5 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"


def show(force: bool) -> None:
    """Print the forecast of every stage and the plan of the trainings."""
    from rich.console import Console
    from rich.table import Table

    from flows.table import LOG_WIDTH

    params, nodes = load(), graph.stages()
    own = graph.changed()
    told = {node.addressing: "runs" for node in nodes} if force or own is None else graph.forecast(nodes, own)
    speed = matrix_speed(params.threads, params.device)
    rows = plan(params, speed * EFFICIENCY)
    trainings = [row for row in rows if row.tokens is not None]
    console = Console()
    if not console.is_terminal:
        console.width = LOG_WIDTH
    stages = Table("stage", "would", "what it does", title="Stages", title_justify="left")
    for node in nodes:
        stages.add_row(graph.label(node.addressing), told[node.addressing], node.description)
    console.print(stages)

    available, kind = memory_available(params.device)
    console.print(_trainings(trainings, available))
    total = duration(sum(row.seconds or 0 for row in trainings))
    told_speed = f"{speed / 1e12:.2g} TFLOP/s measured now"
    console.print(f"Trainings: about {total} at {told_speed}; {size(available)} of {kind} free.")
    console.print("Evaluation, judging and measuring come on top. Trainings restart where they stopped.")
    for row in trainings:
        if row.stage == "adapt" and params.adapt.cuts and row.note:
            console.print(f"The cut of `adapt` {row.note}.")
    stored = [
        f"{row.stage.removeprefix(CANDIDATE)} {size(row.weight_bytes)}"
        for row in rows
        if row.stage.startswith(CANDIDATE) and row.weight_bytes is not None
    ]
    if stored:
        console.print(f"Weights of the candidates: {', '.join(stored)}.")
    if any(row.parameters is None for row in trainings):
        console.print(
            f"The base `{params.base.path}` is not on this machine yet, so its trainings cannot be planned."
        )

    console.print(_gate(params))


def _gate(params: Params) -> Table:
    """What the margins of the gate ask for: by the spread of the last decision, else at an assumed one."""
    from rich.table import Table

    from evals.gate.plan import DISCORDANCE, POWER, beforehand

    known = _last_plans() if DECISION_FILE.is_file() else {}
    title = f"Gate: what an equal model needs, to pass with a power of {POWER:g}"
    table = Table(
        "rule", "margin", "items it needs", "there at the last run", title=title, title_justify="left"
    )
    for against, rule in _rules(params):
        share = rule.relative or not rule.metric.startswith("bpc_")
        margin = f"{100 * rule.margin:g} %" if share else f"{rule.margin:g}"
        needed, there = known.get((against, rule.metric), (None, None))
        words = UNKNOWN if needed is None else f"{needed:,}"
        if there is None and not rule.metric.startswith("bpc_") and rule.kind == "non-inferiority":
            items = beforehand(rule.margin, params.gate.alpha)
            words = UNKNOWN if items is None else f"{items:,} if {DISCORDANCE:.0%} differ"
        seen = UNKNOWN if there is None else f"{there:,}"
        table.add_row(f"{rule.kind} of {rule.metric}, {against}", margin, words, seen)
    return table


def _rules(params: Params) -> Iterator[tuple[str, Any]]:
    for against, rules in (
        ("champion", params.gate.against_champion),
        (PARENT, params.gate.against_parent),
        *params.gate.against_anchor.items(),
    ):
        yield from ((against, rule) for rule in rules)


def _last_plans() -> dict[tuple[str, str], tuple[int | None, int]]:
    """Items needed, at most over the candidates, and items there, by what was compared with and metric."""
    found: dict[tuple[str, str], tuple[int | None, int]] = {}
    for entry in read_json(DECISION_FILE)["candidates"].values():
        for check in entry["checks"]:
            against = PARENT if check["against"] == entry["parent"] else check["against"]
            if not check.get("power") or "items" not in check["power"]:
                continue
            key, needed = (against, check["metric"]), check["power"]["items"]
            before = found.get(key, (None, 0))[0]
            known = [value for value in (before, needed) if value is not None]
            found[key] = (max(known, default=None), check["n"])
    return found


def _trainings(rows: Sequence[Row], available: int) -> Table:
    from rich.table import Table

    columns = ("training", "parameters", "trained", "tokens", "memory", "time")
    table = Table(*columns, title="Plan", title_justify="left")
    for row in rows:
        parameters = UNKNOWN if row.parameters is None else f"{row.parameters:,}"
        trained = UNKNOWN if row.trained is None else f"{row.trained:,}"
        memory = UNKNOWN if row.memory is None else size(row.memory)
        if row.memory is not None and row.memory > available:
            memory += " (too much)"
        takes = UNKNOWN if row.seconds is None else "about " + duration(row.seconds)
        table.add_row(row.stage, parameters, trained, f"{row.tokens:,}", memory, takes)
    return table
