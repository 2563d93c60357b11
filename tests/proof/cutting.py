"""What the claims about cutting make: a parent, models cut from it by the stage `adapt`, recovered students,
packed and masked ones; each with its score. Every function runs in a process of its own, with one thread.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.proof.common import SCRATCH, piece, run, score, workspace

SIDE_BY_SIDE = 2  # processes of one thread each: at this size 1.6 times as fast as one of two threads
PARENT = "parent"
UNCUT = "lora"  # the parent adapted without any cut
RANK, ALPHA = 8, 16.0
CALIBRATION_TOKENS = 16_384
GATE_RATE = 0.02
# Method of the comparison -> method and mode of the stage. `uniform` is what the papers do: the units of a
# layer are ranked among themselves, and every layer keeps as many.
METHODS = {
    "finegates": ("finegates", "global"),
    "finegates faithful": ("finegates", "faithful"),
    "wanda": ("wanda", "global"),
    "minitron": ("minitron", "global"),
    "wanda uniform": ("wanda", "uniform"),
    "minitron uniform": ("minitron", "uniform"),
    "magnitude": ("magnitude", "global"),
    "random": ("random", "global"),
}
CALIBRATED = ("finegates", "wanda", "minitron", "wanda uniform", "minitron uniform")
# How scores of different layers and parts are compared: a layer's scores of one part, and what a unit costs.
AS_IT_IS = "as it is"
SCALES: dict[str, Callable[[Any, int], Any]] = {
    AS_IT_IS: lambda values, _: values,
    "per parameter": lambda values, cost: values / cost,
    "share of the layer mean": lambda values, _: values / values.mean(),
    "z-score within the layer": lambda values, _: (values - values.mean()) / values.std(),
    "rank within the layer": lambda values, _: (values.argsort().argsort() + 0.5) / len(values),
}


@dataclass(frozen=True)
class World:
    """Where a claim works and what its models are trained on. `tokens`: of one adaptation."""

    claim: str
    tokens: int
    limit: int = 60  # items of each task
    characters: int = 40_000  # of held-out text per language

    @property
    def folder(self) -> Path:
        """The workspace in which the parent is trained."""
        return SCRATCH / self.claim / "world"

    @property
    def out(self) -> Path:
        """Its outs."""
        return self.folder / "out"

    def model(self, name: str) -> Path:
        """The folder of a model that is made from the parent."""
        return self.out / "pretrain" if name == PARENT else SCRATCH / self.claim / "models" / name


@dataclass(frozen=True)
class Cut:
    """One run of the stage `adapt`. Without a share nothing is cut, which is plain LoRA."""

    method: str
    seed: int
    learning_rate: float
    share: float | None = None
    multiple: int = 8

    @property
    def name(self) -> str:
        """Unique among the models of a claim, good for a folder."""
        share = "" if self.share is None else f"-{self.share:g}-{self.multiple}"
        return f"{self.method.replace(' ', '-')}{share}-{self.learning_rate:g}-{self.seed}"


def parent(world: World, edit: Callable[[dict[str, Any]], None] | None = None) -> None:
    """Train the parent as the default run does, `edit` being what the claim changes of it. What comes after
    it finds parameters of one thread.
    """

    def smaller(params: dict[str, Any]) -> None:
        if edit:
            edit(params)
        params["evaluate"] |= {
            "limit": world.limit,
            "questions": 0,
            "bpc_characters": world.characters,
        }

    def alone(params: dict[str, Any]) -> None:
        smaller(params)
        params["threads"] = 1

    folder = workspace(world.claim, world.folder.name, smaller)
    piece(world.claim, PARENT, lambda: run(["dvc", "repro", "pretrain"], folder).returncode)
    workspace(world.claim, world.folder.name, alone)


@contextmanager
def workers(claim: str) -> Iterator[Executor]:
    """Processes that make pieces side by side, each in a folder of its own: a training forgets the saved
    states beside its own.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(SIDE_BY_SIDE, context, _begin, (claim,)) as pool:
        yield pool


def _begin(claim: str) -> None:
    from stages.common import environment

    environment.quiet()
    environment.fix_threads(1)
    folder = SCRATCH / claim / "work" / str(os.getpid())
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)


