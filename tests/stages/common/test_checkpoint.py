"""Checkpoints: what counts for the digest, what is refused, what survives a round trip."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from training_fakes import make_tokenizer, tiny_model

from stages.common import checkpoint
from stages.common.errors import UserError


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    checkpoint.save_model(tiny_model(), make_tokenizer(folder / "own"), folder / "model")
    return folder / "model"


@pytest.fixture
def copy(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "model"))


def test_digest_ignores_manifest_curve_and_adapter(copy: Path) -> None:
    before = checkpoint.digest(copy)
    for name in ("gorn.json", "training.json", "README.md"):
        (copy / name).write_text("{}")
    (copy / "adapter").mkdir()
    (copy / "adapter" / "adapter_model.safetensors").write_bytes(b"x")
    assert checkpoint.digest(copy) == before


@pytest.mark.parametrize(
    "name", ["model.safetensors", "config.json", "tokenizer.json", "generation_config.json"]
)
def test_digest_changes_with_weights_configs_and_tokenizer(copy: Path, name: str) -> None:
    before = checkpoint.digest(copy)
    with (copy / name).open("ab") as file:
        file.write(b" ")
    assert checkpoint.digest(copy) != before


def test_save_load_save_gives_the_same_bytes(saved: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    checkpoint.save_model(checkpoint.load_model(saved), checkpoint.load_tokenizer(saved), again)
    assert checkpoint.digest(again) == checkpoint.digest(saved)


def test_the_path_is_not_in_the_checkpoint(saved: Path) -> None:
    for file in checkpoint.checkpoint_files(saved):
        assert str(saved.parent).encode() not in file.read_bytes(), file.name


def test_the_tokenizer_splits_alike_beside_a_model_and_alone(saved: Path) -> None:
    # Transformers puts the splitting of its Qwen2 class in the place of another one beside a Qwen2 config.
    alone = checkpoint.load_tokenizer(saved.parent / "own")
    beside = checkpoint.load_tokenizer(saved)
    text = "кот 123  спит, don't\n\n ёлка 45"
    assert alone.encode(text) == beside.encode(text)
    assert checkpoint.tokenizer_sha256(saved) == checkpoint.tokenizer_sha256(saved.parent / "own")


def test_dtype_and_evaluation_mode(saved: Path) -> None:
    import torch

    model = checkpoint.load_model(saved, dtype=torch.bfloat16)
    assert model.dtype == torch.bfloat16
    assert not model.training
    assert checkpoint.load_model(saved).dtype == torch.float32


def test_weight_bytes_counts_safetensors_only(copy: Path) -> None:
    (copy / "training.json").write_text("{}" * 1000)
    assert checkpoint.weight_bytes(copy) == (copy / "model.safetensors").stat().st_size


@pytest.mark.parametrize("cut", [4, 200, -10])
def test_truncated_safetensors_is_named(copy: Path, cut: int) -> None:
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:cut])
    with pytest.raises(UserError, match=r"model\.safetensors: truncated"):
        checkpoint.load_model(copy)


def test_pickled_weights_are_refused(copy: Path) -> None:
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(UserError, match="pickle"):
        checkpoint.load_model(copy)


def test_missing_weights_are_not_filled_with_random_numbers(copy: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(copy / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"missing keys.*layers\.1\.mlp\.up_proj"):
        checkpoint.load_model(copy)


def test_a_shard_that_the_index_names_must_be_there(copy: Path) -> None:
    index = {"metadata": {}, "weight_map": {"a": "model-00001-of-00002.safetensors"}}
    (copy / checkpoint.INDEX).write_text(json.dumps(index))
    with pytest.raises(UserError, match="model-00001-of-00002"):
        checkpoint.digest(copy)


@pytest.mark.parametrize("family", ["gpt2", "mamba", None])
def test_other_families_are_refused_by_name(copy: Path, family: str | None) -> None:
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "model_type": family}))
    with pytest.raises(UserError, match=f"`{family}` is not supported"):
        checkpoint.load_model(copy)


@pytest.mark.parametrize("family", checkpoint.FAMILIES)
def test_supported_families_survive_a_round_trip(family: str, saved: Path, tmp_path: Path) -> None:
    import torch

    model = tiny_model(family).eval()
    checkpoint.save_model(model, checkpoint.load_tokenizer(saved), tmp_path / "model")
    loaded = checkpoint.load_model(tmp_path / "model")
    tokens = torch.arange(12)[None]
    assert torch.equal(model(tokens).logits, loaded(tokens).logits)


def test_no_folder_and_no_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such checkpoint folder"):
        checkpoint.load_model(tmp_path / "absent")
    with pytest.raises(UserError, match="no tokenizer files"):
        checkpoint.load_tokenizer(tmp_path)


def test_own_tokenizer_passes_and_a_foreign_one_does_not(
    saved: Path, shards_folder: Path, copy: Path
) -> None:
    checkpoint.check_tokenizer(saved, shards_folder)
    described = json.loads((copy / "tokenizer.json").read_text())
    described["model"]["merges"].reverse()
    (copy / "tokenizer.json").write_text(json.dumps(described))
    with pytest.raises(UserError, match="foreign tokenizer"):
        checkpoint.check_tokenizer(copy, shards_folder)


def test_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert checkpoint.pick_device("auto") == "cpu"
    with pytest.raises(UserError, match="no GPU"):
        checkpoint.pick_device("cuda")
