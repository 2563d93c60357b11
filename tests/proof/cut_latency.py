"""Latency of cut models against the dense one, through what the stage `measure` times with.

A Llama-shaped model of random weights is cut by `stages.adapt.shrink` with random scores, so only sizes
matter. Each round times every cut model right beside the dense one, the order alternating from round to
round, in a process of its own that holds all models. A ratio is cut over dense, of two neighbours in time.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

from stages.common.params.adaptation import ShrinkBlock
from tests.proof.common import ROOT, SCRATCH, piece, replace_between, run, write_result
from tests.proof.markdown import table

CLAIM = "cut_latency"
SHAPE = {
    "vocab_size": 8192,
    "hidden_size": 1024,
    "intermediate_size": 2816,
    "num_hidden_layers": 12,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "max_position_embeddings": 1024,
    "tie_word_embeddings": True,
    "bos_token_id": None,
    "eos_token_id": None,
}
DENSE = "dense"
SHARES, MODES = (0.2, 0.3, 0.4), ("global", "uniform")
MULTIPLE = 32  # neurons; KV groups go one by one
BLOCKS, ROUNDS = 3, 5  # processes, and rounds in each
PROMPT, NEW_TOKENS, THREADS, WARMUP, SEED = 512, 24, 2, 1, 7
TIMES = ("prefill", "decode", "whole")
PAGE, BEGIN, END = ROOT / "docs" / "pruning.md", "<!-- cut_latency:begin -->", "<!-- cut_latency:end -->"


def measure() -> None:
    """Make the models, time them in blocks, and put the paired ratios beside those of the bytes."""
    models = SCRATCH / CLAIM / "models"
    if not models.is_dir():
        # Pieces of other models say nothing about these.
        shutil.rmtree(SCRATCH / CLAIM, ignore_errors=True)
    about = piece(CLAIM, "models", lambda: _make(models))
    blocks = [
        piece(CLAIM, f"block-{block}", lambda block=block: _block(models, block)) for block in range(BLOCKS)
    ]
    rounds = [one for block in blocks for one in block["rounds"]]
    dense = about[DENSE]
    cuts = {
        name: {
            **made,
            "bytes_ratio": made["weight_bytes"] / dense["weight_bytes"],
            "times": {what: _paired(rounds, name, what) for what in TIMES},
        }
        for name, made in about.items()
        if name != DENSE
    }
    found = {
        "threads": THREADS,
        "prompt_tokens": PROMPT,
        "new_tokens": NEW_TOKENS,
        "rounds": len(rounds),
        "dtype": blocks[0]["dtype"],
        "load_average": [block["load_average"] for block in blocks],
        "dense": {**dense, "seconds": {what: _seconds(rounds, what) for what in TIMES}},
        "cuts": cuts,
    }
    write_result(CLAIM, found)
    replace_between(PAGE, BEGIN, END, tables(found))


def tables(found: dict[str, Any]) -> str:
    """The ratios of time beside those of the bytes, as Markdown."""
    dense = found["dense"]
    head = ("cut", "removed", "bytes", *(f"time of {what}" for what in TIMES))
    rows = [
        (
            name,
            f"{cut['after_rounding']:.1%}",
            f"{cut['bytes_ratio']:.3f}",
            *(
                f"{one['ratio']:.3f} [{one['low']:.3f}, {one['high']:.3f}]"
                for one in (cut["times"][what] for what in TIMES)
            ),
        )
        for name, cut in found["cuts"].items()
    ]
    return (
        f"{dense['parameters'] / 1e6:.0f} M parameters in {found['dtype']}, {found['threads']} threads, "
        f"{found['rounds']} rounds, prompt {found['prompt_tokens']} tokens, {found['new_tokens']} new ones "
        f"(dense: {dense['seconds']['prefill']:.2f} s and {1e3 * dense['seconds']['decode']:.0f} ms each). "
        "`removed` is of the gateable parameters after rounding; other columns are cut over dense.\n\n"
        + table(head, rows)
    )


def _make(folder: Path) -> dict[str, Any]:
    """Write the dense model and its cuts below `folder`; sizes by name."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from stages.adapt.shrink.budget import choose
    from stages.adapt.shrink.slicing import cut
    from stages.adapt.shrink.units import Scores, Units

    torch.manual_seed(SEED)
    model: Any = LlamaForCausalLM(LlamaConfig(**SHAPE)).eval()
    units = Units.of(model.config)
    scores = Scores(
        tuple(torch.rand(layer.ffn) for layer in units.layers),
        tuple(torch.rand(layer.groups) for layer in units.layers),
    )
    about = {DENSE: {**_saved(model, folder / DENSE), "gateable": units.gateable}}
    for mode in MODES:
        for share in SHARES:
            settings = ShrinkBlock(share=share, mode=mode, multiples={"ffn": MULTIPLE, "groups": 1})
            choice = choose(units, scores, settings)
            name = f"{mode}-{share:g}"
            about[name] = {
                "asked": share,
                "before_rounding": choice.before_rounding,
                "after_rounding": choice.after_rounding,
                **_saved(cut(model, choice.kept), folder / name),
            }
    return about


