"""Every stage that opens a checkpoint takes one whose layers have widths of their own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from training_fakes import make_tokenizer, tiny_model

from stages.adapt.shrink.slicing import cut, probe, verify
from stages.adapt.shrink.units import Kept
from stages.common import checkpoint
from stages.common.errors import UserError
from stages.common.params import parse
from stages.common.plan import plan
from stages.common.training.losses import chunk_tokens

ROOT = Path(__file__).resolve().parents[3]
# Of four layers of 64 neurons and one KV group of two query heads; the third one goes.
KEPT = Kept((0, 1, 3), (tuple(range(8)), tuple(range(40)), (), tuple(range(8, 32))), ((0,), (0,), (), (0,)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("layerwise")
    tokenizer = make_tokenizer(path / "own")
    small = cut(tiny_model("qwen2", layers=4), KEPT)
    checkpoint.save_model(small, tokenizer, path / "model")
    return path / "model"


def test_saving_again_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    model = checkpoint.load_model(folder)
    assert model.config.model_type == "lowbit_qwen2"
    checkpoint.save_model(model, checkpoint.load_tokenizer(folder), tmp_path / "again")
    assert checkpoint.digest(tmp_path / "again") == checkpoint.digest(folder)
    again = checkpoint.load_model(tmp_path / "again", dtype=torch.float32)
    assert verify(model, again, probe(model.config)) == 0


def test_a_damaged_configuration_names_the_folder(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "model"))
    about: dict[str, Any] = json.loads((copy / "config.json").read_text())
    for own, what in (
        ({"9": {}}, "range"),
        ({"0": {"num_attention_heads": 0}}, "1 or more"),
        ({"0": 3}, "int"),
    ):
        (copy / "config.json").write_text(json.dumps({**about, "per_layer_config": own}))
        with pytest.raises(UserError, match=rf"model/config\.json: not a usable.*{what}"):
            checkpoint.load_model(copy)


def test_measure_counts_and_times_it(folder: Path) -> None:
    from stages.measure import timing
    from stages.measure.size import count_parameters, sizes

    model = checkpoint.load_model(folder)
    counted = count_parameters(model.config)
    assert counted == sum(value.numel() for value in model.parameters())
    assert sizes(folder, counted)["bits_per_weight"] == 32
    run = timing.generate(model, timing.prompt_ids(8, 300), 4, timing.synchroniser("cpu"))
    assert 0 < run.first_s < run.total_s


def test_the_plan_counts_layer_by_layer(folder: Path) -> None:
    values = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    values["base"] |= {"source": "local", "path": str(folder), "bootstrap": None}
    rows = {row.stage: row for row in plan(parse(values, "params.yaml"), 1e9)}
    model = checkpoint.load_model(folder)
    assert rows["base"].parameters == sum(value.numel() for value in model.parameters())

    # docs/operations.md: what the backward pass of a layer keeps, and the logits of one chunk three times.
    training = parse(values, "params.yaml").pretrain.training
    assert training.precision == "fp32"
    tokens = training.batch_size // training.accumulate * training.sequence_length
    layers = sum(6 * 32 + 4 * 2 * 16 + 5 * 16 + 4 * ffn for ffn in (8, 40, 24))
    ends = 3 * (tokens * 32 + min(tokens, chunk_tokens(300)) * 300)
    assert rows["pretrain"].activation_bytes == 4 * (tokens * layers + ends)
    length = training.sequence_length
    matrices = 300 * 32 + sum(3 * 32 * ffn + 32 * 16 * 6 for ffn in (8, 40, 24))
    assert rows["pretrain"].flops == 3 * (2 * matrices + 2 * 3 * 2 * 16 * length) * training.tokens
    # Every second layer: 8 and 24 neurons, the norms, and the biases of q, k and v.
    halved = 300 * 32 + 32 + sum(3 * 32 * ffn + 32 * 16 * 6 + 16 * 4 + 2 * 32 for ffn in (8, 24))
    assert rows["distill"].parameters == halved


def test_every_second_layer_keeps_its_width(folder: Path) -> None:
    from stages.distill.student import every_second_layer

    teacher = checkpoint.load_model(folder)
    student = every_second_layer(teacher)
    assert [layer.mlp.up_proj.out_features for layer in student.model.layers] == [8, 24]
    for old, new in ((0, 0), (2, 1)):
        for name, value in teacher.model.layers[old].state_dict().items():
            assert torch.equal(value, student.model.layers[new].state_dict()[name])
    alike = every_second_layer(tiny_model("mistral", layers=3))
    assert alike.config.model_type == "mistral" and alike.config.num_hidden_layers == 2


def test_layers_of_a_quantised_teacher_cannot_learn(folder: Path, tmp_path: Path) -> None:
    import lowbit

    from stages.distill.student import every_second_layer

    lowbit.quantize_folder(folder, "int8", tmp_path / "packed")
    packed = checkpoint.load_model(tmp_path / "packed")
    assert packed.config.model_type == "lowbit_qwen2"
    with pytest.raises(UserError, match="teacher is quantised"):
        every_second_layer(packed)
