"""`gorn run --dry-run`: what would run, and what memory and time the trainings will ask for."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from flows import graph
from stages.common.params import Params, load
from stages.common.params.training import BaseBlock, Optimisation

# Of the speed of a big matrix product, what a training step reaches. Two CPU cores: 10 to 13 k tokens/s
# of a 1.05 M-parameter model in fp32 (6 FLOP each) beside a product at 165 GFLOP/s; bigger ones come nearer.
EFFICIENCY = 0.45
# Bytes per parameter in training: fp32 weights, gradients, and AdamW's two moments; weights only.
FULL, FROZEN = 16, 4
# Bytes of activations per token: per layer and unit of width (Korthikanti et al. 2022, eq. 1 without the
# attention map, in fp32), and per entry of the logits (logits, softmax and gradient in fp32).
PER_WIDTH, PER_LOGIT = 68, 12


@dataclass(frozen=True)
class Model:
    """What the plan needs to know of a model: parameters, layers, width, entries of the vocabulary."""

    parameters: int
    layers: int
    hidden: int
    vocab: int


@dataclass(frozen=True)
class Training:
    """One training stage: trained parameters, tokens, bytes at the peak, FLOP in all."""

    stage: str
    parameters: int
    tokens: int
    memory: int
    flop: float


def base_model(base: BaseBlock, vocab: int) -> Model | None:
    """The base as declared: derived when trained here, else from its config; None when that is absent."""
    if base.bootstrap is not None and base.source == "bootstrap":
        from stages.common.training.shape import derive_shape

        shape = derive_shape(base.bootstrap.parameters, vocab)
        return Model(shape.parameters, shape.layers, shape.hidden, vocab)
    folder = _config_folder(base)
    return read_model(folder / "config.json") if folder else None


def _config_folder(base: BaseBlock) -> Path | None:
    """Where the config of a local or hub base lies on this machine."""
    for folder in (Path(base.path or ""), Path("out/base")):
        if (folder / "config.json").is_file():
            return folder
    if base.source == "hub" and base.path:
        from huggingface_hub import try_to_load_from_cache

        cached = try_to_load_from_cache(base.path, "config.json")
        return Path(cached).parent if isinstance(cached, str) else None
    return None


def read_model(config: Path) -> Model:
    """A Llama- or Qwen-like model from its config.json, counted without its weights."""
    told = json.loads(config.read_text(encoding="utf-8"))
    hidden, layers, vocab = told["hidden_size"], told["num_hidden_layers"], told["vocab_size"]
    heads = told["num_attention_heads"]
    head = told.get("head_dim") or hidden // heads
    narrow = head * (told.get("num_key_value_heads") or heads)
    layer = (
        2 * hidden * head * heads + 2 * hidden * narrow + 3 * hidden * told["intermediate_size"] + 2 * hidden
    )
    embeddings = vocab * hidden * (1 if told.get("tie_word_embeddings") else 2)
    return Model(embeddings + layers * layer + hidden, layers, hidden, vocab)


def trainings(params: Params) -> Iterator[Training]:
    """Every training stage, in the order of the graph; those of a base that is not here yet are left out."""
    model = base_model(params.base, params.tokens.vocab_size)
    if params.base.source == "bootstrap" and params.base.bootstrap and model:
        yield _full("base", model, params.base.bootstrap.training)
    if model:
        yield _full("pretrain", model, params.pretrain.training)
        yield _lora(model, params)
        yield _distillation(model, params)
    if params.judge.enabled and params.judge.model == "embedded":
        from stages.common.training.shape import derive_shape

        shape = derive_shape(params.judge_model.parameters, params.tokens.vocab_size)
        judge = Model(shape.parameters, shape.layers, shape.hidden, params.tokens.vocab_size)
        yield _full("judge_model", judge, params.judge_model.training)


def _activations(model: Model, training: Optimisation) -> int:
    tokens = training.batch_size // training.accumulate * training.sequence_length
    return tokens * (PER_WIDTH * model.layers * model.hidden + PER_LOGIT * model.vocab)


def _full(stage: str, model: Model, training: Optimisation) -> Training:
    memory = FULL * model.parameters + _activations(model, training)
    # 2 FLOP forward and 4 backward per parameter and token (Kaplan et al. 2020, section 2.1).
    return Training(
        stage, model.parameters, training.tokens, memory, 6.0 * model.parameters * training.tokens
    )


def _lora(model: Model, params: Params) -> Training:
    """LoRA: the base takes no gradients, so backward costs half; adapters of rank r on each target module."""
    training = params.adapt.training
    adapters = 2 * params.adapt.rank * model.hidden * len(params.adapt.target_modules) * model.layers
    memory = FROZEN * model.parameters + FULL * adapters + _activations(model, training)
    return Training("adapt", adapters, training.tokens, memory, 4.0 * model.parameters * training.tokens)


def _distillation(model: Model, params: Params) -> Training:
    """Every second layer, or as large as the teacher where a folder is named; the teacher runs forward."""
    training = params.distill.training
    halved = params.distill.student == "every-second-layer"
    embedding = min(model.vocab * model.hidden, model.parameters)
    student = embedding + (model.parameters - embedding) // 2 if halved else model.parameters
    small = Model(student, model.layers // 2 if halved else model.layers, model.hidden, model.vocab)
    memory = FULL * student + FROZEN * model.parameters + 2 * _activations(small, training)
    flop = (6.0 * student + 2.0 * model.parameters) * training.tokens
    return Training("distill", student, training.tokens, memory, flop)


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

    from flows.table import LOG_WIDTH, size

    params, nodes = load(), graph.stages()
    own = graph.changed()
    told = {node.addressing: "runs" for node in nodes} if force or own is None else graph.forecast(nodes, own)
    console = Console()
    if not console.is_terminal:
        console.width = LOG_WIDTH
    stages = Table("stage", "would", "what it does", title="Stages", title_justify="left")
    for node in nodes:
        stages.add_row(graph.label(node.addressing), told[node.addressing], node.description)
    console.print(stages)

    speed = matrix_speed(params.threads, params.device)
    available, kind = memory_available(params.device)
    planned = list(trainings(params))
    table = Table("training", "parameters", "tokens", "memory", "time", title="Plan", title_justify="left")
    for one in planned:
        fits = "" if one.memory <= available else " (too much)"
        cells = (f"{one.parameters:,}", f"{one.tokens:,}", size(one.memory) + fits)
        table.add_row(one.stage, *cells, "about " + duration(one.flop / (speed * EFFICIENCY)))
    console.print(table)
    total = duration(sum(one.flop for one in planned) / (speed * EFFICIENCY))
    told_speed = f"{speed / 1e12:.2g} TFLOP/s measured now"
    console.print(f"Trainings: about {total} at {told_speed}; {size(available)} of {kind} free.")
    console.print("Evaluation, judging and measuring come on top. Trainings restart where they stopped.")
    if not any(one.stage == "pretrain" for one in planned):
        console.print(
            f"The base `{params.base.path}` is not on this machine yet, so its trainings cannot be planned."
        )
