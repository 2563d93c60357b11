"""Checkpoints of Transformers' BitNet (`quant_method: bitnet`), read into lowbit's format and written back.

Codes lie in four quarters of rows (`packing.pack_quarters`). The trap is `weight_scale`, whose name does not
say what it is. With gamma the level of the ternary weights, C their codes, a and s the codes and scale of
a token (`lowbit.activations`):

    linear_class bitlinear                 weight_scale = 1 / gamma    y = (a . C^T) / (weight_scale s) + b
    linear_class autobitlinear, offline    weight_scale = gamma        y = ((a / s) . C^T + b) weight_scale

so the first divides by it, the second multiplies by it, and by mistake the bias too. lowbit's level
multiplies and its bias is added last; reading and writing convert both. `autobitlinear` with quantisation
mode `online` stores dense weights and has no scale.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from lowbit import activations, packing
from lowbit.errors import LowbitError
from lowbit.folder import copy_rest, kept, packed_layout, read_config, skeleton, write_config
from lowbit.recipes import Spec
from lowbit.streaming import CHECKPOINT, SHARD_BYTES, Progress, Step, appearing, stream
from lowbit.tensorfile import Source
from lowbit.ternary import BitWeight
from lowbit.weight import Shape

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

Scales = Literal["divide", "multiply"]
METHOD = "bitnet"
CLASSES: dict[str, Scales] = {"bitlinear": "divide", "autobitlinear": "multiply"}
DEFAULT_EPS = 1e-6  # that of Transformers' BitNetQuantConfig
WEIGHT, SCALE, NORM, BIAS = "weight", "weight_scale", "rms_norm.weight", "bias"


def convention(config: Mapping[str, Any], where: str = "config.json") -> Scales:
    """What `weight_scale` does in a checkpoint whose `quantization_config` is `config`: `divide` or
    `multiply`.

    Raises `LowbitError`, naming the key, for another method, for dense weights (`online`), and where the
    keys that decide are absent: Transformers then divides, but what wrote the checkpoint is not known.
    """
    if config.get("quant_method") != METHOD:
        raise LowbitError(f"{where}: quant_method is {config.get('quant_method')!r}, not `{METHOD}`")
    linear, mode = config.get("linear_class"), config.get("quantization_mode")
    if linear not in CLASSES:
        what = "has no linear_class" if linear is None else f"has the unknown linear_class `{linear}`"
        advice = "pass scales='divide' or scales='multiply' when you know"
        raise LowbitError(
            f"{where}: quantization_config {what}, so weight_scale may divide or multiply; {advice}"
        )
    if CLASSES[linear] == "divide":
        return "divide"
    if mode == "online":
        advice = "load them with Transformers and call lowbit.bitlinear.convert"
        raise LowbitError(f"{where}: quantization_mode online stores dense weights; {advice}")
    if mode != "offline":
        raise LowbitError(
            f"{where}: quantization_mode is {mode!r} with linear_class `{linear}`, so weight_scale cannot be "
            "known to multiply; pass scales='multiply' when you know"
        )
    return "multiply"


def read_folder(
    source: str | Path,
    target: str | Path,
    *,
    scales: Scales | None = None,
    progress: Progress | None = None,
    resume: str | Path | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> list[str]:
    """Convert the BitNet checkpoint `source` to a lowbit checkpoint `target`; returns the ternary layers.

    Codes are the same; levels too when `weight_scale` multiplies, else they are its inverse in float32.
    Everything else is copied in its dtype. `scales` says what
    `weight_scale` does where the configuration does not. `target`, `progress`, `resume` and `shard_bytes`
    as in `quantize_folder`. Raises `LowbitError` naming the tensor or the key.
    """
    source, target = Path(source), Path(target)
    config, shapes, _ = skeleton(source)
    declared = _declared(source)
    if scales not in (None, "divide", "multiply"):
        raise LowbitError(f"scales is `{scales}`; say `divide` or `multiply`")
    how = scales if scales and declared.get("quant_method") == METHOD else convention(declared, str(source))
    tensors = Source(source)
    specs = _bitnet_layers(tensors, shapes, declared)
    levels = {name: _level(tensors, name, how) for name in specs}
    steps = {}
    for name in tensors.files:
        layer, part = _split(name)
        steps[name] = (
            _reading(tensors, layer, part, specs[layer], levels[layer], how)
            if layer in specs
            else kept(tensors, name, None)
        )
    making = {"call": "bitnet.read_folder", "scales": how, "layers": specs, "levels": levels}
    with appearing(target, None if resume is None else Path(resume)) as work:
        stream(tensors, steps, work, making, shard_bytes, progress)
        write_config(config, specs, 0, work / CHECKPOINT)
        copy_rest(source, work / CHECKPOINT)
    return sorted(specs)


def _declared(folder: Path) -> dict[str, Any]:
    value = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("quantization_config")
    return value if isinstance(value, dict) else {}


def _split(name: str) -> tuple[str, str]:
    """Layer and part of a tensor's name; the part is empty where a BitNet layer has none of that name."""
    for part in (SCALE, NORM, WEIGHT, BIAS):
        if name.endswith(f".{part}"):
            return name[: -len(part) - 1], part
    return name, ""


