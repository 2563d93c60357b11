"""Ternary models that were trained: what they win back, at what size, and what each part of the recipe does.

Three seeds. A variant changes one key of `quantize.qat`, or the recipe. All start from the same adapted
model; the tokens are those of params.yaml, less than a third of `pretrain`'s.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from tests.proof.common import SCRATCH, begin_like, piece, run, score, workspace, write_result

CLAIM = "ternary"
SEEDS = (1, 2, 3)
UNTRAINED = ("adapt-bf16", "adapt-ternary")
QAT, HYBRID = "adapt-ternary-qat", "adapt-hybrid-ternary"
# Variant -> what it changes of quantize.qat; the learning rates are a quarter and four times the default.
ABLATION: dict[str, dict[str, Any]] = {
    "all at once": {"blend_share": 0.0},
    "no teacher": {"cross_entropy_weight": 1.0},
    "teacher alone": {"cross_entropy_weight": 0.0},
    "one linear decay": {"training": {"schedule": "linear"}},
    "low rate": {"training": {"learning_rate": 5.0e-4}},
    "high rate": {"training": {"learning_rate": 8.0e-3}},
}
NORMAL = 1.959964  # of a two-sided interval of 95 %


def measure() -> None:
    """Per seed: the default recipe, the hybrid, every variant; all scored and compared."""
    seeds = {}
    for seed in SEEDS:
        names = piece(CLAIM, f"made-{seed}", lambda seed=seed: _make(seed))
        for name, checkpoint in names.items():
            piece(
                CLAIM,
                f"scored-{seed}-{name}",
                lambda seed=seed, name=name, path=checkpoint: score(
                    _folder(seed), Path(path), _scores(seed, name)
                ),
            )
        seeds[seed] = piece(CLAIM, f"compared-{seed}", lambda seed=seed, names=names: _compare(seed, names))
    write_result(CLAIM, {"ablation": ABLATION, "tokens": _tokens(), "seeds": seeds})


def _folder(seed: int) -> Path:
    return SCRATCH / CLAIM / f"seed-{seed}"


def _scores(seed: int, name: str) -> Path:
    return SCRATCH / CLAIM / "scores" / f"{seed}-{name.replace(' ', '-')}"


def _edit(seed: int, changes: dict[str, Any]) -> Any:
    def edit(params: dict[str, Any]) -> None:
        params["seed"] = seed
        params["candidates"] = {
            name: {"source": "adapt", "recipe": name.removeprefix("adapt-")}
            for name in (*UNTRAINED, QAT, HYBRID)
        }
        block = params["quantize"]["qat"]
        training = block["training"] | changes.get("training", {})
        block |= changes | {"training": training}

    return edit


def _make(seed: int) -> dict[str, str]:
    """Train everything of one seed; model name -> checkpoint folder."""
    main = workspace(CLAIM, f"seed-{seed}", _edit(seed, {}))
    candidates = (*UNTRAINED, QAT, HYBRID)
    run(["dvc", "repro", *(f"quantize@{name}" for name in candidates)], main)
    made = {name: str(main / "out" / "quantize" / name) for name in candidates}
    for name, changes in ABLATION.items():
        folder = workspace(CLAIM, f"{name.replace(' ', '-')}-{seed}", _edit(seed, changes))
        begin_like(folder, main)
        run(["dvc", "repro", f"quantize@{QAT}"], folder)
        made[name] = str(folder / "out" / "quantize" / QAT)
    return made


def _compare(seed: int, names: dict[str, str]) -> dict[str, Any]:
    """Per model and language: bits per character, and the share won back of what `ternary` lost."""

    from stages.gate.reading import evaluation
    from stages.measure.size import stored_bytes

    models = {name: evaluation(name, _scores(seed, name)) for name in names}
    return {
        name: {
            "bytes": stored_bytes(Path(checkpoint)),
            **{language: _won_back(models, name, language) for language in ("ru", "en")},
        }
        for name, checkpoint in names.items()
    }


def _won_back(models: dict[str, Any], name: str, language: str) -> dict[str, Any]:
    """(lost by `ternary` - lost by `name`) / lost by `ternary`, in bits over the same documents.

    A ratio of sums with its interval by the delta method over documents.
    """
    import numpy as np

    from evals.gate.tables import bits_and_characters, paired

    parent, floor = UNTRAINED
    won = bits_and_characters(paired(models[floor], models[name], f"bpc_{language}"))
    lost = bits_and_characters(paired(models[floor], models[parent], f"bpc_{language}"))
    bits, gained = won["other"], won["candidate"] - won["other"]
    possible = lost["candidate"] - lost["other"]
    share = gained.sum() / possible.sum()
    spread = np.square(gained - share * possible).sum() * len(bits) / (len(bits) - 1)
    half = NORMAL * math.sqrt(spread) / abs(possible.sum())
    return {
        "bits_per_character": bits.sum() / won["chars"].sum(),
        "won_back": share,
        "low": share - half,
        "high": share + half,
        "documents": len(bits),
    }


def _tokens() -> dict[str, int]:
    import yaml

    params = yaml.safe_load((_folder(SEEDS[0]) / "params.yaml").read_text(encoding="utf-8"))
    return {
        "pretrain": params["pretrain"]["training"]["tokens"],
        "qat": params["quantize"]["qat"]["training"]["tokens"],
    }
