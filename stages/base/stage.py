"""Stage `base`: trains a tiny base from scratch, or brings one along as it is."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from stages.common.manifest import Facts
from stages.common.params import Params
from stages.common.stage import OUT, Paths, Stage


def run(params: Any, inputs: Paths, outputs: Paths) -> Facts:
    """Write the base checkpoint: bootstrapped, or copied from a local folder or the hub."""
    return (_bootstrap if params.base.source == "bootstrap" else _bring)(
        params, inputs, outputs["checkpoint"]
    )


def _bootstrap(params: Any, inputs: Paths, out: Path) -> Facts:
    from stages.common.checkpoint import save_model
    from stages.common.training.losses import cross_entropy
    from stages.common.training.session import CURVE, Session
    from stages.common.training.shape import derive_shape, new_model

    session, block = Session.begin("base", params, inputs), params.base.bootstrap
    shape = derive_shape(block.parameters, session.shards.vocab_size)
    model = new_model(shape, session.shards.eos_id, params.seed)
    trained = session.train(
        model, cross_entropy, block.training, block.mix, "base.bootstrap.mix", evaluations=1
    )
    save_model(model.cpu(), session.tokenizer, out)
    trained.write(out / CURVE)
    session.resume.clear()
    lineage = {"base": {"source": "bootstrap", "licence": params.base.licence}, **session.lineage(block.mix)}
    return Facts(lineage=lineage, tokens=trained.tokens, notes={"parameters": shape.parameters})


def _bring(params: Any, inputs: Paths, out: Path) -> Facts:
    from stages.common.checkpoint import check_tokenizer, checkpoint_files, digest, load_model
    from stages.common.hub import base_folder
    from stages.common.training.loop import Trained
    from stages.common.training.session import CURVE

    folder = base_folder(params.base)
    parameters = sum(value.numel() for value in load_model(folder).parameters())
    check_tokenizer(folder, inputs["tokens"])
    for file in checkpoint_files(folder):
        shutil.copyfile(file, out / file.name)
    Trained(0, {}, [], []).write(out / CURVE)
    base = {"source": params.base.source, "licence": params.base.licence, "digest": digest(out)}
    if params.base.source == "hub":
        base |= {"id": params.base.path, "revision": params.base.revision}
    return Facts(lineage={"base": base, "data": {}}, notes={"parameters": parameters})


def locate(params: Params, cell: str | None) -> tuple[dict[str, Path], dict[str, Path]]:  # noqa: ARG001
    """Reads the shards and the fingerprints of a base outside the repository."""
    return {"tokens": OUT / "tokens", "sources": OUT / "sources"}, {"checkpoint": OUT / "base"}


STAGE = Stage("base", run, reads=("base", "seed", "threads", "device"), locate=locate, checkpoint=True)