def _bitnet_layers(
    tensors: Source, shapes: Mapping[str, Shape], declared: Mapping[str, Any]
) -> dict[str, Spec]:
    """The specifications of the layers of a BitNet checkpoint, which are those with a `weight_scale`."""
    norm = bool(declared.get("use_rms_norm", False))
    found: dict[str, Spec] = {}
    for layer, shape in shapes.items():
        if f"{layer}.{SCALE}" not in tensors.files:
            if f"{layer}.{WEIGHT}" in tensors.files and tensors.meta(f"{layer}.{WEIGHT}")[1] == torch.uint8:
                raise LowbitError(f"{layer}.{WEIGHT}: is packed, but the checkpoint has no {layer}.{SCALE}")
            continue
        for part, needed in ((WEIGHT, True), (NORM, norm)):
            if (f"{layer}.{part}" in tensors.files) != needed:
                what = "has no such tensor" if needed else "has it although use_rms_norm is not set"
                raise LowbitError(f"{layer}.{part}: the checkpoint {what}")
        eps = {"norm_eps": float(declared.get("rms_norm_eps", DEFAULT_EPS))} if norm else {}
        weight = {"kind": BitWeight.kind, "shape": list(shape), "level": "absmean", "per": "tensor"}
        found[layer] = {**weight, "activation_bits": activations.BITS, **eps}
    stray = next((n for n in tensors.files if _split(n)[1] == SCALE and _split(n)[0] not in found), None)
    if stray is not None or not found:
        raise LowbitError(
            f"{stray}: belongs to no linear layer of the model"
            if stray
            else f"{tensors.folder}: has no tensor *.{SCALE}, so it holds no ternary weights"
        )
    return found


def _level(tensors: Source, layer: str, how: Scales) -> float:
    name = f"{layer}.{SCALE}"
    scale = tensors.read(name).float().flatten()
    if scale.numel() != 1 or not bool(torch.isfinite(scale).all()) or float(scale) <= 0:
        raise LowbitError(f"{name}: {scale[:3].tolist()} where one positive number is needed")
    return float(scale if how == "multiply" else 1 / scale)


