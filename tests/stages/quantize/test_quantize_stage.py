"""The stage `quantize`: every recipe through the runner, the manifest, determinism, errors that leave
earlier outs.
"""

from __future__ import annotations

import filecmp
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lowbit.errors import LowbitError
from transformers import AutoModelForCausalLM, Qwen2Config

from stages.common.checkpoint import load_config
from stages.common.errors import UserError
from stages.common.hashing import sha256_bytes, sha256_path
from stages.common.manifest import CHECKPOINT_MANIFEST
from stages.common.params import Params, load
from stages.common.stage import execute, main
from stages.measure import size
from stages.quantize.stage import STAGE, locate

LINEAGE = {"base": {"name": "tiny", "licence": "Apache-2.0"}, "data": ["CC0-1.0"]}


@pytest.fixture(scope="module")
def params() -> Params:
    return load(Path(__file__).resolve().parents[3] / "params.yaml").model_copy(update={"threads": 1})


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project folder with `out/adapt` and `out/distill` in fp32, as training leaves them."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out" / "tokens").mkdir(parents=True)
    for seed, stage in enumerate(("adapt", "distill")):
        folder = tmp_path / "out" / stage
        torch.manual_seed(seed)
        config = Qwen2Config(
            vocab_size=96, hidden_size=64, intermediate_size=176, num_hidden_layers=1,
            num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=True,
        )  # fmt: skip
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
        (folder / "tokenizer.json").write_text('{"odd":   "spacing"}', encoding="utf-8")
        (folder / "training.json").write_text("{}", encoding="utf-8")
        (folder / "adapter").mkdir()
        (folder / CHECKPOINT_MANIFEST).write_text(json.dumps({"lineage": LINEAGE}), encoding="utf-8")
    return tmp_path


def _manifest(cell: str) -> dict[str, Any]:
    return dict(json.loads(Path("out/quantize", cell, CHECKPOINT_MANIFEST).read_text(encoding="utf-8")))


def test_every_candidate_of_the_default_run(params: Params, house: Path) -> None:
    errors, sizes = {}, {}
    for cell in params.candidates:
        execute(STAGE, params, cell)
        folder, manifest = Path("out/quantize", cell), _manifest(cell)
        assert manifest["lineage"] == LINEAGE
        assert list(manifest["params"]["candidates"]) == [cell]
        assert manifest["notes"]["source"] == params.candidates[cell].source
        source = Path("out", params.candidates[cell].source)
        assert filecmp.cmp(folder / "tokenizer.json", source / "tokenizer.json", shallow=False)
        assert not (folder / "adapter").exists()
        errors[cell] = [layer["relative_error"] for layer in manifest["notes"]["layers"].values()]
        sizes[cell] = manifest["notes"]["bits_per_weight"]
        measured = size.sizes(folder, size.count_parameters(load_config(folder)))
        for key in ("parameters", "bits_per_weight"):
            assert measured[key] == manifest["notes"][key]
        assert AutoModelForCausalLM.from_pretrained(folder).dtype == torch.bfloat16
    assert errors["adapt-bf16"] == []
    assert all(error < 0.0085 for error in errors["adapt-higgs-4bit"])
    assert all(0.15 < error < 0.25 for error in errors["adapt-ternary"])
    assert len(errors["adapt-higgs-4bit"]) == 7
    assert sizes["adapt-ternary"] < sizes["adapt-higgs-4bit"] < sizes["adapt-bf16"]


def test_again_gives_the_same_bytes_and_another_seed_does_not(params: Params, house: Path) -> None:
    cell = "adapt-higgs-4bit"
    execute(STAGE, params, cell)
    first = shutil.copytree(Path("out/quantize", cell), house / "first")
    execute(STAGE, params, cell)
    names = [file.name for file in first.iterdir()]
    assert filecmp.cmpfiles(first, Path("out/quantize", cell), names, shallow=False)[0] == names
    execute(STAGE, params.model_copy(update={"seed": params.seed + 1}), cell)
    assert not filecmp.cmp(
        first / "model.safetensors", Path("out/quantize", cell, "model.safetensors"), shallow=False
    )


def test_a_poisoned_source_leaves_the_earlier_out(params: Params, house: Path) -> None:
    from safetensors.torch import load_file, save_file

    cell = "adapt-ternary"
    execute(STAGE, params, cell)
    before = Path("out/quantize", cell, "model.safetensors").read_bytes()
    tensors = load_file("out/adapt/model.safetensors")
    tensors["model.layers.0.mlp.up_proj.weight"][0, 0] = torch.inf
    save_file(tensors, "out/adapt/model.safetensors", {"format": "pt"})
    with pytest.raises(LowbitError, match=r"up_proj.weight: holds NaN or infinity"):
        execute(STAGE, params, cell)
    assert Path("out/quantize", cell, "model.safetensors").read_bytes() == before
    assert [path.name for path in Path("out/quantize").iterdir()] == [cell]


def test_a_truncated_source_is_one_line_and_leaves_the_earlier_out(
    params: Params, house: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cell = "adapt-ternary"
    execute(STAGE, params, cell)
    before = sha256_path(Path("out/quantize"))
    weights = Path("out/adapt/model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-100])
    Path("params.yaml").write_text(yaml.safe_dump(params.model_dump(mode="json")), encoding="utf-8")
    capsys.readouterr()
    assert main(STAGE, [cell]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("quantize: out/adapt/model.safetensors: damaged or cut short")
    assert sha256_path(Path("out/quantize")) == before


def test_a_source_with_a_foreign_tokenizer_is_refused(params: Params, house: Path) -> None:
    about = {"lineage": LINEAGE, "files": {"tokenizer.json": sha256_bytes(b"its own")}}
    Path("out/adapt", CHECKPOINT_MANIFEST).write_text(json.dumps(about), encoding="utf-8")
    with pytest.raises(UserError, match=r"out/adapt: foreign tokenizer \(tokenizer\.json is not the one"):
        execute(STAGE, params, "adapt-bf16")
    assert not Path("out/quantize").exists() or not list(Path("out/quantize").iterdir())


def test_a_source_without_manifest_is_refused(params: Params, house: Path) -> None:
    Path("out/adapt", CHECKPOINT_MANIFEST).unlink()
    with pytest.raises(UserError, match="adapt"):
        execute(STAGE, params, "adapt-bf16")


def test_cells_are_the_candidates(params: Params) -> None:
    assert STAGE.cells is not None
    assert list(STAGE.cells(params)) == list(params.candidates)
    inputs, outputs = locate(params, "distill-higgs-4bit")
    assert (inputs, outputs) == (
        {"source": Path("out/distill"), "tokens": Path("out/tokens")},
        {"checkpoint": Path("out/quantize/distill-higgs-4bit")},
    )
