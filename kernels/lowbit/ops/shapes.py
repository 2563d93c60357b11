"""The linear layers of one decoder layer of the models that are measured: (N, K) and whether there is a bias.

From the models' published configurations (config.json on the hub): hidden size, intermediate size, heads.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Linear:
    """A layer of N outputs and K inputs; layers with the same `source` have the same input."""

    name: str
    outputs: int
    inputs: int
    source: str
    bias: bool = False


def _layers(hidden: int, kv: int, intermediate: int, bias: bool) -> tuple[Linear, ...]:
    return (
        Linear("q_proj", hidden, hidden, "attention", bias),
        Linear("k_proj", kv, hidden, "attention", bias),
        Linear("v_proj", kv, hidden, "attention", bias),
        Linear("o_proj", hidden, hidden, "heads"),
        Linear("gate_proj", intermediate, hidden, "mlp"),
        Linear("up_proj", intermediate, hidden, "mlp"),
        Linear("down_proj", hidden, intermediate, "activated"),
    )


MODELS = {
    "Llama-3.1-8B": _layers(4096, 1024, 14336, bias=False),
    "Qwen2.5-7B": _layers(3584, 512, 18944, bias=True),
}
TOKENS = (1, 4, 16, 64, 512)
GRIDS = ("p2n256", "p1n16")
