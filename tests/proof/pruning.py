"""FineGates beside pruning without learnt gates, on the embedded world: after a cut of 20, 30 and 40 %, after
recovery by distillation, over the density, and together with HIGGS.

All models come from one parent. What is cut is trained on equal tokens with LoRA of equal rank on equal
modules; every method had as many trials of its learning rate, on one seed that is not compared. Shares are
of the gateable parameters, after rounding. Intervals are Student's over the seeds of the adaptation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Any

from stages.common.params.adaptation import PRUNING
from tests.proof import cutting
from tests.proof.common import ROOT, piece, replace_between, write_result
from tests.proof.cutting import AS_IT_IS, METHODS, PARENT, SCALES, UNCUT, Cut, World
from tests.proof.pruning_tables import METRICS, tables

CLAIM = "pruning"
WORLD = World(CLAIM, tokens=60_000)
OURS = "finegates"
RATES = (1e-3, 3e-3, 1e-2)
TUNED_AT, TUNING_SEED = 0.3, 0
SEEDS = {0.2: (1, 2, 3), 0.3: (1, 2, 3, 4, 5), 0.4: (1, 2, 3)}
RECOVERY_TOKENS = 185_000  # with those of the adaptation a tenth of the parent's 2.45 million
RECOVERY_RATES = (5e-4, 1e-3, 2e-3)
RECOVERY_SEEDS = (1, 2, 3)
RECOVERED = (OURS, "wanda")
WITHIN = 0.03  # relative rise of bits per character
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
DENSITY_SEED = 1
KEPT = (0.99, 0.97, 0.95)  # of the parent's task score
WIDTHS = (0.1, 0.2, 0.3)  # of those that are packed too
BLOCK = 16  # HIGGS pads inputs to it, so these widths are multiples of it
RECIPES = ("bf16", "int8", *(f"higgs-{grid}" for grid in ("p2n1024", "p2n256", "p2n88", "p2n64", "p2n16")))
MASKS = tuple((method, pattern) for pattern in ("unstructured", "2:4") for method in ("magnitude", "wanda"))
PAGE, BEGIN, END = ROOT / "docs" / "pruning.md", "<!-- pruning:begin -->", "<!-- pruning:end -->"


def measure() -> None:
    """Tune, compare, recover, thin out, pack; write the result and its tables."""
    cutting.parent(WORLD)
    whole = piece(CLAIM, "scored-parent", lambda: cutting.scored(WORLD, PARENT))
    with cutting.workers(CLAIM) as pool:
        tuned = _tuned(pool)
        rates = {method: _best(trials) for method, trials in tuned.items()}
        runs = _runs(pool, rates)
        references = _references(pool)
        recovery = _recovery(pool, whole, rates)
        again = recovery["methods"][OURS]["learning_rate"]
        uncut = _uncut(pool, rates[UNCUT], again)
        _beside_uncut(recovery, uncut)
        density = _density(pool, {"parent": whole, "uncut": uncut[DENSITY_SEED]}, rates[OURS], again)
        packed = _packed(pool, rates, again)
    found = {
        "parent": whole,
        "tokens": {"adaptation": WORLD.tokens, "recovery": RECOVERY_TOKENS},
        "tuning": {"share": TUNED_AT, "seed": TUNING_SEED, "trials": tuned, "chosen": rates},
        "compared": _compared(runs),
        "without_training": references,
        "recovery": recovery,
        "density": density,
        "packed": packed,
    }
    write_result(CLAIM, found)
    replace_between(PAGE, BEGIN, END, tables(found))


def interval(values: Sequence[float]) -> dict[str, Any]:
    """Mean and Student's 95 % interval."""
    from scipy.stats import t

    count = len(values)
    mean = math.fsum(values) / count
    spread = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1))
    half = float(t.ppf(0.975, count - 1)) * spread / math.sqrt(count)
    return {"mean": mean, "low": mean - half, "high": mean + half, "values": list(values)}


def _adapt_all(pool: Executor, cuts: Sequence[Cut]) -> dict[Cut, dict[str, Any]]:
    jobs = {f"cut-{cut.name}": (cutting.adapted, (cut,)) for cut in cuts}
    return dict(zip(cuts, cutting.make_all(pool, WORLD, jobs).values(), strict=True))


def _tuned(pool: Executor) -> dict[str, dict[str, Any]]:
    """Method -> learning rate -> scores of the trial."""
    cuts = [
        Cut(method, TUNING_SEED, rate, None if method == UNCUT else TUNED_AT)
        for method in (UNCUT, *METHODS)
        for rate in RATES
    ]
    found: dict[str, dict[str, Any]] = {}
    for cut, row in _adapt_all(pool, cuts).items():
        found.setdefault(cut.method, {})[f"{cut.learning_rate:g}"] = {key: row[key] for key in METRICS}
    return found


