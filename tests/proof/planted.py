"""Planted models at the gate: broken ones are held, a truly better one passes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from tests.proof.common import SCRATCH, begin_like, piece, run, workspace, write_result

CLAIM = "planted"
NOISE = 0.5  # standard deviation of the noise over that of each weight matrix


def measure() -> None:
    """Plant three broken models and keep a good one; score each; the base is the champion."""
    folder = workspace(CLAIM, "world")
    piece(CLAIM, "default-run", lambda: _default_run(folder))
    verdicts = {name: piece(CLAIM, name, lambda name=name: _verdict(folder, name)) for name in PLANTED}
    write_result(CLAIM, {"champion": "base", "noise": NOISE, "verdicts": verdicts})


def _default_run(folder: Path) -> list[str]:
    made = SCRATCH / "budgets" / "clone"
    if (made / "dvc.lock").exists():
        begin_like(folder, made)
    targets = ["evaluate@adapt-bf16", "evaluate_champion"]
    run(["dvc", "repro", *targets], folder)
    return targets


def _random_weights(model: Any, tokenizer: Any) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(model.config), tokenizer


def _swapped_tokenizer(model: Any, tokenizer: Any) -> tuple[Any, Any]:
    """The same vocabulary with its learned tokens renumbered: every id is valid, no text keeps its sense."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    described = json.loads(tokenizer.backend_tokenizer.to_str())
    vocab, special = described["model"]["vocab"], {token["content"] for token in described["added_tokens"]}
    names = sorted((name for name in vocab if name not in special), key=lambda name: vocab[name])
    ids = [vocab[name] for name in names]
    described["model"]["vocab"] = {**vocab, **dict(zip(names, reversed(ids), strict=True))}
    swapped = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(described)),
        eos_token=tokenizer.eos_token,
        pad_token=tokenizer.pad_token,
    )
    return model, swapped


def _noise(model: Any, tokenizer: Any) -> tuple[Any, Any]:
    import torch

    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 2:
                weight += (
                    NOISE * weight.std() * torch.randn(weight.shape, generator=generator, dtype=weight.dtype)
                )
    return model, tokenizer


def _unchanged(model: Any, tokenizer: Any) -> tuple[Any, Any]:
    return model, tokenizer


PLANTED = {
    "random weights": _random_weights,
    "swapped tokenizer": _swapped_tokenizer,
    "noise": _noise,
    "truly better": _unchanged,
}


def _verdict(folder: Path, name: str) -> dict[str, Any]:
    from evals.errors import EvalError
    from evals.gate.decide import Entry, Vote, decide
    from stages.common import environment
    from stages.common.checkpoint import load_model, load_tokenizer, save_model
    from stages.common.params import load, select
    from stages.evaluate.stage import STAGE
    from stages.gate import reading

    params = load(folder / "params.yaml")
    environment.fix_threads(params.threads)
    source = folder / "out" / "quantize" / "adapt-bf16"
    planted, scored = (SCRATCH / CLAIM / kind / name.replace(" ", "-") for kind in ("models", "scores"))
    for path in (planted, scored):
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
    save_model(*PLANTED[name](load_model(source), load_tokenizer(source)), planted)
    try:
        STAGE.run(
            select(params, STAGE.reads),
            {"checkpoint": planted, "corpus": folder / "out" / "corpus"},
            {"evaluate": scored},
        )
    except EvalError as error:
        return {"verdict": "refused before scoring", "reasons": [str(error)], "promoted": False}
    champion = reading.evaluation("champion", folder / "out" / "evaluate" / "champion")
    entry = Entry(reading.evaluation(name, scored), None, 1, Vote(False, "planted models are not judged"))
    decision = decide({name: entry}, champion, reading.policy(params))
    found = decision["candidates"][name]
    return {"verdict": found["verdict"], "reasons": found["reasons"], "promoted": decision["winner"] == name}
