"""FineGates on the embedded world: gates that begin open, hold their budget and end in a smaller model.

All cuts start from the default run's adapted model, whose weights stay frozen unless matrices are trained
beside the gates; only the gates and the order of the text depend on the seed. Bits per character are those
of the held-out documents of the shards, of the cut model. Intervals are Student's over the seeds; of times,
of the bootstrap over pairs.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from tests.proof.common import ROOT, SCRATCH, interval, piece, replace_between, run, workspace, write_result
from tests.proof.finegates_shapes import shapes
from tests.proof.finegates_tables import tables
from tests.proof.finegates_time import LORA, times

CLAIM = "finegates"
TUNED_AT = 0.3
SEEDS = {0.1: (1, 2, 3), 0.2: (1, 2, 3), 0.3: (1, 2, 3, 4, 5), 0.4: (1, 2, 3), 0.5: (1, 2, 3)}
VARIANT_SEEDS = (1, 2, 3)
SIDE_BY_SIDE = 2  # processes of one thread each
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
CALIBRATION_TOKENS = 16_384
DEFAULTS = {"gate_learning_rate": 0.02, "sigma": 0.3, "ramp": 0.2}
# What else there is at 30 %: changes of the block.
VARIANTS: dict[str, dict[str, Any]] = {
    "uniform": {"mode": "uniform"},
    "faithful": {"mode": "faithful", "target_modules": LINEAR},
    "rank 8 beside": {"rank": 8, "alpha": 16.0, "target_modules": LINEAR},
}
# What reads the calibration text forward only and trains nothing, where FineGates trains gates alone.
FORWARD = ("wanda", "minitron")
# One seed that is not compared; each dial down and up, and without calibration.
TUNING_SEED = 0
TRIALS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "all gates begin alike": {"calibration_tokens": None},
    "gate_learning_rate 0.01": {"gate_learning_rate": 0.01},
    "gate_learning_rate 0.04": {"gate_learning_rate": 0.04},
    "sigma 0.15": {"sigma": 0.15},
    "sigma 0.6": {"sigma": 0.6},
    "ramp 0.1": {"ramp": 0.1},
    "ramp 0.5": {"ramp": 0.5},
}
PAGE, BEGIN, END = ROOT / "docs" / "finegates.md", "<!-- finegates:begin -->", "<!-- finegates:end -->"


def measure() -> None:
    """Make the parent, then every cut, the shapes and the times; write the result and the page's tables."""
    folder = workspace(CLAIM, "world")
    piece(CLAIM, "parent", lambda: run(["dvc", "repro", "adapt"], folder).returncode)
    cuts = _all(_jobs())
    rows = {
        f"{share:g}": _summary([cuts[_name("global", share, seed)] for seed in seeds])
        for share, seeds in SEEDS.items()
    }
    variants = {
        name: _summary([cuts[_name(name, TUNED_AT, seed)] for seed in VARIANT_SEEDS]) for name in VARIANTS
    }
    forward = {
        f"{share:g}": {
            method: {
                language: interval([cuts[_name(method, share, seed)][language] for seed in VARIANT_SEEDS])
                for language in ("ru", "en")
            }
            for method in FORWARD
        }
        for share in SEEDS
    }
    parent = piece(CLAIM, "parent-bits", _parent_bits)
    found = {
        "parent": parent,
        "tokens": _settings()["training"]["tokens"],
        "dials": DEFAULTS,
        "shares": rows,
        "without_training": forward,
        "variants": variants,
        "tuning": {
            "seed": TUNING_SEED,
            "share": TUNED_AT,
            "trials": {t: cuts[_file(t)]["bpc"] for t in TRIALS},
        },
        "fresh": piece(CLAIM, "fresh", _fresh),
        "shapes": piece(CLAIM, "shapes", shapes),
        "time": piece(CLAIM, "time", lambda: times(_adaptation, _batches)),
    }
    write_result(CLAIM, found)
    replace_between(PAGE, BEGIN, END, tables(found))


def _name(kind: str, share: float, seed: int) -> str:
    return _file(f"{kind}-{share:g}-{seed}")


def _file(name: str) -> str:
    return name.replace(" ", "-")


Job = tuple[Callable[..., Any], dict[str, Any]]


def _jobs() -> dict[str, Job]:
    """Piece -> the function that makes it and what it takes."""
    jobs: dict[str, Job] = {}
    for share, seeds in SEEDS.items():
        for seed in seeds:
            jobs[_name("global", share, seed)] = (_cut, {"share": share, "seed": seed})
        for method in FORWARD:
            for seed in VARIANT_SEEDS:
                given = {"method": method, "share": share, "seed": seed}
                jobs[_name(method, share, seed)] = (_pruned, given)
    for name, changes in VARIANTS.items():
        for seed in VARIANT_SEEDS:
            jobs[_name(name, TUNED_AT, seed)] = (_cut, {"share": TUNED_AT, "seed": seed, **changes})
    for name, dials in TRIALS.items():
        jobs[_file(name)] = (_cut, {"share": TUNED_AT, "seed": TUNING_SEED, "dials": dials})
    return jobs


def _all(jobs: dict[str, Job]) -> dict[str, Any]:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(SIDE_BY_SIDE, mp_context=context) as pool:
        found = list(pool.map(_piece, jobs.items()))
    return dict(zip(jobs, found, strict=True))


def _piece(job: tuple[str, Job]) -> Any:
    name, (function, given) = job
    return piece(CLAIM, name, lambda: function(**given))


def _out() -> Path:
    return SCRATCH / CLAIM / "world" / "out"


def _settings() -> dict[str, Any]:
    """The mix and the training of the default run's `adapt`."""
    import yaml

    block = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))["adapt"]
    return {"mix": block["mix"], "training": block["training"]}


