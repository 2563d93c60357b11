"""From a parameter budget to the shape of a Qwen2 model trained from scratch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stages.common.errors import UserError
from stages.common.params.training import POSITIONS

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MIN_LAYERS, MAX_LAYERS = 4, 48
TOLERANCE = 0.25


@dataclass(frozen=True)
class Shape:
    """Dimensions of a Qwen2 decoder with tied embeddings."""

    vocab_size: int
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    intermediate: int

    @property
    def parameters(self) -> int:
        """Parameters, the tied embedding counted once."""
        head = self.hidden // self.heads
        wide, narrow = self.heads * head, self.kv_heads * head
        attention = 2 * self.hidden * wide + 2 * self.hidden * narrow + wide + 2 * narrow
        layer = attention + 3 * self.hidden * self.intermediate + 2 * self.hidden
        return self.vocab_size * self.hidden + self.layers * layer + self.hidden


def derive_shape(parameters: int, vocab_size: int) -> Shape:
    """The shape nearest to `parameters` among well-proportioned ones.

    Widths are powers of two or multiples of 128 (64 and 32 for the smallest budgets), so that rows divide
    into HIGGS groups; the feed-forward part is three times as wide; two query heads share a key-value head;
    the number of layers is even and at least four, so that every second one makes a student. Raises
    `UserError` when no shape comes within 25 % of the budget.
    """
    shapes = list(_candidates(vocab_size))
    fitting = [shape for shape in shapes if abs(shape.parameters / parameters - 1) <= TOLERANCE]
    if not fitting:
        best = min(shapes, key=lambda shape: abs(shape.parameters - parameters))
        smallest = min(shape.parameters for shape in shapes)
        raise UserError(
            f"params.yaml: no model of about {parameters} parameters fits {vocab_size} tokens; "
            f"the nearest has {best.parameters}, the smallest {smallest}; "
            "change `parameters` or `tokens.vocab_size`"
        )
    return min(fitting, key=lambda shape: (_misfit(shape, parameters), shape.parameters))


def _candidates(vocab_size: int) -> Iterator[Shape]:
    for hidden in (32, 64, *range(128, 4097, 128)):
        head = 16 if hidden == 32 else 32 if hidden < 512 else 64 if hidden < 2048 else 128
        heads = hidden // head
        for layers in range(MIN_LAYERS, MAX_LAYERS + 1, 2):
            yield Shape(vocab_size, hidden, layers, heads, max(1, heads // 2), 3 * hidden)


def _misfit(shape: Shape, parameters: int) -> float:
    """Distance from the budget, and a tenth of it from a good ratio of width to depth (32 at 128, 64 at
    1024).
    """
    ideal = 32 * (max(shape.hidden, 128) / 128) ** (1 / 3)
    budget = abs(math.log(shape.parameters / parameters))
    return budget + 0.1 * abs(math.log2(shape.hidden / shape.layers / ideal))


def config_of(shape: Shape, eos_id: int) -> Any:
    """The Transformers configuration of `shape`."""
    from transformers import Qwen2Config

    return Qwen2Config(
        vocab_size=shape.vocab_size,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        max_position_embeddings=POSITIONS,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=eos_id,
        # A padding index would keep the embedding of the end-of-text token from learning.
        pad_token_id=None,
    )


def new_model(shape: Shape, eos_id: int, seed: int) -> PreTrainedModel:
    """A model of `shape` with random fp32 weights drawn from `seed`."""
    import torch
    from transformers import Qwen2ForCausalLM

    torch.manual_seed(seed)
    return Qwen2ForCausalLM(config_of(shape, eos_id))
