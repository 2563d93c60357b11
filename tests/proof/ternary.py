"""Ternary models that were trained: what they win back, at what size, and what each part of the recipe does.

Three seeds. A variant changes one key of `quantize.qat`, or the recipe. All start from the same adapted
model; the tokens are those of params.yaml, less than a third of `pretrain`'s. The control is that model
trained on as many tokens without any quantisation.
"""

from __future__ import annotations

import math
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from tests.proof.common import SCRATCH, begin_like, piece, run, score, workspace, write_result

CLAIM = "ternary"
SEEDS = (1, 2, 3)
ADAPTED = "adapted"  # what all begin with
PARENT, FLOOR = "adapt-bf16", "adapt-ternary"
QAT, HYBRID = "adapt-ternary-qat", "adapt-hybrid-ternary"
CONTROL = "parent trained on"
# Variant -> candidate and what it changes of quantize.qat; the learning rates are a quarter and four times
# the default.
TRAINED: dict[str, tuple[str, dict[str, Any]]] = {
    "ternary-qat": (QAT, {}),
    "hybrid-ternary": (HYBRID, {}),
    "all at once": (QAT, {"blend_share": 0.0}),
    "no teacher": (QAT, {"cross_entropy_weight": 1.0}),
    "teacher alone": (QAT, {"cross_entropy_weight": 0.0}),
    "one linear decay": (QAT, {"training": {"schedule": "linear"}}),
    "low rate": (QAT, {"training": {"learning_rate": 5.0e-4}}),
    "high rate": (QAT, {"training": {"learning_rate": 8.0e-3}}),
}
NAMES = (PARENT, FLOOR, *TRAINED, CONTROL)
SIDE_BY_SIDE = 2  # processes of one thread each: at this size 1.6 times as fast as one of two threads
NORMAL = 1.959964  # of a two-sided interval of 95 %


def measure() -> None:
    """Per seed: the default recipe, the hybrid, every variant, the control; all scored and compared."""
    seeds = {}
    for seed in SEEDS:
        piece(CLAIM, f"parent-{seed}", lambda seed=seed: _parent(seed))
        _each(seed, "made", _make)
        _each(seed, "scored", _score)
        seeds[seed] = piece(CLAIM, f"compared-{seed}", lambda seed=seed: _compare(seed))
    write_result(
        CLAIM,
        {
            "ablation": {name: changes for name, (_, changes) in TRAINED.items()},
            "tokens": _tokens(),
            "seeds": seeds,
        },
    )


