"""Losses per token: cross entropy, and forward KL to a frozen teacher.

Logits of a big vocabulary never exist for the whole batch: the head runs chunk by chunk over the tokens and
again in the backward pass. Shapes: N tokens of a batch, H hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from stages.common.training.sampler import Batch

CHUNK_ELEMENTS = 2**25  # logits of a chunk: 128 MiB in fp32

Loss = Callable[[Any, Batch], Tensor]


def body_and_head(model: Any) -> tuple[Any, Any]:
    """The decoder without its head, and the head, of a plain or a peft-wrapped causal language model."""
    plain = model.get_base_model() if hasattr(model, "get_base_model") else model
    return plain.get_decoder(), plain.get_output_embeddings()


def hidden_states(body: Any, batch: Batch) -> Tensor:
    """Last hidden states, shape (N, H), with attention confined to each document.

    Transformers builds the block-diagonal mask from `position_ids` only when no mask and no cache is passed.
    """
    states_BTH = body(
        input_ids=batch.inputs_BT, position_ids=batch.positions_BT, attention_mask=None, use_cache=False
    ).last_hidden_state
    return states_BTH.flatten(0, 1)


def chunk_tokens(vocab_size: int) -> int:
    """Tokens whose logits are computed together."""
    return max(1, CHUNK_ELEMENTS // vocab_size)


def _in_chunks(function: Callable[..., Tensor], tokens: int, *tensors: Tensor) -> Tensor:
    """Sum of `function` over chunks of `tokens` rows; its insides are recomputed in the backward pass."""
    rows = tensors[0].shape[0]
    if rows <= tokens:
        return function(*tensors)
    total = tensors[0].new_zeros((), dtype=torch.float32)
    for chunk in zip(*(tensor.split(tokens) for tensor in tensors), strict=True):
        total = total + checkpoint(function, *chunk, use_reentrant=False)
    return total


def cross_entropy(model: Any, batch: Batch) -> Tensor:
    """Mean next-token cross entropy in nats, a scalar; where the batch has weights, the weighted mean."""
    body, head = body_and_head(model)
    tokens = chunk_tokens(head.weight.shape[0])

    def summed(states_NH: Tensor, targets_N: Tensor) -> Tensor:
        return F.cross_entropy(head(states_NH).float(), targets_N, reduction="sum")

    def weighted(states_NH: Tensor, targets_N: Tensor, weights_N: Tensor) -> Tensor:
        losses_N = F.cross_entropy(head(states_NH).float(), targets_N, reduction="none")
        return (losses_N * weights_N).sum()

    states_NH, targets_N = hidden_states(body, batch), batch.targets_BT.flatten()
    if batch.weights_BT is None:
        return _in_chunks(summed, tokens, states_NH, targets_N) / targets_N.numel()
    weights_N = batch.weights_BT.flatten()
    counted = weights_N > 0  # no logits for prompts and padding
    total = _in_chunks(weighted, tokens, states_NH[counted], targets_N[counted], weights_N[counted])
    return total / (weights_N.sum() if batch.weight is None else batch.weight)


def distillation(teacher: Any, cross_entropy_weight: float, temperature: float, vocab_size: int) -> Loss:
    """Loss (1 - w) T^2 KL(p_T || q_T) + w CE, mean per token in nats.

    p is the teacher's and q the student's distribution, both softened by the temperature T; T^2 keeps the
    gradient's size independent of T (Hinton et al. 2015, section 2). `teacher` is used as it is, without
    gradients. Embedding rows beyond `vocab_size` are padding, which teacher and student may have in
    different numbers, and do not count.
    """
    teacher_body, teacher_head = body_and_head(teacher)
    weight, square = cross_entropy_weight, temperature**2

    def loss(student: Any, batch: Batch) -> Tensor:
        body, head = body_and_head(student)

        def summed(states_NH: Tensor, teacher_NH: Tensor, targets_N: Tensor) -> Tensor:
            logits_NV = head(states_NH)[:, :vocab_size].float()
            with torch.no_grad():
                taught_NV = teacher_head(teacher_NH)[:, :vocab_size].float()
                logp_NV = F.log_softmax(taught_NV / temperature, dim=-1)
            logq_NV = F.log_softmax(logits_NV / temperature, dim=-1)
            divergence = F.kl_div(logq_NV, logp_NV, reduction="sum", log_target=True)
            if weight == 0:
                return square * divergence
            entropy = F.cross_entropy(logits_NV, targets_N, reduction="sum")
            return (1 - weight) * square * divergence + weight * entropy

        with torch.no_grad():
            teacher_NH = hidden_states(teacher_body, batch)
        states_NH, targets_N = hidden_states(body, batch), batch.targets_BT.flatten()
        tokens = chunk_tokens(head.weight.shape[0])
        return _in_chunks(summed, tokens, states_NH, teacher_NH, targets_N) / targets_N.numel()

    return loss