def make_all(
    pool: Executor, world: World, jobs: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]]
) -> dict[str, Any]:
    """One piece per job, side by side; their values by name. A job is a function of `world` and its rest."""
    names = list(jobs)
    work = [pool.submit(_piece, world, name, *jobs[name]) for name in names]
    return {name: future.result() for name, future in zip(names, work, strict=True)}


def _piece(world: World, name: str, function: Callable[..., Any], rest: tuple[Any, ...]) -> Any:
    return piece(world.claim, name, lambda: function(world, *rest))


def scored(world: World, name: str) -> dict[str, Any]:
    """Russian task score and bits per character of a model that is made, as stage `evaluate` finds them."""
    found = score(world.folder, world.model(name), SCRATCH / world.claim / "scores" / name)
    tasks = [task["value"] for task in found["tasks"].values() if task["language"] == "ru"]
    return {
        "tasks_ru": sum(tasks) / len(tasks) if tasks else None,
        **{f"bpc_{language}": value["value"] for language, value in sorted(found["bpc"].items())},
    }


def adapted(world: World, cut: Cut) -> dict[str, Any]:
    """Train one model by the stage `adapt`; its score, what the manifest says, and the run."""
    from stages.adapt.stage import STAGE
    from stages.common.params import parse, select

    params = parse(_params(world, cut), str(world.folder / "params.yaml"))
    inputs = {"pretrain": world.out / "pretrain", "tokens": world.out / "tokens"}
    out = fresh_folder(world.model(cut.name))
    facts = STAGE.run(select(params, STAGE.reads), inputs, {"checkpoint": out})
    return {**asdict(cut), **scored(world, cut.name), **facts.notes, "tokens": sum(facts.tokens.values())}


def _params(world: World, cut: Cut) -> dict[str, Any]:
    """The parameters of the workspace with what `cut` says of adapt."""
    params = yaml.safe_load((world.folder / "params.yaml").read_text(encoding="utf-8"))
    method, mode = METHODS.get(cut.method, (cut.method, None))
    adapt = params["adapt"]
    params |= {"seed": cut.seed, "threads": 1}
    adapt |= {"method": method, "rank": RANK, "alpha": ALPHA}
    adapt["training"] |= {"tokens": world.tokens, "learning_rate": cut.learning_rate}
    if cut.share is not None:
        adapt["shrink"] = {
            "share": cut.share,
            "mode": mode,
            "multiples": {"ffn": cut.multiple, "groups": 1},
            "gate_learning_rate": GATE_RATE if method == "finegates" else None,
            "calibration_tokens": CALIBRATION_TOKENS if cut.method in CALIBRATED else None,
        }
        params["gate"]["against_anchor"] = {"pretrain": [{"metric": "bpc_ru", "margin": 1, "relative": True}]}
    return params


