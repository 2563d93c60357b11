"""Every method of `adapt` at equal steps on the embedded world: what it trains, costs and gains.

All start from one parent, see the same windows in the same order and were given three trials of their
learning rate on one seed that is not compared, and up to three more while the best lay at the edge; the
trial with the lowest training loss over the last third of the steps, text not seen before, won. Intervals
are Student's over the seeds. A step is timed in turns with one of LoRA of rank 8 on the same layers; memory
is that of a process of its own.
"""

from __future__ import annotations

import ctypes
import gc
import importlib.util
import multiprocessing
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass
from math import fsum
from pathlib import Path
from typing import Any

import yaml

from tests.proof import cutting
from tests.proof.common import ROOT, interval, piece, replace_between, write_result
from tests.proof.cutting import PARENT, World
from tests.proof.markdown import spread, table

CLAIM = "adapt_methods"
WORLD = World(CLAIM, tokens=60_000)
REFERENCE = "lora"
RANK, ALPHA = 8, 16.0
SHARE = 0.3
TUNING_SEED, SEEDS = 0, (1, 2, 3)
MOST_TRIALS = 6
PAIRS, TIMED_ROWS = 40, 4
LEARNING = 0.3  # share of the steps at which gates are drawn and have not settled
MEMORY_STEPS, MEMORY_ROWS = 4, 32
METRICS = ("bpc_ru", "bpc_en", "tasks_ru")
PAGE, BEGIN, END = ROOT / "docs" / "adapt.md", "<!-- methods:begin -->", "<!-- methods:end -->"


@dataclass(frozen=True)
class Row:
    """One line of the table. `rates`: trials of the learning rate; of gates alone those of the gates."""

    method: str
    rates: tuple[float, float, float]
    rank: int | None = RANK
    alpha: float | None = ALPHA
    targets: bool = True
    shrink: bool = False
    nf4: bool = False

    @property
    def gates_alone(self) -> bool:
        """Whether nothing but gates is trained."""
        return self.shrink and self.rank is None


# Where the three lie goes by what is moved: weights themselves, products, factors. LoRA's were moved up once,
# after 1e-3 had been the worst of three on the tuning seed.
LOW, MIDDLE, HIGH = (1e-3, 3e-3, 1e-2), (3e-3, 1e-2, 3e-2), (1e-2, 3e-2, 1e-1)
ROWS = {
    "lora": Row("lora", MIDDLE),
    "lora, nf4 base": Row("lora", MIDDLE, nf4=True),
    "rslora": Row("rslora", LOW),
    "dora": Row("dora", MIDDLE),
    "pissa": Row("pissa", LOW),
    "velora": Row("velora", MIDDLE),
    "shira": Row("shira", LOW, alpha=None),
    "vera": Row("vera", HIGH, rank=64, alpha=None),
    "lora-xs": Row("lora-xs", MIDDLE, rank=16, alpha=16.0),
    "ia3": Row("ia3", HIGH, rank=None, alpha=None),
    "bitfit": Row("bitfit", MIDDLE, rank=None, alpha=None),
    "rocoft": Row("rocoft", MIDDLE, rank=None, alpha=None),
    "finegates": Row("finegates", (0.01, 0.02, 0.04), None, None, targets=False, shrink=True),
    "finegates + lora": Row("finegates", MIDDLE, shrink=True),
}


def measure() -> None:
    """Tune, train, score, time, weigh; write the result and the table of docs/adapt.md."""
    if importlib.util.find_spec("bitsandbytes") is None:
        raise SystemExit(f"{CLAIM}: bitsandbytes is absent, which a 4-bit base needs; run `make baselines`")
    cutting.parent(WORLD)
    whole = piece(CLAIM, "scored-parent", lambda: cutting.scored(WORLD, PARENT))
    with cutting.workers(CLAIM) as pool:
        trials = _tuned(pool)
        rates = {name: float(min(found, key=lambda rate: found[rate])) for name, found in trials.items()}
        runs = _runs(pool, rates)
    methods = {
        name: {
            "method": row.method,
            "rank": row.rank,
            "trials": trials[name],
            "learning_rate": rates[name],
            "at_the_edge": _beyond(trials[name]) is not None,
            "by_the_formula": piece(CLAIM, f"formula-{name}", lambda name=name: _formula(name, rates[name])),
            **_facts(runs[name]),
            **{key: interval([run[key] for run in runs[name]]) for key in METRICS},
            "step": _alone(name, rates[name], "step", timed),
            "memory": _alone(name, rates[name], "memory", weighed),
        }
        for name, row in ROWS.items()
    }
    found = {
        "parent": whole,
        "tokens": WORLD.tokens,
        "seeds": list(SEEDS),
        "share_cut": SHARE,
        "timed": {"rows": TIMED_ROWS, "pairs": PAIRS, "beside": f"lora of rank {RANK}"},
        "weighed": {"rows": MEMORY_ROWS, "steps": MEMORY_STEPS},
        "methods": methods,
    }
    write_result(CLAIM, found)
    replace_between(PAGE, BEGIN, END, tables(found))


