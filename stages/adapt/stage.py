"""Stage `adapt`: a method of the LoRA family, or one that cuts, on task text; a plain or smaller checkpoint
comes out, with the adapter beside it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stages.common.manifest import Facts
from stages.common.params import Params
from stages.common.stage import OUT, Paths, Stage


def run(params: Any, inputs: Paths, outputs: Paths) -> Facts:
    """Train by the declared method, save the adapter in `adapter/`, merge or cut, write the checkpoint."""
    import torch

    from stages.adapt import chat
    from stages.adapt.adaptation import AdaptContext, trainable_parameters
    from stages.adapt.methods import wrap_of
    from stages.adapt.supervised.data import data_of
    from stages.common.checkpoint import load_model, save_model
    from stages.common.training.losses import cross_entropy
    from stages.common.training.optimiser import steps_of
    from stages.common.training.session import CURVE, Session

    block, out = params.adapt, outputs["checkpoint"]
    session = Session.begin("adapt", params, inputs, checkpoints=("pretrain",))
    data = data_of(block, session, inputs)
    context = AdaptContext(
        block,
        params.seed,
        base=inputs["pretrain"],
        name=(OUT / "pretrain").as_posix(),
        steps=steps_of(block.training),
        device=session.device,
        shards=session.shards,
        tokenizer=session.tokenizer,
    )
    adaptation = wrap_of(block.method)(load_model(inputs["pretrain"], dtype=torch.float32), context)
    trainable = trainable_parameters(adaptation.model)
    trained = session.train(
        adaptation.model,
        adaptation.loss(cross_entropy),
        block.training,
        data.batches,
        "adapt.mix",
        evaluations=1,
        before=adaptation.before,
        observe=data.observe,
        rates=adaptation.rates(),
        undecayed=adaptation.undecayed,
        rate_keys=[f"adapt.{key}" for key in block.rate_keys],
    )
    adaptation.model.cpu()
    adaptation.save_adapter(out / "adapter")
    data.save_chat(out / "adapter", session.tokenizer)
    finished = adaptation.finish()
    chat.stop_at(finished.model, data.closing)
    save_model(finished.model, session.tokenizer, out)
    if block.cuts:
        _check_reloaded(finished.model, out)
    trained.write(out / CURVE)
    session.resume.clear()
    return Facts(
        lineage=data.lineage(session.lineage(data.shards, inputs["pretrain"])),
        tokens=trained.tokens,
        notes={"method": block.method, "trainable_parameters": trainable, **finished.notes, **data.notes},
    )


def _check_reloaded(model: Any, folder: Path) -> None:
    """Raise `RuntimeError` when what was written into `folder` is not the function of `model`."""
    from stages.adapt.shrink.slicing import probe, verify
    from stages.common.checkpoint import load_model

    verify(model, load_model(folder), probe(model.config))


def locate(params: Params, cell: str | None) -> tuple[dict[str, Path], dict[str, Path]]:  # noqa: ARG001
    """Reads what `pretrain` gave, the shards and, where files of them are declared, supervised examples."""
    inputs = {"pretrain": OUT / "pretrain", "tokens": OUT / "tokens"}
    if params.adapt.data is not None:
        inputs |= {"supervised": OUT / "supervised"}
    return inputs, {"checkpoint": OUT / "adapt"}


STAGE = Stage("adapt", run, reads=("adapt", "seed", "threads", "device"), locate=locate, checkpoint=True)
