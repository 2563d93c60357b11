"""A project folder with a parent, its tokenizer and shards, for the recipes that need them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import training_fakes as fakes

from stages.common import manifest
from stages.common.atomic import write_json
from stages.common.checkpoint import save_model
from stages.common.manifest import Facts

LINEAGE = {"base": {"name": "tiny", "licence": "Apache-2.0"}, "data": {}}


@pytest.fixture
def parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`out/adapt` with weights large enough to matter, beside `out/tokens`; the current folder."""
    monkeypatch.chdir(tmp_path)
    fakes.make_shards(Path("out/tokens"))
    model = fakes.tiny_model(tie_word_embeddings=False)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 2:
                weight *= 5
    save_model(model, fakes.load_tokenizer(Path("out/tokens/tokenizer")), Path("out/adapt"))
    about = manifest.build("adapt", None, {}, {}, Path("out/adapt"), Facts(lineage=LINEAGE))
    write_json(Path("out/adapt", manifest.CHECKPOINT_MANIFEST), about)
    return tmp_path
