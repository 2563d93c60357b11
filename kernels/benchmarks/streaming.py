"""Time and peak memory of `lowbit.quantize_folder` on a synthetic sharded checkpoint.

    python kernels/benchmarks/streaming.py [--gigabytes 2] [--recipe higgs-4bit] [--hidden 2048]

Makes a bfloat16 Llama checkpoint in shards in a temporary folder, quantises it and writes JSON to standard
output. `peak_rss_bytes` is that of the whole process, libraries included; `rss_before_bytes` is what they
took before the call, so the difference is the price of the work.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lowbit
import torch
import transformers
from lowbit.folder import skeleton
from lowbit.tensorfile import INDEX, Writer
from transformers import LlamaConfig

VOCABULARY = 32_000
SHARD_LAYERS = 4
EIGHT_BILLION = 6.98e9  # weights of the linear layers of Llama-3.1-8B


def config_of(gigabytes: float, hidden: int) -> LlamaConfig:
    """A Llama of this size in bfloat16, whole layers rounded up."""
    layer = hidden * hidden * 2 + 2 * hidden * hidden // 4 + 3 * hidden * 4 * hidden
    rest = 2 * VOCABULARY * hidden
    return LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=hidden,
        intermediate_size=4 * hidden,
        num_hidden_layers=max(1, math.ceil((gigabytes * 1e9 / 2 - rest) / layer)),
        num_attention_heads=hidden // 64,
        num_key_value_heads=hidden // 256,
        tie_word_embeddings=False,
        dtype="bfloat16",
    )


def shards_of(config: LlamaConfig) -> Iterator[dict[str, tuple[int, ...]]]:
    """Names and shapes of the tensors, shard by shard."""
    hidden, inner = config.hidden_size, config.intermediate_size
    keys = hidden * config.num_key_value_heads // config.num_attention_heads
    yield {
        "model.embed_tokens.weight": (VOCABULARY, hidden),
        "model.norm.weight": (hidden,),
        "lm_head.weight": (VOCABULARY, hidden),
    }
    shapes: dict[str, tuple[int, ...]] = {
        "self_attn.q_proj": (hidden, hidden),
        "self_attn.k_proj": (keys, hidden),
        "self_attn.v_proj": (keys, hidden),
        "self_attn.o_proj": (hidden, hidden),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
        "input_layernorm": (hidden,),
        "post_attention_layernorm": (hidden,),
    }
    for first in range(0, config.num_hidden_layers, SHARD_LAYERS):
        numbers = range(first, min(first + SHARD_LAYERS, config.num_hidden_layers))
        yield {
            f"model.layers.{number}.{name}.weight": shape
            for number in numbers
            for name, shape in shapes.items()
        }


def make_checkpoint(folder: Path, config: LlamaConfig) -> None:
    """Write the checkpoint, Gaussian weights of seed 0, one tensor in memory at a time."""
    generator = torch.Generator().manual_seed(0)
    config.save_pretrained(folder)
    shards = list(shards_of(config))
    places = {}
    for number, tensors in enumerate(shards, 1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        places |= dict.fromkeys(tensors, file)
        with Writer(
            folder / file, {name: (shape, torch.bfloat16) for name, shape in tensors.items()}
        ) as writer:
            for name, shape in tensors.items():
                weight = torch.empty(shape, dtype=torch.bfloat16).normal_(std=0.02, generator=generator)
                writer.write(name, weight)
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": places}))


def peak_rss() -> int:
    """Bytes; Linux counts in KiB, macOS in bytes."""
    found = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return found if sys.platform == "darwin" else found * 1024


def measure(gigabytes: float, recipe: str, hidden: int, folder: Path) -> dict[str, Any]:
    """Quantise a checkpoint made for it in `folder`; seconds and bytes."""
    source = folder / "source"
    source.mkdir()
    config = config_of(gigabytes, hidden)
    make_checkpoint(source, config)
    skeleton(source)  # imports what the call will import
    before = peak_rss()
    start = time.perf_counter()
    report = lowbit.quantize_folder(source, recipe, folder / "target", seed=1)
    seconds = time.perf_counter() - start
    weights = sum(math.prod(layer.shape) for layer in report.layers.values())
    return {
        "recipe": recipe,
        "source_bytes": sum(file.stat().st_size for file in source.glob("*.safetensors")),
        "target_bytes": report.bytes,
        "largest_tensor_bytes": 2 * max(math.prod(s) for part in shards_of(config) for s in part.values()),
        "quantized_weights": weights,
        "seconds": round(seconds, 2),
        "minutes_for_8b": round(seconds / weights * EIGHT_BILLION / 60, 1),
        "rss_before_bytes": before,
        "peak_rss_bytes": peak_rss(),
        "machine": {
            "cpus": os.cpu_count(),
            "torch_threads": torch.get_num_threads(),
            "processor": platform.processor() or platform.machine(),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
    }


def main() -> None:
    """Parse the command line and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--recipe", default="higgs-4bit")
    parser.add_argument("--hidden", type=int, default=2048, help="a multiple of 256")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(given.gigabytes, given.recipe, given.hidden, Path(folder))
    sys.stdout.write(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