def _best(trials: dict[str, Any]) -> float:
    """The rate of the fewest Russian bits."""
    return float(min(trials, key=lambda rate: trials[rate]["bpc_ru"]))


def _runs(pool: Executor, rates: dict[str, float]) -> dict[Cut, dict[str, Any]]:
    cuts = [
        Cut(method, seed, rates[method], share)
        for share, seeds in sorted(SEEDS.items(), key=lambda item: item[0] != TUNED_AT)
        for seed in seeds
        for method in METHODS
    ]
    uncut = [Cut(UNCUT, seed, rates[UNCUT]) for seed in SEEDS[TUNED_AT]]
    return _adapt_all(pool, [*cuts, *uncut])


def _compared(runs: dict[Cut, dict[str, Any]]) -> dict[str, Any]:
    """Per share and method the means over seeds, and FineGates' lead over each, seed by seed."""
    found: dict[str, Any] = {}
    for share in (None, *sorted(SEEDS)):
        rows: dict[str, dict[int, Any]] = {}
        for cut, row in runs.items():
            if cut.share == share:
                rows.setdefault(cut.method, {})[cut.seed] = row
        found["0" if share is None else f"{share:g}"] = {
            method: _summary(by_seed, rows.get(OURS, {}), method) for method, by_seed in rows.items()
        }
    return found


def _summary(by_seed: dict[int, Any], ours: dict[int, Any], method: str) -> dict[str, Any]:
    summary = {key: interval([row[key] for row in by_seed.values()]) for key in METRICS}
    some = next(iter(by_seed.values()))
    told: dict[str, Any] = {"seeds": sorted(by_seed), "trainable_parameters": some["trainable_parameters"]}
    if "removed" in some:
        for key in ("before_rounding", "after_rounding", "parameters_after"):
            told[key] = sum(row["removed"][key] for row in by_seed.values()) / len(by_seed)
    if ours and method != OURS:
        told["ours_minus_this"] = {
            key: interval([ours[seed][key] - row[key] for seed, row in by_seed.items()]) for key in METRICS
        }
    return {**told, **summary}


def _references(pool: Executor) -> dict[str, Any]:
    """Without any training: masks of single weights, the units that pruning closes, and those that it closes
    when scores are compared on other scales.
    """
    jobs: dict[str, Any] = {
        f"mask-{method}-{pattern.replace(':', '-')}": (cutting.masked, (method, pattern, TUNED_AT))
        for method, pattern in MASKS
    }
    for method in PRUNING:
        for share in SEEDS:
            for scale in SCALES if share == TUNED_AT else (AS_IT_IS,):
                name = f"untrained-{method}-{share:g}-{scale.replace(' ', '-')}"
                jobs[name] = (cutting.untrained, (method, share, DENSITY_SEED, scale))
    return cutting.make_all(pool, WORLD, jobs)


def _recovery(pool: Executor, whole: dict[str, Any], rates: dict[str, float]) -> dict[str, Any]:
    """Distil the parent into the models of TUNED_AT: the rise of bits per character over it, per method."""
    found = {method: _recovered(pool, whole, method, rates[method]) for method in RECOVERED}
    ours, rival = (found[method] for method in RECOVERED)
    lead = {
        key: interval(
            [one - other for one, other in zip(ours[key]["values"], rival[key]["values"], strict=True)]
        )
        for key in METRICS
    }
    return {"methods": found, "ours_minus_rival": lead}


def _recovered(pool: Executor, whole: dict[str, Any], method: str, rate: float) -> dict[str, Any]:
    tuning = Cut(method, TUNING_SEED, rate, TUNED_AT).name
    trials = cutting.make_all(
        pool,
        WORLD,
        {f"recovery-{method}-tuned-{each:g}": _recover(tuning, TUNING_SEED, each) for each in RECOVERY_RATES},
    )
    chosen = _best({f"{row['learning_rate']:g}": row for row in trials.values()})
    rows = cutting.make_all(
        pool,
        WORLD,
        {
            f"recovery-{method}-{seed}": _recover(Cut(method, seed, rate, TUNED_AT).name, seed, chosen)
            for seed in RECOVERY_SEEDS
        },
    )
    rises = {
        key: interval([row[key] / whole[key] - 1 for row in rows.values()]) for key in ("bpc_ru", "bpc_en")
    }
    return {
        "learning_rate": chosen,
        "trials": {
            f"{row['learning_rate']:g}": {key: row[key] for key in METRICS} for row in trials.values()
        },
        **{key: interval([row[key] for row in rows.values()]) for key in METRICS},
        "relative_rise_over_parent": rises,
        "within": {key: rise["high"] <= WITHIN for key, rise in rises.items()},
    }


