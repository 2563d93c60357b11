"""Whole checkpoints: read, quantised and written tensor by tensor."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from lowbit import recipes
from lowbit.errors import LowbitError
from lowbit.recipes import Plan, Spec
from lowbit.streaming import CHECKPOINT, SHARD_BYTES, Progress, Step, appearing, stream
from lowbit.tensorfile import Source
from lowbit.weight import Layout, Shape, finite

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

# What makes a model usable beside its weights. Weights, manifests and training records of the source stay
# behind.
COPIED = (
    *(
        "tokenizer*.json",
        "tokenizer.model",
        "*.tiktoken",
        "vocab.json",
        "vocab.txt",
        "merges.txt",
        "spiece.model",
    ),
    *(
        "special_tokens_map.json",
        "added_tokens.json",
        "generation_config.json",
        "chat_template.*",
        "*processor_config.json",
    ),
    *("LICENSE*", "NOTICE*"),
)
KEPT_DTYPE = torch.bfloat16


@dataclass
class LayerReport:
    """What quantisation did to one layer. `relative_error` is |W_q - W|^2 / |W|^2."""

    kind: str
    shape: Shape
    bits_per_weight: float
    relative_error: float
    note: str = ""


@dataclass
class Report:
    """What `quantize_folder` wrote. `bytes` is the size of its files, `bits_per_weight` counts all of its
    tensors; `layers` only quantised ones.
    """

    bytes: int
    parameters: int
    bits_per_weight: float
    layers: dict[str, LayerReport] = field(default_factory=dict)

    @property
    def quantized_bits_per_weight(self) -> float | None:
        """Stored bits over weights of the quantised layers alone; None when there are none."""
        sizes = [layer.shape[0] * layer.shape[1] for layer in self.layers.values()]
        bits = [layer.bits_per_weight for layer in self.layers.values()]
        return sum(b * n for b, n in zip(bits, sizes, strict=True)) / sum(sizes) if sizes else None

    def to_json(self) -> dict[str, Any]:
        """The report as a JSON value."""
        return {**asdict(self), "quantized_bits_per_weight": self.quantized_bits_per_weight}


def quantize_folder(
    source: str | Path,
    plan: Plan,
    target: str | Path,
    *,
    seed: int = 0,
    progress: Progress | None = None,
    resume: str | Path | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> Report:
    """Write the checkpoint folder `source` (sharded or not) to `target`, quantised by `plan`; the memory
    needed is about that of the largest tensor.

    `plan` is a recipe for all linear layers but the output head (`bf16`, `int8`, `higgs-4bit`,
    `higgs-3bit`, `higgs-2bit`, `higgs-<grid>`, `ternary`), or `{layer: {"recipe": ..., "group_size":
    ...}}`, or the path of a JSON file with that. What is not quantised is stored in bfloat16; integers
    stay. `seed` draws the signs of HIGGS. Tokenizer, generation config and licence are copied as they are.
    Shards hold up to `shard_bytes` of tensors. `progress(done, total, tensor)` is called after every tensor.

    `target` must be absent or empty and appears only when it is complete. After a kill the same call goes
    on with the tensors that are missing and gives the bytes of an undisturbed run. Unfinished work lies
    hidden beside `target`, where an exception or Ctrl-C removes it; or in the folder `resume`, on the same
    disk, which keeps it whatever happens. Raises `LowbitError`.
    """
    source, target = Path(source), Path(target)
    config, shapes, heads = skeleton(source)
    if getattr(config, "quantization_config", None) is not None:
        raise LowbitError(f"{source}: is quantised already; give the unquantised checkpoint")
    tensors = Source(source)
    shapes = {name: shape for name, shape in shapes.items() if f"{name}.weight" in tensors.files}
    chosen = recipes.specs(plan, shapes, heads)
    if not shapes:
        raise LowbitError(f"{source}: none of its tensors belongs to a linear layer of {config.model_type}")
    steps = {name: _step(tensors, name, chosen, seed) for name in tensors.files}
    making = {"call": "quantize_folder", "layers": chosen, "seed": seed}
    with appearing(target, None if resume is None else Path(resume)) as work:
        written = stream(tensors, steps, work, making, shard_bytes, progress)
        config.dtype = str(KEPT_DTYPE).removeprefix("torch.")
        write_config(config, chosen, seed, work / CHECKPOINT)
        copy_rest(source, work / CHECKPOINT)
    metas = [tensors.meta(name) for name in tensors.files]
    parameters = sum(torch.Size(shape).numel() for shape, dtype in metas if dtype.is_floating_point)
    reports = {layer: LayerReport(**note) for layer, note in _notes(written.notes).items()}
    return Report(written.bytes, parameters, 8 * written.tensor_bytes / parameters, reports)


def skeleton(source: Path) -> tuple[PreTrainedConfig, dict[str, Shape], frozenset[str]]:
    """The configuration and the linear layers of the model in `source`, from a model without weights.
    Raises `LowbitError` naming the file.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    from lowbit.integration import linears

    if not (source / "config.json").is_file():
        raise LowbitError(f"{source}: has no config.json; give the folder of a Hugging Face checkpoint")
    try:
        config = AutoConfig.from_pretrained(source, local_files_only=True)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LowbitError(
            f"{source / 'config.json'}: Transformers cannot build this model ({error})"
        ) from error
    shapes, heads = linears(model)
    return config, shapes, heads