def _params(world: World, name: str, rate: float, seed: int, rows: int | None = None) -> Any:
    """The workspace's parameters with one line of the table as the block `adapt`."""
    from stages.common.params import parse

    row = ROWS[name]
    params = yaml.safe_load((world.folder / "params.yaml").read_text(encoding="utf-8"))
    params |= {"seed": seed, "threads": 1}
    adapt = params["adapt"]
    targets = adapt["target_modules"] if row.targets else None
    adapt |= {"method": row.method, "rank": row.rank, "alpha": row.alpha, "target_modules": targets}
    adapt["nf4"] = row.nf4
    adapt["training"] |= {"tokens": world.tokens}
    if not row.gates_alone:
        adapt["training"]["learning_rate"] = rate
    if rows:
        adapt["training"]["batch_size"] = rows
    if row.shrink:
        adapt["shrink"] = {
            "share": SHARE,
            "mode": "global",
            "gate_learning_rate": rate if row.gates_alone else cutting.GATE_RATE,
            "calibration_tokens": cutting.CALIBRATION_TOKENS,
        }
        params["gate"]["against_anchor"] = {"pretrain": [{"metric": "bpc_ru", "margin": 1, "relative": True}]}
    return parse(params, str(world.folder / "params.yaml"))


def adapted(world: World, name: str, rate: float, seed: int, score: bool) -> dict[str, Any]:
    """Train one model by the stage `adapt`; the loss of the last third, what the manifest says, the score."""
    from stages.adapt.stage import STAGE
    from stages.common.atomic import read_json
    from stages.common.params import select
    from stages.common.training.session import CURVE

    label = f"{name.replace(' + ', '-').replace(', ', '-').replace(' ', '-')}-{rate:g}-{seed}"
    out = cutting.fresh_folder(world.model(label))
    inputs = {"pretrain": world.out / "pretrain", "tokens": world.out / "tokens"}
    params = _params(world, name, rate, seed)
    facts = STAGE.run(select(params, STAGE.reads), inputs, {"checkpoint": out})
    losses = read_json(out / CURVE)["curve"]["loss"]
    late = losses[-len(losses) // 3 :]
    found = {"late_loss": fsum(late) / len(late), **facts.notes}
    found.pop("kept", None)
    if score:
        found |= cutting.scored(world, label)
        found["adapter_bytes"] = sum(file.stat().st_size for file in (out / "adapter").iterdir())
    return found


def _tuned(pool: Executor) -> dict[str, dict[str, float]]:
    """Line -> learning rate -> loss of the last third of the trial."""
    found: dict[str, dict[str, float]] = {name: {} for name in ROWS}
    wanted = {name: list(row.rates) for name, row in ROWS.items()}
    while wanted:
        named = {f"tune-{name}-{rate:g}": (name, rate) for name, rates in wanted.items() for rate in rates}
        jobs: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
            key: (adapted, (name, rate, TUNING_SEED, False)) for key, (name, rate) in named.items()
        }
        for key, value in cutting.make_all(pool, WORLD, jobs).items():
            name, rate = named[key]
            found[name][f"{rate:g}"] = value["late_loss"]
        wanted = {
            name: [further]
            for name, trials in found.items()
            if len(trials) < MOST_TRIALS and (further := _beyond(trials)) is not None
        }
    return found


def _beyond(trials: dict[str, float]) -> float | None:
    """The next rate in the direction of the best one where that lies at an edge."""
    ordered = sorted(map(float, trials))
    best = float(min(trials, key=lambda rate: trials[rate]))
    if best not in (ordered[0], ordered[-1]):
        return None
    inner = ordered[1] if best == ordered[0] else ordered[-2]
    return float(f"{best * best / inner:.0e}")


def _runs(pool: Executor, rates: dict[str, float]) -> dict[str, list[dict[str, Any]]]:
    named = {(name, seed): f"run-{name}-{rates[name]:g}-{seed}" for name in ROWS for seed in SEEDS}
    jobs: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
        key: (adapted, (name, rates[name], seed, True)) for (name, seed), key in named.items()
    }
    made = cutting.make_all(pool, WORLD, jobs)
    return {name: [made[named[name, seed]] for seed in SEEDS] for name in ROWS}