def _each(seed: int, what: str, work: Callable[[int, str], Any]) -> None:
    """One piece per model, several at a time."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(SIDE_BY_SIDE, mp_context=context) as pool:
        list(pool.map(_piece, [(seed, what, work, name) for name in NAMES]))


def _piece(job: tuple[int, str, Callable[[int, str], Any], str]) -> None:
    seed, what, work, name = job
    piece(CLAIM, f"{what}-{seed}-{_file(name)}", lambda: work(seed, name))


def _file(name: str) -> str:
    return name.replace(" ", "-")


def _folder(seed: int, name: str) -> Path:
    return SCRATCH / CLAIM / f"{_file(name)}-{seed}"


def _scores(seed: int, name: str) -> Path:
    return SCRATCH / CLAIM / "scores" / f"{seed}-{_file(name)}"


def _checkpoint(seed: int, name: str) -> Path:
    return _folder(seed, name) / "out" / "quantize" / TRAINED.get(name, (name, {}))[0]


def _workspace(seed: int, name: str, threads: int) -> Path:
    """The workspace of one model of one seed, with what it changes of the default run."""

    def edit(params: dict[str, Any]) -> None:
        params |= {"seed": seed, "threads": threads}
        params["candidates"] = {
            candidate: {"source": "adapt", "recipe": candidate.removeprefix("adapt-")}
            for candidate in (PARENT, FLOOR, QAT, HYBRID)
        }
        block, (_, changes) = params["quantize"]["qat"], TRAINED.get(name, (name, {}))
        block |= changes | {"training": block["training"] | changes.get("training", {})}

    return workspace(CLAIM, _folder(seed, name).name, edit)


def _parent(seed: int) -> int:
    """Train the adapted model of a seed, as the default run does."""
    return run(["dvc", "repro", "adapt"], _workspace(seed, ADAPTED, threads=2)).returncode


def _make(seed: int, name: str) -> dict[str, int]:
    """Make one model from the adapted one of its seed; its stored bytes."""
    from stages.measure.size import stored_bytes

    folder = _workspace(seed, name, threads=1)
    begin_like(folder, _folder(seed, ADAPTED))
    checkpoint = _checkpoint(seed, name)
    if name == CONTROL:
        _train_on(folder, checkpoint)
    else:
        # This cell alone: the number of threads, which differs, would make the parent again.
        run(["dvc", "repro", "--single-item", f"quantize@{checkpoint.name}"], folder)
    return {"bytes": stored_bytes(checkpoint)}


def _train_on(folder: Path, out: Path) -> None:
    """The control: the adapted model goes on with the settings of quantize.qat and cross entropy."""
    import torch

    from stages.common import environment
    from stages.common.checkpoint import load_model, save_model
    from stages.common.params import load
    from stages.common.training.losses import cross_entropy
    from stages.common.training.session import Session

    params = load(folder / "params.yaml")
    environment.fix_threads(params.threads)
    inputs = {"source": folder / "out" / "adapt", "tokens": folder / "out" / "tokens"}
    session = Session.begin(folder.name, params, inputs, checkpoints=("source",))
    block = params.quantize.qat
    model = load_model(inputs["source"], dtype=torch.float32)
    session.train(model, cross_entropy, block.training, block.mix, "quantize.qat.mix", block.evaluations)
    out.mkdir(parents=True, exist_ok=True)
    save_model(model.to(torch.bfloat16), session.tokenizer, out)
    session.resume.clear()


def _score(seed: int, name: str) -> dict[str, Any]:
    return score(_folder(seed, name), _checkpoint(seed, name), _scores(seed, name))


def _compare(seed: int) -> dict[str, Any]:
    """Per model and language: bits per character, and the share won back of what `ternary` lost against the
    parent, and against the control (`of_control`).
    """
    from stages.gate.reading import evaluation

    models = {name: evaluation(name, _scores(seed, name)) for name in NAMES}
    return {
        name: {
            **_made(seed, name),
            **{
                language: _won_back(models, name, PARENT, language)
                | {"of_control": _won_back(models, name, CONTROL, language)["won_back"]}
                for language in ("ru", "en")
            },
        }
        for name in NAMES
    }


def _made(seed: int, name: str) -> dict[str, int]:
    """What the finished piece of a model says."""
    return piece(CLAIM, f"made-{seed}-{_file(name)}", lambda: _make(seed, name))


def _won_back(models: dict[str, Any], name: str, whole: str, language: str) -> dict[str, Any]:
    """(bits of `ternary` - bits of `name`) / (bits of `ternary` - bits of `whole`) over the same documents.

    A ratio of sums with its interval by the delta method over documents.
    """
    import numpy as np

    from evals.gate.tables import bits_and_characters, paired

    won = bits_and_characters(paired(models[FLOOR], models[name], f"bpc_{language}"))
    lost = bits_and_characters(paired(models[FLOOR], models[whole], f"bpc_{language}"))
    bits, gained = won["other"], won["candidate"] - won["other"]
    possible = lost["candidate"] - lost["other"]
    share = gained.sum() / possible.sum()
    spread = np.square(gained - share * possible).sum() * len(bits) / (len(bits) - 1)
    half = NORMAL * math.sqrt(spread) / abs(possible.sum())
    return {
        "bits_per_character": bits.sum() / won["chars"].sum(),
        "won_back": share,
        "low": share - half,
        "high": share + half,
        "documents": len(bits),
    }


def _tokens() -> dict[str, int]:
    import yaml

    params = yaml.safe_load((_folder(SEEDS[0], ADAPTED) / "params.yaml").read_text(encoding="utf-8"))
    return {
        "pretrain": params["pretrain"]["training"]["tokens"],
        "qat": params["quantize"]["qat"]["training"]["tokens"],
    }
