"""The physical removal: a masked reference, the smaller model, and the check that they are one function."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from lowbit.layerwise import Widths, head_dim, resized, widths_of

from stages.adapt.shrink.units import Kept, Units
from stages.common.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TOLERANCE = 1e-5
LAYER = re.compile(r"^model\.layers\.(\d+)\.(?P<rest>.+)$")
# The axis of a weight along which the units of a part lie: rows of what makes them, columns of what reads
# them. A bias has rows only.
ROWS, COLUMNS = 0, 1
_FFN = {"mlp.gate_proj": ROWS, "mlp.up_proj": ROWS, "mlp.down_proj": COLUMNS}
_QUERIES = {"self_attn.q_proj": ROWS, "self_attn.o_proj": COLUMNS}
_KEYS = {"self_attn.k_proj": ROWS, "self_attn.v_proj": ROWS}
# What a layer adds to the residual stream.
_ENDS = ("self_attn.o_proj", "mlp.down_proj")


@torch.no_grad()
def apply_mask(model: PreTrainedModel, kept: Kept) -> None:
    """Set everything that belongs to the units that `kept` leaves out to 0, in place.

    This is the reference of `cut`: the same function at the old size. A layer that is cut whole adds nothing.
    Raises `UserError` for a quantised model and a family without slicing rules.
    """
    _check(model, kept)
    for at, layer in enumerate(_layers(model)):
        if at not in kept.layers:
            for name in _ENDS:
                for value in layer.get_submodule(name).parameters():
                    value.zero_()
            continue
        for name, axis, indices in _slices(model.config, kept, at):
            module = layer.get_submodule(name)
            closed = torch.ones(module.weight.shape[axis], dtype=torch.bool, device=module.weight.device)
            closed[indices.to(closed.device)] = False
            module.weight.index_fill_(axis, closed.nonzero().squeeze(1), 0)
            if module.bias is not None and axis == ROWS:
                module.bias[closed] = 0


@torch.no_grad()
def cut(model: PreTrainedModel, kept: Kept) -> PreTrainedModel:
    """A new model of what `kept` names: same family, dtype, device and mode, tied heads tied.

    Its class is the stock one where all layers have equal widths that the stock configuration accepts, else
    that of `lowbit.layerwise`. Raises `UserError` for a quantised model and a family without slicing rules.
    """
    from transformers import AutoModelForCausalLM

    _check(model, kept)
    config = reshaped(model.config, kept)
    with torch.device("meta"):
        small: Any = AutoModelForCausalLM.from_config(
            config, dtype=model.dtype, attn_implementation=model.config._attn_implementation
        )
    # A tied head takes the weight of the embedding.
    head = {"lm_head.weight"} if config.tie_word_embeddings else set()
    weights = {name: value for name, value in _weights(model, kept) if name not in head}
    missing, unexpected = small.load_state_dict(weights, strict=False, assign=True)
    small.tie_weights()
    if unexpected or set(missing) - head:
        raise RuntimeError(f"the smaller model does not take {unexpected} and lacks {missing}")
    # Its table is no parameter, so it was left on the meta device.
    small.model.rotary_emb = type(small.model.rotary_emb)(config=small.config)
    small.generation_config = copy.deepcopy(model.generation_config)
    return small.to(model.device).train(model.training)


def reshaped(config: Any, kept: Kept) -> Any:
    """The configuration of the model that `cut` makes of one that `config` describes."""
    before = widths_of(config)
    widths = []
    for at in kept.layers:
        queries = before[at].num_attention_heads // before[at].num_key_value_heads
        groups = len(kept.groups[at])
        widths.append(Widths(len(kept.ffn[at]), groups * queries, groups))
    return resized(config, widths, kept.layers)


def verify(reference: PreTrainedModel, other: PreTrainedModel, tokens: torch.Tensor) -> float:
    """Greatest absolute difference of the logits in fp32 on `tokens` (batch, length).

    Raises `RuntimeError` as `agree` does.
    """
    return agree(logits(reference, tokens), logits(other, tokens))


def agree(first: torch.Tensor, second: torch.Tensor, tolerance: float = TOLERANCE) -> float:
    """Greatest absolute difference of two models' logits.

    Raises `RuntimeError` when it exceeds `tolerance`, times the greatest logit where that is above 1: fp32
    keeps five digits of a sum in another order, and no more.
    """
    difference = float((first - second).abs().max())
    allowed = tolerance * max(1.0, float(first.abs().max()))
    if not difference <= allowed:
        raise RuntimeError(
            f"the models are not one function: logits differ by {difference:.3g}, more than {allowed:.3g}"
        )
    return difference


@torch.no_grad()
def logits(model: PreTrainedModel, tokens: torch.Tensor) -> torch.Tensor:
    """What `model` says of `tokens` in evaluation mode, fp32 on the CPU; it is left as it was found."""
    plain: Any = model
    if any(value.dtype != torch.float32 for value in model.parameters()):
        plain = copy.deepcopy(model).float()
    training = plain.training
    plain.eval()
    found = plain(input_ids=tokens.to(model.device), use_cache=False).logits
    plain.train(training)
    return found.float().cpu()


def probe(config: Any, rows: int = 2, length: int = 32) -> torch.Tensor:
    """Random token ids (rows, length), the same in every run, to verify with."""
    generator = torch.Generator().manual_seed(0)
    length = min(length, int(getattr(config, "max_position_embeddings", length)))
    return torch.randint(config.vocab_size, (rows, length), generator=generator)


def _check(model: PreTrainedModel, kept: Kept) -> None:
    units = Units.of(model.config)
    require_dense(model, "the model")
    kept.check(units)


def require_dense(model: Any, where: object) -> None:
    """Raise `UserError` when `model`, said to be `where`, is quantised: its weights cannot be cut."""
    packed = [
        name
        for name, value in model.named_parameters()
        if not value.is_floating_point() or value.element_size() == 1
    ]
    if packed or getattr(getattr(model, "config", None), "quantization_config", None) is not None:
        raise UserError(
            f"{where}: quantised{f' ({packed[0]})' if packed else ''}; a cut needs the dense weights: take "
            "the dense checkpoint, and quantise what is left"
        )


def _layers(model: PreTrainedModel) -> Any:
    return model.get_decoder().layers


def _slices(config: Any, kept: Kept, at: int) -> Iterator[tuple[str, int, torch.Tensor]]:
    """Name, axis and kept indices of every linear layer of layer `at`."""
    head = head_dim(config)
    widths = widths_of(config)[at]
    groups = torch.tensor(kept.groups[at])

    def spread(each: int) -> torch.Tensor:
        return (groups[:, None] * each + torch.arange(each)).flatten()

    queries = widths.num_attention_heads // widths.num_key_value_heads
    for names, indices in (
        (_FFN, torch.tensor(kept.ffn[at])),
        (_QUERIES, spread(queries * head)),
        (_KEYS, spread(head)),
    ):
        for name, axis in names.items():
            yield name, axis, indices


def _weights(model: PreTrainedModel, kept: Kept) -> Iterator[tuple[str, torch.Tensor]]:
    """Names in the smaller model and copies of what stays."""
    places = {old: new for new, old in enumerate(kept.layers)}
    slices = {
        (at, name): (axis, indices)
        for at in kept.layers
        for name, axis, indices in _slices(model.config, kept, at)
    }
    for full, value in model.state_dict().items():
        match = LAYER.match(full)
        if match is None:
            yield full, value.clone()
            continue
        at, rest = int(match[1]), match["rest"]
        if at not in places:
            continue
        axis, indices = slices.get((at, rest.rpartition(".")[0]), (ROWS, None))
        if indices is None or (axis == COLUMNS and rest.endswith(".bias")):
            part = value.clone()
        else:
            part = value.index_select(axis, indices.to(value.device))
        yield f"model.layers.{places[at]}.{rest}", part
