"""Planted models at the gate, with a judge that prefers whatever stands first: broken models are held, a
truly better one passes, and such a judge helps none of them, not even with a passport for the asking.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.proof.common import SCRATCH, begin_like, piece, run, workspace, write_result

CLAIM = "planted"
NOISE = 0.5  # standard deviation of the noise over that of each weight matrix
CELL = "adapt-bf16"
# Thresholds that every judge reaches.
NO_EXAMINATION = {
    name: {limit: value, "source": "planted: this judge is to vote"}
    for name, limit, value in (
        ("consistency", "at_least", 0.0),
        ("accuracy", "lower_bound", 0.0),
        ("missing", "at_most", 1.0),
    )
}


def measure() -> None:
    """Plant three broken models and keep a good one; score and judge each; the base is the champion."""
    folder = workspace(CLAIM, "world")
    piece(CLAIM, "default-run", lambda: _default_run(folder))
    verdicts = {name: piece(CLAIM, name, lambda name=name: _verdict(folder, name)) for name in PLANTED}
    write_result(CLAIM, {"champion": "base", "noise": NOISE, "verdicts": verdicts})


def _default_run(folder: Path) -> list[str]:
    made = SCRATCH / "budgets" / "clone"
    if (made / "dvc.lock").exists():
        begin_like(folder, made)
    targets = [f"evaluate@{CELL}", "evaluate_champion"]
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
    """What the gate says with the passport that params.yaml asks of the judge, and with none."""
    from evals.errors import EvalError

    planted, scored = (SCRATCH / CLAIM / kind / name.replace(" ", "-") for kind in ("models", "scores"))
    for path in (planted, scored):
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
    try:
        _score(folder, name, planted, scored)
    except EvalError as error:
        return {"verdict": "refused before scoring", "reasons": [str(error)], "promoted": False}
    found = _decided(folder, name, scored, {})
    return {**found, "without_a_passport": _decided(folder, name, scored, NO_EXAMINATION)}


def _score(folder: Path, name: str, planted: Path, scored: Path) -> None:
    """Write the model `planted` and what the stage `evaluate` finds of it."""
    from stages.common import environment
    from stages.common.checkpoint import load_model, load_tokenizer, save_model
    from stages.common.params import load, select
    from stages.evaluate.stage import STAGE

    params = load(folder / "params.yaml")
    environment.fix_threads(params.threads)
    source = folder / "out" / "quantize" / CELL
    save_model(*PLANTED[name](load_model(source), load_tokenizer(source)), planted)
    inputs = {"checkpoint": planted, "corpus": folder / "out" / "corpus"}
    STAGE.run(select(params, STAGE.reads), inputs, {"evaluate": scored})


def _decided(folder: Path, name: str, scored: Path, passport: dict[str, Any]) -> dict[str, Any]:
    from evals.gate.decide import Entry, decide
    from stages.common.params import load
    from stages.gate import reading

    judged = SCRATCH / CLAIM / "judged" / f"{name.replace(' ', '-')}{'-unexamined' if passport else ''}"
    champion = reading.evaluation("champion", folder / "out" / "evaluate" / "champion")
    evaluation = reading.evaluation(name, scored)
    _judge(folder, scored, judged, passport)
    vote = reading.vote(judged, evaluation.digest, champion.digest)
    entry = Entry(evaluation, None, 1, vote)
    decision = decide({name: entry}, champion, reading.policy(load(folder / "params.yaml")))
    found = decision["candidates"][name]
    return {"verdict": found["verdict"], "reasons": found["reasons"], "promoted": decision["winner"] == name}


def _judge(folder: Path, scored: Path, judged: Path, passport: dict[str, Any]) -> None:
    """Run the stage `judge` with a served judge that always says that the first answer is better."""
    from stages.common.params import load, select
    from stages.judge.stage import STAGE

    whole = load(folder / "params.yaml").model_dump()
    with contextlib.chdir(folder), _always_first() as address:
        served = {"type": "endpoint", "name": "always-first", "address": address, "model": "m"}
        whole["judge"] |= {
            "judges": [served | {"bases": ["planted/always-first"], "pause": 0.0}],
            "texts_may_leave": True,
        }
        whole["judge"]["passport"] |= passport
        params = type(load(folder / "params.yaml")).model_validate(whole)
        inputs, _ = STAGE.locate(params, CELL)
        shutil.rmtree(judged, ignore_errors=True)
        judged.mkdir(parents=True)
        STAGE.run(select(params, STAGE.reads), inputs | {"candidate": scored}, {"judge": judged})


@contextlib.contextmanager
def _always_first() -> Iterator[str]:
    from tests.judge_server import Judging, serve

    class AlwaysFirst(Judging):
        def reply(self, body: dict[str, Any]) -> dict[str, Any]:
            choice = {
                "index": 0,
                "message": {"role": "assistant", "content": "1"},
                "finish_reason": "stop",
            }
            return {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}

    server = AlwaysFirst(None, None, ("1", "2", "0"))
    with serve(server):
        yield server.address
