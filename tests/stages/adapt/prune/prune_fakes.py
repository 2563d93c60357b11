"""Batches of random tokens, and what reaches a layer of a model."""

from __future__ import annotations

from typing import Any

import torch

from stages.common.training.sampler import Batch, positions


def batch(ids: Any, eos: int = 0) -> Batch:
    """Rows of token ids as a training gives them."""
    ids = torch.as_tensor(ids)
    return Batch(ids, ids, torch.from_numpy(positions(ids.numpy(), eos).copy()), {})


def batches(count: int, seed: int = 0) -> list[Batch]:
    generator = torch.Generator().manual_seed(seed)
    return [batch(torch.randint(300, (2, 16), generator=generator)) for _ in range(count)]


def seen(model: Any, name: str, given: list[Batch]) -> torch.Tensor:
    """What reached a layer, (rows, T, I) in float64."""
    found: list[torch.Tensor] = []
    hook = model.get_submodule(name).register_forward_pre_hook(
        lambda _, arguments: found.append(arguments[0].double())
    )
    with torch.no_grad():
        for one in given:
            model(input_ids=one.inputs_BT, position_ids=one.positions_BT, use_cache=False)
    hook.remove()
    return torch.cat(found)