def _step(tensors: Source, name: str, chosen: dict[str, Spec], seed: int) -> Step:
    layer = name.removesuffix(".weight")
    if layer == name or layer not in chosen:
        return kept(tensors, name)
    spec = chosen[layer]

    def make(tensor: torch.Tensor) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        packed = recipes.pack(tensor, spec, seed, name)
        width, padded = packed.shape[1], getattr(packed, "padded_width", packed.shape[1])
        note = f"input width {width} padded to {padded}" if padded != width else ""
        error = packed.relative_error(tensor)
        report = LayerReport(packed.kind, packed.shape, packed.bits_per_weight, error, note)
        return {f"{name}_codes": packed.codes, f"{name}_scales": packed.scales}, asdict(report)

    return Step(packed_layout(spec, layer), make)


def _notes(notes: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Those of the quantised layers, by layer; a note that went through JSON has a list for the shape."""
    return {
        name.removesuffix(".weight"): {**note, "shape": tuple(note["shape"])}
        for name, note in notes.items()
        if note is not None
    }


def packed_layout(spec: Spec, layer: str) -> Layout:
    """The stored tensors of `layer`, by their names in the file."""
    parts = recipes.kind_of(spec, layer).layout(spec)
    return {f"{layer}.weight_{part}": place for part, place in parts.items()}


def kept(tensors: Source, name: str, cast: torch.dtype | None = KEPT_DTYPE) -> Step:
    """The tensor `name` stays: floating-point numbers in the dtype `cast`, if one is given, and anything
    else as it is.
    """
    shape, dtype = tensors.meta(name)
    stored = cast if cast is not None and dtype.is_floating_point else dtype

    def make(tensor: torch.Tensor) -> tuple[dict[str, torch.Tensor], None]:
        if not tensor.is_floating_point():
            return {name: tensor}, None
        if not finite(tensor):
            raise LowbitError(f"{name}: holds NaN or infinity; mend the checkpoint before quantising it")
        return {name: tensor.to(stored)}, None

    return Step({name: (shape, stored)}, make)


def write_config(config: PreTrainedConfig, layers: dict[str, Spec], seed: int, folder: Path) -> None:
    """Write `config.json`; with `layers` it says that they are packed."""
    from lowbit.integration import LowbitConfig

    if layers:
        config.quantization_config = LowbitConfig(layers, seed)
    config.save_pretrained(folder)


def copy_rest(source: Path, folder: Path) -> None:
    """Copy what makes a model usable beside its weights."""
    for pattern in COPIED:
        for file in sorted(source.glob(pattern)):
            shutil.copyfile(file, folder / file.name)


def read_config(folder: str | Path) -> dict[str, Any] | None:
    """The `quantization_config` of a checkpoint folder as a JSON value; None when it is not quantised by
    lowbit.
    """
    path = Path(folder) / "config.json"
    try:
        value = json.loads(path.read_text(encoding="utf-8")).get("quantization_config")
    except (OSError, ValueError, AttributeError) as error:
        raise LowbitError(f"{path}: not readable as JSON ({error})") from error
    return value if isinstance(value, dict) and value.get("quant_method") == "lowbit" else None
