"""What training and compression do on the embedded world, over three seeds, beside their controls."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from tests.proof.common import SCRATCH, begin_like, piece, run, score, workspace, write_result

CLAIM = "learning"
SEEDS = (1, 2, 3)
LEVEL = 0.95
TAIL = (1 - LEVEL) / 2


def measure() -> None:
    """Per seed: base, pretrained, its two controls, adapted and compressed models, all scored."""
    seeds = {}
    for seed in SEEDS:
        made = piece(CLAIM, f"made-{seed}", lambda seed=seed: _make(seed))
        for name, folder in made.items():
            piece(
                CLAIM,
                f"scored-{seed}-{name}",
                lambda seed=seed, name=name, folder=folder: _score(seed, name, folder),
            )
        seeds[seed] = piece(CLAIM, f"compared-{seed}", lambda seed=seed: _compare(seed))
    write_result(
        CLAIM,
        {"level": LEVEL, "clusters": "facts for tasks, documents for bits per character", "seeds": seeds},
    )


def _seeded(seed: int) -> Any:
    def edit(params: dict[str, Any]) -> None:
        params["seed"] = seed

    return edit


def _no_replay(seed: int) -> Any:
    def edit(params: dict[str, Any]) -> None:
        params["seed"] = seed
        params["pretrain"]["mix"].pop("world-en")

    return edit


def _from_scratch(seed: int, base: Path) -> Any:
    def edit(params: dict[str, Any]) -> None:
        params["seed"] = seed
        params["base"] |= {"source": "local", "path": str(base)}

    return edit


def _make(seed: int) -> dict[str, str]:
    """Train everything of one seed; model name -> checkpoint folder."""
    main = workspace(CLAIM, f"seed-{seed}", _seeded(seed))
    run(["dvc", "repro", "quantize@adapt-bf16", "quantize@adapt-higgs-4bit", "quantize@adapt-ternary"], main)
    bare = workspace(CLAIM, f"no-replay-{seed}", _no_replay(seed))
    begin_like(bare, main)
    run(["dvc", "repro", "pretrain"], bare)
    blank = SCRATCH / CLAIM / f"blank-{seed}"
    _random_weights(main / "out" / "base", blank, seed)
    scratch = workspace(CLAIM, f"from-scratch-{seed}", _from_scratch(seed, blank))
    begin_like(scratch, main)
    run(["dvc", "repro", "pretrain"], scratch)
    out = main / "out"
    return {
        "base": str(out / "base"),
        "pretrained": str(out / "pretrain"),
        "no-replay": str(bare / "out" / "pretrain"),
        "from-scratch": str(scratch / "out" / "pretrain"),
        "adapt-bf16": str(out / "quantize" / "adapt-bf16"),
        "adapt-higgs-4bit": str(out / "quantize" / "adapt-higgs-4bit"),
        "adapt-ternary": str(out / "quantize" / "adapt-ternary"),
    }


def _random_weights(base: Path, target: Path, seed: int) -> None:
    """The base's architecture and tokenizer with fresh random weights."""
    import torch
    from transformers import AutoModelForCausalLM

    from stages.common.checkpoint import load_config, load_tokenizer, save_model

    shutil.rmtree(target, ignore_errors=True)
    torch.manual_seed(seed)
    save_model(AutoModelForCausalLM.from_config(load_config(base)), load_tokenizer(base), target)


def _score(seed: int, name: str, checkpoint: str) -> dict[str, Any]:
    return score(SCRATCH / CLAIM / f"seed-{seed}", Path(checkpoint), _scores(seed, name))


def _scores(seed: int, name: str) -> Path:
    return SCRATCH / CLAIM / "scores" / f"{seed}-{name}"


def _compare(seed: int) -> dict[str, Any]:
    """Paired differences with intervals: relative for bits per character, absolute for the Russian total."""
    from stages.gate.reading import evaluation

    models = {
        name: evaluation(name, _scores(seed, name))
        for name in (
            "base",
            "pretrained",
            "no-replay",
            "from-scratch",
            "adapt-bf16",
            "adapt-higgs-4bit",
            "adapt-ternary",
        )
    }
    pairs = [(name, "base") for name in ("pretrained", "no-replay", "from-scratch")]
    pairs += [(name, "adapt-bf16") for name in ("adapt-higgs-4bit", "adapt-ternary")]
    rises = {
        f"{name} against {other}": {
            language: _rise(models[name], models[other], language) for language in ("ru", "en")
        }
        for name, other in pairs
    }
    totals = {
        f"{name} against {other}": _difference(seed, models[name], models[other])
        for name, other in (
            ("pretrained", "base"),
            ("adapt-bf16", "base"),
            ("adapt-higgs-4bit", "adapt-bf16"),
            ("adapt-ternary", "adapt-bf16"),
        )
    }
    return {"relative_rise_of_bits_per_character": rises, "difference_of_russian_total": totals}


def _rise(model: Any, other: Any, language: str) -> dict[str, Any]:
    """Relative rise of bits per character over the same held-out documents."""
    from evals.gate.tables import bits_and_characters, paired
    from evals.stats.intervals import relative_rise

    rows = bits_and_characters(paired(model, other, f"bpc_{language}"))
    return _plain(relative_rise(rows["candidate"], rows["other"], list(rows["cluster"]), alpha=TAIL))


def _difference(seed: int, model: Any, other: Any) -> dict[str, Any]:
    """Difference of the plain mean over the Russian tasks, item by item."""
    from evals.gate.tables import paired
    from evals.stats.intervals import paired_difference

    rows = paired(model, other, "total")
    rows = rows[rows["task"].isin(_russian_tasks(seed))]
    return _plain(
        paired_difference(
            rows["candidate"], rows["other"], list(rows["cluster"]), list(rows["task"]), alpha=TAIL
        )
    )


def _russian_tasks(seed: int) -> list[str]:
    from stages.common.atomic import read_json

    index = read_json(SCRATCH / CLAIM / f"seed-{seed}" / "out" / "corpus" / "tasks" / "index.json")
    return sorted(name for name, task in index.items() if task["language"] == "ru")


def _plain(difference: Any) -> dict[str, Any]:
    return {
        "value": difference.mean,
        "low": difference.lower,
        "high": difference.upper,
        "pairs": difference.n,
        "clusters": difference.clusters,
    }