def _saved(model: Any, folder: Path) -> dict[str, Any]:
    from stages.common.checkpoint import weight_bytes

    model.save_pretrained(folder)
    return {
        "model_type": model.config.model_type,
        "parameters": model.num_parameters(),
        "weight_bytes": weight_bytes(folder),
        "intermediate_sizes": [layer.mlp.up_proj.out_features for layer in model.model.layers],
        "kv_groups": [
            layer.self_attn.k_proj.out_features // layer.self_attn.head_dim for layer in model.model.layers
        ],
    }


def _block(models: Path, block: int) -> dict[str, Any]:
    command = [sys.executable, "-m", f"tests.proof.{CLAIM}", str(models), str(block)]
    return json.loads(run(command, ROOT).stdout)


def _rounds(models: Path, block: int) -> dict[str, Any]:
    """The rounds of one block: per cut, the times of the dense model and of the cut one, in seconds."""
    from stages.common import environment

    environment.fix_threads(THREADS)
    from stages.common.checkpoint import load_model
    from stages.measure import timing
    from stages.measure.machine import describe

    loaded = {path.name: load_model(path) for path in sorted(models.iterdir())}
    dense = loaded.pop(DENSE)
    ids_1P = timing.prompt_ids(PROMPT, dense.config.vocab_size)
    synchronise = timing.synchroniser("cpu")

    def timed(model: Any) -> dict[str, float]:
        found = timing.generate(model, ids_1P, NEW_TOKENS, synchronise)
        decode = (found.total_s - found.first_s) / (NEW_TOKENS - 1)
        return dict(zip(TIMES, (found.first_s, decode, found.total_s), strict=True))

    for model in (dense, *loaded.values()):
        for _ in range(WARMUP):
            timed(model)
    rounds = []
    for number in range(block * ROUNDS, (block + 1) * ROUNDS):
        # The neighbour that comes first, and the cut that opens the round, change from round to round.
        names = list(loaded) if number % 4 < 2 else list(reversed(loaded))
        pairs = {}
        for name in names:
            order = [(DENSE, dense), ("cut", loaded[name])]
            pairs[name] = {which: timed(model) for which, model in (order if number % 2 else reversed(order))}
        rounds.append(pairs)
    return {
        "dtype": str(dense.dtype).removeprefix("torch."),
        "load_average": describe({})["load_average"],
        "rounds": rounds,
    }


def _paired(rounds: list[dict[str, Any]], name: str, what: str) -> dict[str, Any]:
    """Median of the paired ratios and its bootstrap interval over the rounds."""
    import numpy as np

    from stages.measure.timing import median_interval

    ratios = np.array([pairs[name]["cut"][what] / pairs[name][DENSE][what] for pairs in rounds])
    low, high = median_interval(ratios)
    return {"ratio": float(np.median(ratios)), "low": low, "high": high}


def _seconds(rounds: list[dict[str, Any]], what: str) -> float:
    import numpy as np

    return float(np.median([pair[DENSE][what] for pairs in rounds for pair in pairs.values()]))


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_rounds(Path(sys.argv[1]), int(sys.argv[2]))))
