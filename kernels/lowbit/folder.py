"""Whole checkpoints: read, quantised and written tensor by tensor."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from lowbit import recipes
from lowbit.errors import LowbitError
from lowbit.recipes import Plan, Spec
from lowbit.tensorfile import WEIGHTS, Source, Writer
from lowbit.weight import Layout, Shape

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

Progress = Callable[[int, int, str], None]


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
    """What `quantize_folder` wrote. `bytes` is the file's size, `bits_per_weight` counts all of its tensors;
    `layers` only quantised ones.
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
    source: str | Path, plan: Plan, target: str | Path, *, seed: int = 0, progress: Progress | None = None
) -> Report:
    """Write the checkpoint folder `source` (sharded or not) to `target`, quantised by `plan`; the memory
    needed is about that of the largest tensor.

    `plan` is a recipe for all linear layers but the output head (`bf16`, `int8`, `higgs-4bit`,
    `higgs-3bit`, `higgs-2bit`, `higgs-<grid>`, `ternary`), or `{layer: {"recipe": ..., "group_size":
    ...}}`, or the path of a JSON file with that. What is not quantised is stored in bfloat16; integers
    stay. `seed` draws the signs of HIGGS. Tokenizer, generation config and licence are copied as they are.
    `progress(done, total, tensor)` is called after every tensor. `target` must be absent or empty and
    appears only when it is complete. Raises `LowbitError`.
    """
    source, target = Path(source), Path(target)
    config, shapes, heads = _skeleton(source)
    tensors = Source(source)
    shapes = {name: shape for name, shape in shapes.items() if f"{name}.weight" in tensors.files}
    chosen = recipes.specs(plan, shapes, heads)
    if not shapes:
        raise LowbitError(f"{source}: none of its tensors belongs to a linear layer of {config.model_type}")
    with _appearing(target) as folder:
        report = _write(tensors, chosen, folder / WEIGHTS, seed, progress)
        _write_config(config, chosen, seed, folder)
        for pattern in COPIED:
            for file in sorted(source.glob(pattern)):
                shutil.copyfile(file, folder / file.name)
    return report


def _skeleton(source: Path) -> tuple[PreTrainedConfig, dict[str, Shape], frozenset[str]]:
    """The configuration and the linear layers of the model in `source`, from a model without weights."""
    from transformers import AutoConfig, AutoModelForCausalLM

    from lowbit.integration import linears

    if not (source / "config.json").is_file():
        raise LowbitError(f"{source}: has no config.json; give the folder of a Hugging Face checkpoint")
    try:
        config = AutoConfig.from_pretrained(source, local_files_only=True)
        if getattr(config, "quantization_config", None) is not None:
            raise LowbitError(f"{source}: is quantised already; give the unquantised checkpoint")
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LowbitError(
            f"{source / 'config.json'}: Transformers cannot build this model ({error})"
        ) from error
    shapes, heads = linears(model)
    return config, shapes, heads


def _write(
    tensors: Source, chosen: dict[str, Spec], path: Path, seed: int, progress: Progress | None
) -> Report:
    layout: Layout = {}
    parameters = 0
    for name in tensors.files:
        shape, dtype = tensors.meta(name)
        layer = name.removesuffix(".weight")
        if dtype.is_floating_point:
            parameters += torch.Size(shape).numel()
        if layer in chosen:
            parts = recipes.kind_of(chosen[layer], layer).layout(chosen[layer])
            layout |= {f"{layer}.weight_{part}": place for part, place in parts.items()}
        else:
            layout[name] = (shape, KEPT_DTYPE if dtype.is_floating_point else dtype)
    reports: dict[str, LayerReport] = {}
    with Writer(path, layout) as writer:
        for done, name in enumerate(tensors.files, 1):
            layer, tensor = name.removesuffix(".weight"), tensors.read(name)
            if layer in chosen:
                reports[layer] = _pack(writer, layer, tensor, chosen[layer], seed)
            else:
                writer.write(name, _kept(tensor, name))
            if progress:
                progress(done, len(tensors.files), name)
    return Report(writer.bytes, parameters, 8 * writer.tensor_bytes / parameters, reports)


def _pack(writer: Writer, layer: str, tensor: torch.Tensor, spec: Spec, seed: int) -> LayerReport:
    packed = recipes.pack(tensor, spec, seed, f"{layer}.weight")
    writer.write(f"{layer}.weight_codes", packed.codes)
    writer.write(f"{layer}.weight_scales", packed.scales)
    padded = getattr(packed, "padded_width", packed.shape[1])
    note = f"input width {packed.shape[1]} padded to {padded}" if padded != packed.shape[1] else ""
    return LayerReport(packed.kind, packed.shape, packed.bits_per_weight, packed.relative_error(tensor), note)


def _kept(tensor: torch.Tensor, name: str) -> torch.Tensor:
    if not tensor.is_floating_point():
        return tensor
    if not bool(torch.isfinite(tensor).all()):
        raise LowbitError(f"{name}: holds NaN or infinity; mend the checkpoint before quantising it")
    return tensor.to(KEPT_DTYPE)


def _write_config(config: PreTrainedConfig, chosen: dict[str, Spec], seed: int, folder: Path) -> None:
    from lowbit.integration import LowbitConfig

    config.dtype = str(KEPT_DTYPE).removeprefix("torch.")
    if chosen:
        config.quantization_config = LowbitConfig(chosen, seed)
    config.save_pretrained(folder)


@contextmanager
def _appearing(target: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `target` that takes its name when the block ends well."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise LowbitError(f"{target}: exists and is not an empty folder; remove it or choose another name")
    folder = target.with_name(f".{target.name}.partial")
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir(parents=True)
        yield folder
        for file in folder.iterdir():
            with file.open("rb") as stream:
                os.fsync(stream.fileno())
        folder.replace(target)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise LowbitError(f"{target}: the disk is full; free some space and run again") from error
        if error.errno == errno.EFBIG:
            why = "larger than a file may be here; raise the limit (`ulimit -f`) and run again"
            raise LowbitError(f"{target}: {why}") from error
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


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