def fresh_folder(folder: Path) -> Path:
    """The folder, there and with nothing in it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def recovered(world: World, source: str, seed: int, tokens: int, rate: float) -> dict[str, Any]:
    """Distil the parent into the smaller model `source` with the settings of the stage `distill`, but for
    these tokens and this rate. The score of what comes out, `<source>-recovered-<rate>-<seed>`.
    """
    import torch

    from stages.common.checkpoint import load_model, save_model
    from stages.common.params import load, select
    from stages.common.training.losses import distillation
    from stages.common.training.session import Session

    params = load(world.folder / "params.yaml")
    settings = params.distill.training.model_copy(update={"tokens": tokens, "learning_rate": rate})
    block = params.distill.model_copy(update={"training": settings})
    params = params.model_copy(update={"distill": block, "seed": seed, "threads": 1})
    inputs = {"teacher": world.model(PARENT), "student": world.model(source), "tokens": world.out / "tokens"}
    reads = select(params, ("distill", "seed", "threads", "device"))
    session = Session.begin("recover", reads, inputs, checkpoints=("teacher", "student"))
    teacher, student = (load_model(inputs[name], dtype=torch.float32) for name in ("teacher", "student"))
    loss = distillation(
        teacher.requires_grad_(False),
        block.cross_entropy_weight,
        block.temperature,
        session.shards.vocab_size,
    )
    trained = session.train(student, loss, settings, block.mix, "distill.mix", evaluations=0)
    name = recovered_name(source, seed, rate)
    save_model(student, session.tokenizer, fresh_folder(world.model(name)))
    session.resume.clear()
    return {
        "source": source,
        "seed": seed,
        "learning_rate": rate,
        "tokens": sum(trained.tokens.values()),
        **scored(world, name),
    }


def recovered_name(source: str, seed: int, rate: float) -> str:
    """What `recovered` calls its model."""
    return f"{source}-recovered-{rate:g}-{seed}"


def packed(world: World, source: str, recipe: str) -> dict[str, Any]:
    """The model `source` stored by a recipe of `lowbit`, its bytes and score."""
    from lowbit import quantize_folder

    from stages.measure.size import stored_bytes

    name = f"{source}-{recipe}"
    out = world.model(name)
    shutil.rmtree(out, ignore_errors=True)
    quantize_folder(world.model(source), recipe, out, seed=1)
    return {"source": source, "recipe": recipe, "bytes": stored_bytes(out), **scored(world, name)}


def masked(world: World, method: str, pattern: str, share: float) -> dict[str, Any]:
    """The parent with a mask of single weights and without any training; its score and the masked share.

    `method`: magnitude or wanda. `pattern`: unstructured (magnitude within a layer, Wanda within a row, as
    in its paper) or 2:4.
    """
    from stages.adapt.prune import masks

    model, activations, tokenizer = _seen(world)
    by = masks.magnitude if method == "magnitude" else masks.wanda(activations)
    unstructured = masks.per_layer if method == "magnitude" else masks.per_row
    zeroed = masks.apply(model, by, unstructured(share) if pattern == "unstructured" else masks.two_four)
    name = f"mask-{method}-{pattern.replace(':', '-')}-{share:g}"
    return {"method": method, "pattern": pattern, "zeroed": zeroed, **_kept(world, name, model, tokenizer)}


def untrained(world: World, method: str, share: float, seed: int, scale: str = AS_IT_IS) -> dict[str, Any]:
    """The parent with the units closed that a pruning method picks, its scores compared over layers and parts
    on one of `SCALES`, and without any training.
    """
    from stages.adapt.prune import scores
    from stages.adapt.shrink.budget import choose
    from stages.adapt.shrink.slicing import apply_mask
    from stages.adapt.shrink.units import PARTS, Scores, Units
    from stages.common.params import parse

    model, activations, tokenizer = _seen(world)
    units = Units.of(model.config)
    found = {
        "random": lambda: scores.random(units, seed),
        "magnitude": lambda: scores.magnitude(model, units),
        "wanda": lambda: scores.wanda(model, units, activations),
        "minitron": lambda: scores.minitron(model, units, activations),
    }[method]()
    scaled = Scores(
        *(
            tuple(
                SCALES[scale](values, layer.cost(part))
                for values, layer in zip(found.of(part), units.layers, strict=True)
            )
            for part in PARTS
        )
    )
    shrink = parse(_params(world, Cut(method, seed, 1e-3, share)), "params.yaml").adapt.shrink
    choice = choose(units, scaled, shrink)
    apply_mask(model, choice.kept)
    name = f"untrained-{method}-{share:g}-{scale.replace(' ', '-')}"
    told = {"method": method, "share": share, "scale": scale, "after_rounding": choice.after_rounding}
    return {**told, **_kept(world, name, model, tokenizer)}


def _seen(world: World) -> tuple[Any, Any, Any]:
    """The parent, what it sees on calibration text, its tokenizer."""
    import torch

    from stages.adapt.prune import calibration
    from stages.common.checkpoint import load_model, load_tokenizer
    from stages.common.params import load
    from stages.common.training.shards import Shards

    adapt = load(world.folder / "params.yaml").adapt
    model = load_model(world.model(PARENT), dtype=torch.float32)
    shards = Shards.open(world.out / "tokens")
    text = calibration.sample(shards, adapt.mix, adapt.training, CALIBRATION_TOKENS, 1, "adapt.mix")
    return model, calibration.collect(model, text), load_tokenizer(world.out / "tokens" / "tokenizer")


def _kept(world: World, name: str, model: Any, tokenizer: Any) -> dict[str, Any]:
    from stages.common.checkpoint import save_model

    save_model(model, tokenizer, fresh_folder(world.model(name)))
    return scored(world, name)