def _recover(source: str, seed: int, rate: float) -> tuple[Any, tuple[Any, ...]]:
    return cutting.recovered, (source, seed, RECOVERY_TOKENS, rate)


def _uncut(pool: Executor, rate: float, recovery_rate: float) -> dict[int, Any]:
    """The parent adapted and distilled like the cut models, by seed: what the training does without a cut."""
    jobs = {
        f"recovered-whole-{seed}": _recover(Cut(UNCUT, seed, rate).name, seed, recovery_rate)
        for seed in RECOVERY_SEEDS
    }
    return dict(zip(RECOVERY_SEEDS, cutting.make_all(pool, WORLD, jobs).values(), strict=True))


def _beside_uncut(recovery: dict[str, Any], uncut: dict[int, Any]) -> None:
    """Add the uncut model and how far every recovered one is above it, seed by seed."""
    recovery["uncut"] = {key: interval([row[key] for row in uncut.values()]) for key in METRICS}
    for method in recovery["methods"].values():
        method["relative_rise_over_uncut"] = {
            key: interval(
                [one / row[key] - 1 for one, row in zip(method[key]["values"], uncut.values(), strict=True)]
            )
            for key in ("bpc_ru", "bpc_en")
        }


def _density(
    pool: Executor, wholes: dict[str, dict[str, Any]], rate: float, recovery_rate: float
) -> dict[str, Any]:
    """FineGates and recovery at every share, and the narrowest model that keeps so much of the task score of
    each of `wholes`.
    """
    cuts = {share: Cut(OURS, DENSITY_SEED, rate, share, BLOCK) for share in SHARES}
    runs = _adapt_all(pool, list(cuts.values()))
    rows = cutting.make_all(
        pool,
        WORLD,
        {
            f"density-{share:g}": _recover(cut.name, DENSITY_SEED, recovery_rate)
            for share, cut in cuts.items()
        },
    )
    curve = [
        {
            "share": share,
            "after_rounding": runs[cut]["removed"]["after_rounding"],
            "before_recovery": {key: runs[cut][key] for key in METRICS},
            **{key: row[key] for key in METRICS},
        }
        for (share, cut), row in zip(cuts.items(), rows.values(), strict=True)
    ]
    return {
        "seed": DENSITY_SEED,
        "curve": curve,
        "uncut": {key: wholes["uncut"][key] for key in METRICS},
        "keeps": {
            name: {f"{kept:g}": _keeps(curve, kept * whole["tasks_ru"]) for kept in KEPT}
            for name, whole in wholes.items()
        },
    }


def _keeps(curve: list[dict[str, Any]], least: float) -> float | None:
    """The largest share removed up to which every model scores `least` or more; None when none does."""
    largest = None
    for point in curve:
        if point["tasks_ru"] < least:
            break
        largest = point["after_rounding"]
    return largest


def _packed(pool: Executor, rates: dict[str, float], recovery_rate: float) -> dict[str, Any]:
    """Every width under every recipe, and the best of each kind within the same bytes."""
    sources = {0.0: Cut(UNCUT, DENSITY_SEED, rates[UNCUT]).name} | {
        share: Cut(OURS, DENSITY_SEED, rates[OURS], share, BLOCK).name for share in WIDTHS
    }
    jobs = {
        f"packed-{share:g}-{recipe}": (
            cutting.packed,
            (cutting.recovered_name(source, DENSITY_SEED, recovery_rate), recipe),
        )
        for share, source in sources.items()
        for recipe in RECIPES
    }
    shares = [share for share in sources for _ in RECIPES]
    rows = cutting.make_all(pool, WORLD, jobs).values()
    points = [
        {"share": share, **{key: row[key] for key in ("recipe", "bytes", *METRICS)}}
        for share, row in zip(shares, rows, strict=True)
    ]
    return {"points": points, "best_within": _best_within(points)}


def _kind(point: dict[str, Any]) -> str:
    if point["recipe"] == "bf16":
        return "width alone" if point["share"] else "neither"
    return "both" if point["share"] else "bits alone"


def _best_within(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For the bytes of every model that is both cut and packed: the fewest Russian bits of each kind."""
    found = []
    for size in sorted({point["bytes"] for point in points if _kind(point) == "both"}):
        best: dict[str, Any] = {}
        for point in points:
            kind = _kind(point)
            if point["bytes"] <= size and (kind not in best or point["bpc_ru"] < best[kind]["bpc_ru"]):
                best[kind] = point
        found.append(
            {"bytes": size, "best": best, "winner": min(best, key=lambda kind: best[kind]["bpc_ru"])}
        )
    return found