def _adaptation(share: float, seed: int, dials: dict[str, Any] | None = None, **changes: Any) -> Any:
    """The parent with gates (or, with another `method`, whatever that is), ready to be trained."""
    import torch

    from stages.adapt.adaptation import AdaptContext
    from stages.adapt.methods import wrap_of
    from stages.common.checkpoint import load_model, load_tokenizer
    from stages.common.params.adaptation import AdaptBlock
    from stages.common.training.optimiser import steps_of
    from stages.common.training.shards import Shards

    method, mode = changes.pop("method", "finegates"), changes.pop("mode", "global")
    calibrated = {} if mode == "faithful" else {"calibration_tokens": CALIBRATION_TOKENS}
    dials = {**DEFAULTS, **calibrated, **(dials or {})}
    keys = {**calibrated, **({"gate_learning_rate": None} if method == "finegates" else {})}
    if method != LORA["method"]:
        changes["shrink"] = {"share": share, "mode": mode, **{key: dials[key] for key in keys}}
    block = AdaptBlock(method=method, **_settings(), **changes)
    shards = Shards.open(_out() / "tokens")
    context = AdaptContext(
        block,
        seed,
        base=_out() / "adapt",
        name="out/adapt",
        steps=steps_of(block.training),
        device="cpu",
        shards=shards,
        tokenizer=load_tokenizer(_out() / "tokens" / "tokenizer"),
    )
    adaptation = wrap_of(method)(load_model(_out() / "adapt", dtype=torch.float32), context)
    if method == "finegates":
        config = adaptation.objective.config
        config.sigma, config.ramp = dials["sigma"], dials["ramp"]
    return adaptation


def _batches(adaptation: Any) -> Any:
    """The text of the adaptation, drawn as the stage draws it."""
    from zlib import crc32

    from stages.common.training.sampler import Sampler

    context = adaptation.context
    used, seed = context.block.training, (context.seed << 32) + crc32(b"adapt")
    return Sampler(
        context.shards, context.block.mix, used.batch_size, used.sequence_length, seed, "adapt.mix"
    )


def _cut(share: float, seed: int, **changes: Any) -> dict[str, Any]:
    """Train the gates, cut, and score what is left; how far mask, cut and reloaded model are apart."""
    import torch

    from stages.adapt.adaptation import trainable_parameters
    from stages.common.training.loop import train
    from stages.common.training.losses import cross_entropy

    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    adaptation = _adaptation(share, seed, **changes)
    trainable = trainable_parameters(adaptation.model)
    train(
        adaptation.model,
        adaptation.loss(cross_entropy),
        _batches(adaptation),
        adaptation.context.block.training,
        seed,
        "cpu",
        before=adaptation.before,
        rates=adaptation.rates(),
        label=f"{changes.get('mode', 'global')} {share:g}, seed {seed}",
    )
    adaptation.settle()
    finished = adaptation.finish()
    kept = finished.notes["kept"]
    return {
        "trainable_parameters": trainable,
        "removed": finished.notes["removed"],
        "neurons": [sum(last - first + 1 for first, last in row["ffn"]) for row in kept],
        "bpc": _bits(finished.model),
    }


def _pruned(method: str, share: float, seed: int) -> dict[str, float]:
    """Bits per character of the parent cut by what calibration text says, without training."""
    adaptation = _adaptation(share, seed, method=method, **VARIANTS["rank 8 beside"])
    return _bits(adaptation.finish().model)


def _bits(model: Any) -> dict[str, float]:
    from stages.common.checkpoint import load_tokenizer
    from stages.common.training.evaluation import bits_per_character, sample
    from stages.common.training.shards import Shards

    shards, tokenizer = Shards.open(_out() / "tokens"), load_tokenizer(_out() / "tokens" / "tokenizer")
    held = sample(shards, tokenizer, model.config.max_position_embeddings)
    return bits_per_character(model, held, shards.eos_id, "cpu")


def _parent_bits() -> dict[str, float]:
    import torch

    from stages.common.checkpoint import load_model

    return _bits(load_model(_out() / "adapt", dtype=torch.float32))


def _fresh() -> dict[str, Any]:
    """Freshly wrapped, nothing forced: logits of the parent, and its loss in training mode."""
    import torch

    from stages.common.checkpoint import load_model
    from stages.common.training.losses import cross_entropy

    parent = load_model(_out() / "adapt", dtype=torch.float32)
    found = {}
    for name, changes in {"global": {}, **VARIANTS}.items():
        adaptation = _adaptation(TUNED_AT, 1, **changes)
        batch, model = _batches(adaptation).batch(0), adaptation.model.eval()
        with torch.no_grad():
            first, second = (
                each(input_ids=batch.inputs_BT, use_cache=False).logits for each in (parent, model)
            )
            losses = [cross_entropy(each.train(), batch).item() for each in (parent, model)]
        parent.eval()
        found[name] = {"logits_equal": torch.equal(first, second), "loss_ratio": losses[1] / losses[0]}
    return found


def _summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Means over the seeds; of removed shares the least and the greatest."""

    def ends(pick: Callable[[dict[str, Any]], float]) -> list[float]:
        return [min(map(pick, rows)), max(map(pick, rows))]

    return {
        "seeds": len(rows),
        "trainable_parameters": rows[0]["trainable_parameters"],
        "gateable_parameters": rows[0]["removed"]["gateable_parameters"],
        "before_rounding": ends(lambda row: row["removed"]["before_rounding"]),
        "after_rounding": ends(lambda row: row["removed"]["after_rounding"]),
        "parameters_after": ends(lambda row: row["removed"]["parameters_after"]),
        "neurons": [row["neurons"] for row in rows],
        "bpc": {language: interval([row["bpc"][language] for row in rows]) for language in ("ru", "en")},
    }
