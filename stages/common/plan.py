"""What a parameter file will cost in memory, computation and bytes, without touching any weight.

Models are built on torch's meta device, from the configuration of a local base or from the derived shape. A
base on the hub that is not in the cache is unknown, and so is all that follows from it: nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

from stages.common.errors import UserError
from stages.common.params.adaptation import GATES, PRUNING
from stages.common.params.training import SHRUNK
from stages.common.trainable import Layer, frozen_numbers, linear_layers, trainable_numbers

FP32, BF16 = 4, 2
# AdamW keeps two moments and needs the gradient, all in fp32, for each trained parameter.
TRAINED_BYTES = 3 * FP32
# Of a weight in NF4: half a byte, a byte of scale per 64 weights, and an fp32 scale of 256 of those.
NF4 = 0.5 + 1 / 64 + 4 / (64 * 256)


@dataclass(frozen=True)
class Row:
    """One stage or candidate. None stands for what cannot be known before the base is on disk.

    `weight_bytes`: held while training (fp32, the teacher too) or stored, for a candidate. `optimiser_bytes`:
    gradients and moments. `activation_bytes`: what the backward pass keeps, of one part of a step. `flops`:
    of the whole stage. `seconds`: at a given speed. `trained`: numbers that take a gradient. `aside_bytes`:
    copies held at once before or after the training, where they lie in the same memory.
    """

    stage: str
    parameters: int | None
    weight_bytes: int | None
    optimiser_bytes: int | None = None
    activation_bytes: int | None = None
    tokens: int | None = None
    flops: float | None = None
    seconds: float | None = None
    note: str = ""
    trained: int | None = None
    aside_bytes: int = 0

    @property
    def memory(self) -> int | None:
        """Bytes held at the peak of a stage."""
        if self.weight_bytes is None:
            return None
        training = self.weight_bytes + (self.optimiser_bytes or 0) + (self.activation_bytes or 0)
        return max(training, self.aside_bytes)


@dataclass(frozen=True)
class _Model:
    """A model on the meta device and what the estimates need of it."""

    module: Any

    @property
    def parameters(self) -> int:
        return sum(value.numel() for value in self.module.parameters())

    @property
    def layers(self) -> dict[str, Layer]:
        """The linear layers of the decoder, by name; the head is left out."""
        return linear_layers(self.module)

    @property
    def matrices(self) -> dict[str, tuple[int, int]]:
        """(out, in) of `layers`."""
        return {name: (layer.outer, layer.inner) for name, layer in self.layers.items()}

    def forward_flops(self, sequence_length: int) -> float:
        """Floating-point operations of one token forward: two per weight of a matrix (head included), and
        attention over half the sequence on average (Kaplan et al. 2020, table 1, counts the same terms).
        """
        from lowbit.layerwise import head_dim

        config = self.module.config
        head = config.vocab_size * config.hidden_size
        width = sum(layer.num_attention_heads for layer in config.per_layer_config) * head_dim(config)
        matrices = sum(prod(shape) for shape in self.matrices.values()) + head
        return 2.0 * matrices + 2.0 * width * sequence_length

    def activation_bytes(self, tokens: int, precision: str) -> int:
        """Bytes kept for the backward pass of `tokens` tokens: what each operation of a layer saves, and the
        logits of one chunk three times (as they are, in fp32, and their softmax).

        Autocast to bf16 halves what matrix products and the feed-forward part keep, not the residual stream,
        and adds a bf16 copy of every matrix.
        """
        from lowbit.layerwise import head_dim

        from stages.common.training.losses import chunk_tokens

        config = self.module.config
        layers = list(config.per_layer_config)
        queries = sum(layer.num_attention_heads for layer in layers) * head_dim(config)
        keys = sum(layer.num_key_value_heads for layer in layers) * head_dim(config)
        inner = 4 * queries + 5 * keys + 4 * sum(layer.intermediate_size for layer in layers)
        stream, copies = 6 * config.hidden_size * FP32, 0
        if precision == "bf16":
            stream = config.hidden_size * (4 * FP32 + 2 * BF16)
            head = config.vocab_size * config.hidden_size
            copies = BF16 * (head + sum(prod(shape) for shape in self.matrices.values()))
        kept = len(layers) * stream + inner * (BF16 if precision == "bf16" else FP32)
        logits = min(tokens, chunk_tokens(config.vocab_size)) * config.vocab_size
        ends = 3 * FP32 * (tokens * config.hidden_size + logits)
        return tokens * kept + ends + copies


def plan(params: Any, flops_per_second: float | None = None) -> list[Row]:
    """A row per training stage and candidate, in the order of the graph.

    `flops_per_second` is what trainings reach on this machine; without it `seconds` is None. Raises
    `UserError` when a named local base does not exist or a budget of parameters fits no shape.
    """
    base = _base_model(params)
    adapted = _adapted(params, base)
    student = _student(params, adapted)
    rows = [*_training_rows(params, base, adapted, student), *_judge_rows(params)]
    if flops_per_second is not None:
        rows = [_timed(row, flops_per_second) for row in rows]
    for name, candidate in params.candidates.items():
        model = adapted if candidate.source == "adapt" else student
        stored = _stored_bytes(model, candidate) if model else None
        rows.append(
            Row(f"quantize {name}", model.parameters if model else None, stored, note=_unknown(model))
        )
    return rows


def _timed(row: Row, flops_per_second: float) -> Row:
    return replace(row, seconds=None if row.flops is None else row.flops / flops_per_second)


def _training_rows(
    params: Any, base: _Model | None, adapted: _Model | None, student: _Model | None
) -> Iterator[Row]:
    if params.base.source == "bootstrap":
        yield _row("base", base, params.base.bootstrap.training)
    else:
        size = base.parameters * FP32 if base else None
        yield Row("base", base.parameters if base else None, size, note=_unknown(base) or "taken as it is")
    yield _row("pretrain", base, params.pretrain.training)
    row = _row("adapt", base, params.adapt.training, *_numbers(params.adapt, base), nf4=params.adapt.nf4)
    left = f"leaves about {adapted.parameters:,} parameters" if adapted and params.adapt.cuts else ""
    yield replace(row, note=left or row.note, aside_bytes=_aside(params, row, adapted))
    teacher = base if params.distill.student == SHRUNK else adapted
    yield _row("distill", student, params.distill.training, teacher=teacher)


def _numbers(block: Any, base: _Model | None) -> tuple[int, int]:
    """What `adapt` trains, and what it keeps beside that and the model."""
    if base is None:
        return 0, 0
    return trainable_numbers(block, base.layers, base.module.config), frozen_numbers(block, base.layers)


def _aside(params: Any, row: Row, adapted: _Model | None) -> int:
    """Bytes of the copies that `adapt` holds on the CPU at once, with no optimiser beside them; 0 where it
    trains on a GPU, whose memory they do not take.

    An adapter beside 4 bits is merged into the dense weights. Pruning masks a copy of the model and compares
    it with the smaller one; FineGates with the smaller one as it is and as it was written.
    """
    if row.weight_bytes is None or row.parameters is None or adapted is None or not _on_cpu(params.device):
        return 0
    if params.adapt.nf4:
        return row.weight_bytes + FP32 * (row.parameters + (row.trained or 0))
    if params.adapt.method in PRUNING:
        return FP32 * (2 * row.parameters + adapted.parameters)
    return FP32 * (row.parameters + 2 * adapted.parameters) if params.adapt.cuts else 0


def _on_cpu(device: str) -> bool:
    from stages.common.checkpoint import pick_device

    return device != "cuda" and pick_device("cpu" if device == "cpu" else "auto") == "cpu"


def _judge_rows(params: Any) -> Iterator[Row]:
    if not params.judge.embedded:
        return
    block = params.judge_model
    yield _row("judge_model", _derived(block.parameters, block.vocab_size), block.training)


def _row(
    stage: str,
    model: _Model | None,
    settings: Any,
    trained: int | None = None,
    frozen: int = 0,
    teacher: _Model | None = None,
    nf4: bool = False,
) -> Row:
    """`trained`: parameters that take a gradient, all of the model when None. `frozen`: numbers held beside
    them and the model. `teacher` runs forward only. `nf4`: the matrices are held in 4 bits.
    """
    if model is None:
        return Row(stage, None, None, tokens=settings.tokens, note=_unknown(model))
    length = settings.sequence_length
    passes = 3 if trained is None else 2
    extra = trained if trained is not None else 0
    flops = (
        passes * model.forward_flops(length) + 6 * extra + (teacher.forward_flops(length) if teacher else 0)
    )
    part = settings.batch_size // settings.accumulate * length
    return Row(
        stage,
        model.parameters,
        FP32 * (model.parameters + extra + frozen + (teacher.parameters if teacher else 0))
        - (round((FP32 - NF4) * sum(prod(shape) for shape in model.matrices.values())) if nf4 else 0),
        TRAINED_BYTES * (model.parameters if trained is None else trained),
        model.activation_bytes(part, settings.precision),
        settings.tokens,
        flops * settings.tokens,
        trained=model.parameters if trained is None else trained,
    )


def _unknown(model: _Model | None) -> str:
    return "" if model else "unknown until the base model is on disk"


def _base_model(params: Any) -> _Model | None:
    if params.base.source == "bootstrap":
        return _derived(params.base.bootstrap.parameters, params.tokens.vocab_size)
    if params.base.source == "local":
        folder = Path(params.base.path)
        if not folder.is_dir():
            raise UserError(f"params.yaml: base.path {folder} is no folder; correct it")
        return _from_folder(folder)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return _from_folder(Path(snapshot_download(params.base.path, local_files_only=True)))
    except LocalEntryNotFoundError:
        return None


def _adapted(params: Any, base: _Model | None) -> _Model | None:
    """What `adapt` leaves: the base, or after a cut one of the size that the budget asks for, with one width
    for all layers whatever the mode; which units go is known after the training.
    """
    if base is None or not params.adapt.cuts:
        return base
    from stages.adapt.finegates.picking import block_units, equal
    from stages.adapt.shrink.budget import choose
    from stages.adapt.shrink.slicing import reshaped
    from stages.adapt.shrink.units import Units

    config, block = base.module.config, params.adapt
    units = block_units(config, block) if block.method in GATES else Units.of(config)
    units = replace(units, uniform_groups=None)
    kept = choose(units, equal(units), block.shrink.model_copy(update={"mode": "uniform"})).kept
    return _on_meta(reshaped(config, kept))


def _student(params: Any, adapted: _Model | None) -> _Model | None:
    if params.distill.folder is not None:
        folder = Path(params.distill.folder)
        if not folder.is_dir():
            raise UserError(f"params.yaml: distill.student {folder} is no folder; correct it")
        return _from_folder(folder)
    if adapted is None or params.distill.student == SHRUNK:
        return adapted
    from lowbit.layerwise import with_layers

    config = adapted.module.config
    return _on_meta(with_layers(config, range(0, config.num_hidden_layers, 2)))


def _derived(parameters: int, vocab_size: int) -> _Model:
    from stages.common.training.shape import config_of, derive_shape

    return _on_meta(config_of(derive_shape(parameters, vocab_size), eos_id=0))


def _from_folder(folder: Path) -> _Model:
    from stages.common.checkpoint import load_config

    return _on_meta(load_config(folder))


def _on_meta(config: Any) -> _Model:
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        return _Model(AutoModelForCausalLM.from_config(config))


def _stored_bytes(model: _Model, candidate: Any) -> int:
    """Bytes of the weights of a candidate as `lowbit` lays them out, or of its budget; what is not quantised
    is bf16.
    """
    import torch
    from lowbit.recipes import KINDS, spec_of

    if candidate.bytes is not None:
        return int(candidate.bytes)
    total = 2 * model.parameters
    if candidate.bits is not None:
        weights = sum(prod(shape) for shape in model.matrices.values())
        return total - 2 * weights + int(candidate.bits * weights / 8)
    for name, shape in model.matrices.items():
        spec = spec_of(candidate.recipe, shape, None, name)
        if spec is not None:
            layout = KINDS[spec["kind"]].layout(spec)
            stored = sum(
                prod(size) * torch.empty(0, dtype=dtype).element_size() for size, dtype in layout.values()
            )
            total += stored - 2 * prod(shape)
    return total