def _reading(tensors: Source, layer: str, part: str, spec: Spec, level: float, how: Scales) -> Step:
    name = f"{layer}.{part}"
    layout = packed_layout(spec, layer)
    match part:
        case "weight":
            at = f"{layer}.weight_codes"
            out_features, in_features = spec["shape"]
            _expect(tensors, name, {(out_features, in_features), (out_features // 4, in_features)})
            return Step(
                {at: layout[at]}, lambda tensor: ({at: packing.pack_trits(_codes(tensor, name))}, None)
            )
        case "weight_scale":
            at = f"{layer}.weight_scales"
            return Step({at: layout[at]}, lambda _tensor: ({at: torch.tensor([level])}, None))
        case "rms_norm.weight":
            at, shape = f"{layer}.norm_weight", (spec["shape"][1],)
            _expect(tensors, name, {shape})
            return Step({at: (shape, torch.float32)}, lambda tensor: ({at: tensor.float()}, None))
    if how == "divide":
        return kept(tensors, name, None)
    shape = (spec["shape"][0],)
    _expect(tensors, name, {shape})
    return Step({name: (shape, torch.float32)}, lambda tensor: ({name: tensor.float() * level}, None))


def _expect(tensors: Source, name: str, shapes: set[tuple[int, ...]]) -> None:
    if tensors.meta(name)[0] not in shapes:
        wanted = " or ".join(map(str, sorted(shapes)))
        raise LowbitError(f"{name}: shape {tensors.meta(name)[0]} where {wanted} is needed")


def _codes(tensor: torch.Tensor, name: str) -> torch.Tensor:
    """Ternary codes of a stored weight: packed, or spread out as `autobitlinear` saves what it has loaded."""
    if tensor.dtype == torch.uint8:
        return packing.unpack_quarters(tensor, name)
    if not bool(((tensor == 0) | (tensor.abs() == 1)).all()):
        raise LowbitError(f"{name}: holds other numbers than -1, 0 and 1, so it is no ternary code")
    return tensor


def write_folder(
    source: str | Path,
    target: str | Path,
    *,
    linear_class: str = "autobitlinear",
    progress: Progress | None = None,
    resume: str | Path | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> list[str]:
    """Convert the lowbit checkpoint `source`, whose quantised layers are all `bitlinear`, to a BitNet
    checkpoint that Transformers loads without lowbit; returns the ternary layers.

    `linear_class` chooses the convention: `autobitlinear` (offline) keeps levels to the bit, `bitlinear`
    stores their inverses, in the model's dtype where that loses nothing and else in float32. Raises
    `LowbitError`, naming the layer, for what BitNet cannot hold: other kinds, a level per row, rows that 4
    does not divide, norms in some layers only.
    """
    source, target = Path(source), Path(target)
    if linear_class not in CLASSES:
        raise LowbitError(f"linear_class `{linear_class}` is not known; known: {', '.join(CLASSES)}")
    config, shapes, _ = skeleton(source)
    specs = (read_config(source) or {}).get("layers", {})
    eps = _writable(specs, source)
    tensors = Source(source)
    dtype = config.dtype if isinstance(config.dtype, torch.dtype) else torch.float32
    declared = {
        "quant_method": METHOD,
        "linear_class": linear_class,
        "quantization_mode": "offline",
        "use_rms_norm": eps is not None,
        "rms_norm_eps": DEFAULT_EPS if eps is None else eps,
        "modules_to_not_convert": sorted(set(shapes) - set(specs)),
    }
    steps: dict[str, Step] = {}
    levels = {layer: float(tensors.read(f"{layer}.weight_scales")) for layer in specs}
    for name in tensors.files:
        layer = name.rpartition(".")[0]
        steps[name] = (
            _writing(tensors, name, specs[layer], levels[layer], CLASSES[linear_class], dtype)
            if layer in specs
            else kept(tensors, name, None)
        )
    making = {"call": "bitnet.write_folder", "config": declared, "levels": levels}
    with appearing(target, None if resume is None else Path(resume)) as work:
        stream(tensors, steps, work, making, shard_bytes, progress)
        _write_config(config, declared, list(specs), work / CHECKPOINT)
        copy_rest(source, work / CHECKPOINT)
    return sorted(specs)


def _writable(specs: Mapping[str, Spec], source: Path) -> float | None:
    """The `norm_eps` that all layers share, when BitNet can hold them."""
    if not specs:
        raise LowbitError(f"{source}: is no lowbit checkpoint with quantised layers")
    found = {spec.get("norm_eps") for spec in specs.values()}
    for layer, spec in specs.items():
        why = None
        if spec["kind"] != BitWeight.kind:
            why = f"its kind is `{spec['kind']}`, and BitNet quantises activations too"
        elif spec["per"] != "tensor":
            why = "it has a level per row, and BitNet has one per matrix"
        elif spec["shape"][0] % packing.FOUR:
            why = f"4 does not divide its {spec['shape'][0]} rows"
        elif len(found) > 1:
            why = "some layers have a norm and others none, or another eps"
        if why is not None:
            raise LowbitError(f"{layer}: cannot become a BitNet layer: {why}")
    return found.pop()


def _writing(tensors: Source, name: str, spec: Spec, level: float, how: Scales, dtype: torch.dtype) -> Step:
    layer, _, part = name.rpartition(".")
    shape, stored = tensors.meta(name)
    match part:
        case "weight_codes":
            at, (out_features, in_features) = f"{layer}.{WEIGHT}", spec["shape"]

            def quarters(tensor: torch.Tensor) -> tuple[dict[str, torch.Tensor], None]:
                return {at: packing.pack_quarters(packing.unpack_trits(tensor, in_features), name)}, None

            return Step({at: ((out_features // packing.FOUR, in_features), torch.uint8)}, quarters)
        case "weight_scales":
            at, scale = f"{layer}.{SCALE}", _scale(level, how, dtype)
            return Step({at: ((1,), scale.dtype)}, lambda _tensor: ({at: scale}, None))
        case "norm_weight":
            at = f"{layer}.{NORM}"
            return Step({at: (shape, stored)}, lambda tensor: ({at: tensor}, None))
    if how == "divide":
        return kept(tensors, name, None)
    return Step({name: (shape, dtype)}, lambda tensor: ({name: (tensor.float() / level).to(dtype)}, None))


def _scale(level: float, how: Scales, dtype: torch.dtype) -> torch.Tensor:
    """`weight_scale` (1,), in the model's dtype where that gives the same level back, else in float32."""
    exact = torch.tensor([level])
    scale = exact if how == "multiply" else 1 / exact
    short = scale.to(dtype)
    back = short.float() if how == "multiply" else 1 / short.float()
    return short if torch.equal(back, exact) else scale


def _write_config(
    config: PreTrainedConfig, declared: dict[str, Any], layers: list[str], folder: Path
) -> None:
    from transformers import BitNetQuantConfig
    from transformers.quantizers.quantizers_utils import should_convert_module

    left = declared["modules_to_not_convert"]
    missed = next((layer for layer in layers if not should_convert_module(layer, left)), None)
    if missed is not None:
        raise LowbitError(f"{missed}: BitNet would leave it dense, because a layer that stays has its name")
    config.quantization_config = BitNetQuantConfig(**declared)
    config.save_pretrained(folder)
