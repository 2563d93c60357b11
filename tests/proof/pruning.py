"""FineGates beside pruning without learnt gates, on the embedded world: after a cut of 20, 30 and 40 %, after
recovery by distillation, over the density, and together with HIGGS.

All models come from one parent. What is cut is trained on equal tokens with LoRA of equal rank on equal
modules; every method had as many trials of its learning rate, on one seed that is not compared. Shares are
of the gateable parameters, after rounding. Intervals are Student's over the seeds of the adaptation.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Any

from stages.common.params.adaptation import PRUNING
from tests.proof import cutting
from tests.proof.common import ROOT, interval, piece, replace_between, write_result
from tests.proof.cutting import AS_IT_IS, METHODS, PARENT, SCALES, UNCUT, Cut, World
from tests.proof.pruning_density import Recovered, density, packed
from tests.proof.pruning_tables import METRICS, tables

CLAIM = "pruning"
WORLD = World(CLAIM, tokens=60_000)
OURS = "finegates"
RATES = (3e-4, 1e-3, 3e-3, 1e-2, 2e-2)
TUNED_AT, TUNING_SEED = 0.3, 0
SEEDS = {0.2: (1, 2, 3), 0.3: (1, 2, 3, 4, 5), 0.4: (1, 2, 3)}
RECOVERY_TOKENS = 185_000  # with those of the adaptation a tenth of the parent's 2.45 million
RECOVERY_RATES = (5e-4, 1e-3, 2e-3)
RECOVERY_SEEDS = (1, 2, 3)
RECOVERED = (OURS, "wanda")
WITHIN = 0.03  # relative rise of bits per character
CALIBRATION_SEED = 1
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
        made = Recovered(pool, WORLD, OURS, UNCUT, rates, RECOVERY_TOKENS, again)
        thinned = density(made, whole, uncut)
        stored = packed(made)
    found = {
        "parent": whole,
        "tokens": {"adaptation": WORLD.tokens, "recovery": RECOVERY_TOKENS},
        "tuning": {"share": TUNED_AT, "seed": TUNING_SEED, "trials": tuned, "chosen": rates},
        "compared": _compared(runs),
        "without_training": references,
        "recovery": recovery,
        "density": thinned,
        "packed": stored,
    }
    write_result(CLAIM, found)
    replace_between(PAGE, BEGIN, END, tables(found))


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
                jobs[name] = (cutting.untrained, (method, share, CALIBRATION_SEED, scale))
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