def _facts(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What is the same for every seed, but for the share that rounding left."""
    first = runs[0]
    found = {key: first[key] for key in ("trainable_parameters", "adapter_bytes")}
    if "removed" in first:
        found["removed"] = [run["removed"]["after_rounding"] for run in runs]
    return found


def _formula(name: str, rate: float) -> int:
    """What the method trains by the formula of its paper, which is compared with what took a gradient."""
    from stages.common.checkpoint import load_model
    from stages.common.trainable import linear_layers, trainable_numbers

    model = load_model(WORLD.model(PARENT))
    return trainable_numbers(_params(WORLD, name, rate, 1).adapt, linear_layers(model), model.config)


def _alone(name: str, rate: float, kind: str, function: Callable[..., Any]) -> Any:
    """A piece that `function` makes in a fresh process with nothing of ours beside it."""

    def make() -> Any:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, context, cutting._begin, (CLAIM,)) as pool:
            return pool.submit(function, WORLD, name, rate).result()

    return piece(CLAIM, f"{kind}-{name}", make)


class _Stepper:
    """One line of the table, wrapped and ready to take steps on a fixed batch."""

    def __init__(self, world: World, name: str, rate: float, rows: int) -> None:
        import torch

        from stages.adapt.adaptation import AdaptContext
        from stages.adapt.methods import wrap_of
        from stages.common.checkpoint import load_model, load_tokenizer
        from stages.common.training.losses import cross_entropy
        from stages.common.training.optimiser import make_optimiser, steps_of
        from stages.common.training.sampler import Sampler
        from stages.common.training.shards import Shards

        block = _params(world, name, rate, 1, rows).adapt
        used, shards = block.training, Shards.open(world.out / "tokens")
        base = world.model(PARENT)
        tokenizer, steps = load_tokenizer(world.out / "tokens" / "tokenizer"), steps_of(used)
        context = AdaptContext(block, 1, base, "parent", steps, "cpu", shards, tokenizer)
        adaptation = wrap_of(block.method)(load_model(base, dtype=torch.float32), context)
        self.adaptation, self.model = adaptation, adaptation.model.train()
        self.loss = adaptation.loss(cross_entropy)
        self.optimiser = make_optimiser(self.model, used, adaptation.rates())
        sampler = Sampler(shards, block.mix, used.batch_size, used.sequence_length, 1, "adapt.mix")
        self.batch = sampler.batch(0)

    def step(self, share: float) -> float:
        """Seconds of one step; `share` of the training is done."""
        import torch

        begun = time.perf_counter()
        self.adaptation.before(self.model, share)
        self.loss(self.model, self.batch).backward()
        torch.nn.utils.clip_grad_norm_([p for p in self.model.parameters() if p.requires_grad], 1.0)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        return time.perf_counter() - begun


def timed(world: World, name: str, rate: float) -> dict[str, float]:
    """Milliseconds of a step and its ratio to one of LoRA of rank 8, taken in turns: the median of the pairs
    with a 95 % interval from order statistics.
    """
    ours, reference = (_Stepper(world, line, rate, TIMED_ROWS) for line in (name, REFERENCE))
    pairs = []
    for number in range(PAIRS + 4):
        # Gates have their full noise and budget by then and have not settled. Who begins takes turns.
        order = (ours, reference) if number % 2 else (reference, ours)
        taken = {id(stepper): stepper.step(LEARNING) for stepper in order}
        pairs.append((taken[id(ours)], taken[id(reference)]))
    pairs = pairs[4:]
    ratios = sorted(mine / other for mine, other in pairs)
    outside = int((PAIRS - 1.96 * PAIRS**0.5) / 2)
    return {
        "milliseconds": 1000 * statistics.median(mine for mine, _ in pairs),
        "ratio": statistics.median(ratios),
        "low": ratios[outside],
        "high": ratios[-outside - 1],
    }


def weighed(world: World, name: str, rate: float) -> dict[str, float]:
    """Peak resident MiB of this process in the training steps, and how far that is above what it held before
    them. Linux only: the kernel's mark is set back, else the peak of loading would hide that of the steps.
    """
    stepper = _Stepper(world, name, rate, MEMORY_ROWS)
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    held = _resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    for _ in range(MEMORY_STEPS):
        stepper.step(LEARNING)
    peak = _resident("VmHWM")
    return {"peak_mib": peak, "rise_mib": peak - held}


def _resident(key: str) -> float:
    """A line of /proc/self/status in MiB."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    [found] = [line.split()[1] for line in lines if line.startswith(f"{key}:")]
    return int(found) / 1024


HEAD = (
    "method",
    "rank",
    "learning rate",
    "trained",
    "adapter, KiB",
    "time of a step, LoRA = 1",
    "memory, MiB",
    "Russian bits per character",
    "English bits per character",
    "Russian task score",
)


def tables(found: dict[str, Any]) -> str:
    """The lines between the markers of docs/adapt.md."""

    whole = found["parent"]
    before = ("none (the parent)", "", "", "", "", "", "", *(f"{whole[key]:.3f}" for key in METRICS))
    rows = [before]
    for name, row in found["methods"].items():
        step = row["step"]
        rows.append(
            (
                f"{name}, {found['share_cut']:.0%} cut" if "removed" in row else name,
                "" if row["rank"] is None else str(row["rank"]),
                f"{row['learning_rate']:g}{' (edge)' if row['at_the_edge'] else ''}",
                f"{row['trainable_parameters']:,}",
                f"{row['adapter_bytes'] / 1024:,.0f}",
                f"{step['ratio']:.2f} [{step['low']:.2f}, {step['high']:.2f}]",
                f"{row['memory']['rise_mib']:.0f}",
                *(spread(row[key], form=".3f") for key in METRICS),
            )
        )
    return table(HEAD, rows)
