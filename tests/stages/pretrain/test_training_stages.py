"""The stages base, pretrain, adapt and distill on a tiny corpus: the real code path from shards to
checkpoints.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import yaml
from training_fakes import settings, texts

from stages.adapt import adapters
from stages.adapt import stage as adapt
from stages.base import stage as base
from stages.common import manifest
from stages.common.atomic import read_json
from stages.common.checkpoint import digest, load_model, load_tokenizer, save_model
from stages.common.errors import UserError
from stages.common.params import Params, parse
from stages.common.stage import execute, main
from stages.distill import stage as distill
from stages.pretrain import stage as pretrain

ROOT = Path(__file__).resolve().parents[3]


def _params(**blocks: dict[str, Any]) -> Params:
    values = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    values["threads"], values["device"] = 1, "cpu"
    training = settings().model_dump()
    both = {"world-ru": 0.5, "world-en": 0.5}
    values["base"]["bootstrap"] = {"parameters": 60_000, "mix": {"world-en": 1.0}, "training": training}
    values["pretrain"] |= {"mix": both, "training": training, "evaluations": 2}
    values["adapt"] |= {"mix": both, "training": training, "rank": 4, "alpha": 8}
    longer = settings(tokens=2048).model_dump()
    values["distill"] |= {"mix": both, "training": longer, "cross_entropy_weight": 0.0}
    for block, changes in blocks.items():
        values[block] |= changes
    return parse(values, "params.yaml")


@pytest.fixture(scope="module")
def finished(shards_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project folder in which all four stages have run."""
    project = tmp_path_factory.mktemp("project")
    shutil.copytree(shards_folder, project / "out" / "tokens")
    (project / "out" / "sources").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        for module in (base, pretrain, adapt, distill):
            execute(module.STAGE, _params())
    return project


@pytest.fixture
def project(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the finished project that a test may change, as working folder."""
    shutil.copytree(finished, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


def test_the_base_has_the_size_asked_for(finished: Path) -> None:
    model = load_model(finished / "out/base")
    assert sum(value.numel() for value in model.parameters()) == pytest.approx(60_000, rel=0.25)
    about = manifest.read(finished / "out/base")
    assert about["tokens"] == {"world-en": 512}
    assert about["lineage"] == {
        "base": {"source": "bootstrap", "licence": "Apache-2.0"},
        "data": {"world-en": ["CC0-1.0"]},
    }


def test_the_forgetting_curve_begins_before_the_first_step(finished: Path) -> None:
    curve = read_json(finished / "out/pretrain/training.json")
    assert [point["step"] for point in curve["points"]] == [0, 4, 8]
    before = read_json(finished / "out/base/training.json")["points"][-1]["bpc"]
    assert curve["points"][0]["bpc"] == pytest.approx(before)
    assert set(before) == {"ru", "en"}
    assert curve["points"][0]["tokens"] == 0
    assert curve["points"][-1]["tokens"] == 512
    assert len(curve["curve"]["loss"]) == 8


def test_lineage_grows_along_the_way(finished: Path) -> None:
    assert manifest.read(finished / "out/pretrain")["lineage"]["data"] == {
        "world-en": ["CC0-1.0"],
        "world-ru": ["CC0-1.0"],
    }
    assert manifest.read(finished / "out/distill")["lineage"]["base"]["licence"] == "Apache-2.0"


def test_the_adapter_on_the_pretrained_model_is_the_merged_model(finished: Path) -> None:
    from peft import PeftModel

    adapted = PeftModel.from_pretrained(
        load_model(finished / "out/pretrain"), finished / "out/adapt/adapter"
    ).eval()
    merged = load_model(finished / "out/adapt")
    tokens = torch.arange(20)[None]
    torch.testing.assert_close(adapted(tokens).logits, merged(tokens).logits, rtol=1e-4, atol=1e-5)
    plain = load_model(finished / "out/pretrain")
    assert (plain(tokens).logits - merged(tokens).logits).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("method", "keys", "trained"),
    [("rocoft", {"rank": None, "alpha": None}, 1), ("lora-xs", {"rank": 4, "alpha": 8}, 16)],
)
def test_another_method_takes_the_same_way(
    project: Path, method: str, keys: dict[str, Any], trained: int
) -> None:
    before = digest(project / "out/adapt")
    execute(adapt.STAGE, _params(adapt={"method": method, "target_modules": ["q_proj"], **keys}))
    assert digest(project / "out/adapt") != before
    notes = manifest.read(project / "out/adapt")["notes"]
    base = load_model(project / "out/pretrain")
    width, layers = base.config.hidden_size, base.config.num_hidden_layers
    numbers = trained if method == "lora-xs" else width
    assert (notes["method"], notes["trainable_parameters"]) == (method, layers * numbers)
    loaded = adapters.load(base, project / "out/adapt/adapter", project / "out/pretrain")
    tokens, merged = torch.arange(20)[None], load_model(project / "out/adapt")
    torch.testing.assert_close(loaded(tokens).logits, merged(tokens).logits, rtol=0, atol=1e-5)
    assert adapters.about(project / "out/adapt/adapter")["base"] == "out/pretrain"


def test_lora_leaves_embeddings_and_norms_alone(finished: Path) -> None:
    before = load_model(finished / "out/pretrain").state_dict()
    after = load_model(finished / "out/adapt").state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all("_proj.weight" in name for name in changed)


def test_the_student_is_half_as_deep_and_nearer_to_the_teacher_than_before(finished: Path) -> None:
    teacher, student = load_model(finished / "out/adapt"), load_model(finished / "out/distill")
    assert student.config.num_hidden_layers == teacher.config.num_hidden_layers // 2
    losses = read_json(finished / "out/distill/training.json")["curve"]["loss"]
    assert sum(losses[-8:]) < 0.7 * sum(losses[:8])


def test_every_second_layer_is_taken_as_it_is(finished: Path) -> None:
    from stages.distill.student import every_second_layer

    teacher = load_model(finished / "out/adapt")
    student = every_second_layer(teacher)
    for old, new in ((0, 0), (2, 1)):
        for name, value in teacher.model.layers[old].state_dict().items():
            assert torch.equal(value, student.model.layers[new].state_dict()[name])
    assert torch.equal(student.get_input_embeddings().weight, teacher.get_input_embeddings().weight)
    for place, layer in enumerate(student.model.layers):
        assert layer.self_attn.layer_idx == place
    prompt = torch.arange(1, 6)[None]
    assert student.generate(prompt, max_new_tokens=3, do_sample=False, pad_token_id=0).shape == (1, 8)


@pytest.mark.parametrize("module", [base, pretrain, adapt, distill], ids=lambda module: module.STAGE.name)
def test_a_second_run_gives_the_same_bytes(module: ModuleType, project: Path) -> None:
    out = project / "out" / module.STAGE.name
    before = {file.relative_to(out): file.read_bytes() for file in out.rglob("*") if file.is_file()}
    execute(module.STAGE, _params())
    assert {file.relative_to(out): file.read_bytes() for file in out.rglob("*") if file.is_file()} == before
    assert not list((project / ".gorn").rglob("*.safetensors"))
    assert all(str(project).encode() not in data for data in before.values())


def test_a_killed_stage_goes_on_where_it_stopped(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from stages.common.training.loop import _Run

    before, step, taken = digest(project / "out/adapt"), _Run.step, []

    def dying(run: Any) -> str:
        if len(taken) == 5:
            raise KeyboardInterrupt
        taken.append(run.state.step)
        return step(run)

    monkeypatch.setattr(_Run, "step", dying)
    with pytest.raises(KeyboardInterrupt):
        execute(adapt.STAGE, _params())
    assert digest(project / "out/adapt") == before
    taken.clear()
    execute(adapt.STAGE, _params())
    assert taken == [4, 5, 6, 7]
    assert digest(project / "out/adapt") == before


def test_another_seed_gives_another_model(project: Path) -> None:
    before = digest(project / "out/pretrain")
    execute(pretrain.STAGE, parse({**_params().model_dump(), "seed": 2}, "params.yaml"))
    assert digest(project / "out/pretrain") != before


def _foreign(folder: Path) -> None:
    """Give the checkpoint another tokenizer of 300 entries."""
    from stages.common.bpe import train_tokenizer

    save_model(load_model(folder), train_tokenizer([*texts("en", 80, seed=3)], 300), folder)
    assert len(load_tokenizer(folder)) == 300


def _truncated(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


LOCAL = {"source": "local", "path": "mine", "bootstrap": None}


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (_foreign, "{}: foreign tokenizer (300 entries; the shards in out/tokens were packed with another"),
        (_truncated, "{}/model.safetensors: truncated or not safetensors"),
    ],
)
@pytest.mark.parametrize(
    ("module", "source", "blocks"),
    [
        (base, "mine", {"base": LOCAL}),
        (pretrain, "out/base", {}),
        (adapt, "out/pretrain", {}),
        (distill, "out/adapt", {}),
        (distill, "mine", {"distill": {"student": "mine"}}),
    ],
    ids=["base", "pretrain", "adapt", "teacher", "student"],
)
def test_a_bad_checkpoint_is_one_line_and_the_earlier_out_stays(
    module: ModuleType,
    source: str,
    blocks: dict[str, Any],
    harm: Callable[[Path], None],
    message: str,
    project: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(project / "out/base", project / "mine")
    values = yaml.safe_dump(_params(**blocks).model_dump(mode="json"))
    (project / "params.yaml").write_text(values, encoding="utf-8")
    out = project / "out" / module.STAGE.name
    before = digest(out)
    harm(project / source)
    capsys.readouterr()
    assert main(module.STAGE, []) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{module.STAGE.name}: {message.format(source)}")
    assert digest(out) == before


@pytest.mark.parametrize(
    ("module", "changes", "message"),
    [
        (pretrain, {"mix": {"world-tasks-ru": 1.0}}, r"`pretrain\.mix` names the subset `world-tasks-ru`"),
        (adapt, {"mix": {"world-tasks-ru": 1.0}}, r"`adapt\.mix` names the subset `world-tasks-ru`"),
        (adapt, {"target_modules": ["q_proj", "c_attn"]}, "names c_attn"),
        (distill, {"mix": {"world-tasks-ru": 1.0}}, r"`distill\.mix` names the subset `world-tasks-ru`"),
    ],
)
def test_bad_parameters_end_in_one_line(
    module: ModuleType, changes: dict[str, Any], message: str, project: Path
) -> None:
    with pytest.raises(UserError, match=message):
        execute(module.STAGE, _params(**{module.STAGE.name: changes}))


def test_rows_longer_than_the_model_takes_are_refused(project: Path) -> None:
    config = project / "out/base/config.json"
    config.write_text(
        config.read_text().replace('"max_position_embeddings": 1024', '"max_position_embeddings": 16')
    )
    with pytest.raises(UserError, match="trains on 32 tokens, the model takes 16; lower sequence_length"):
        execute(pretrain.STAGE, _params(pretrain={"training": settings(sequence_length=32).model_dump()}))


def test_a_local_base_is_copied_as_it_is(project: Path) -> None:
    shutil.copytree(project / "out/base", project / "mine")
    (project / "mine" / "notes.txt").write_text("not part of a checkpoint")
    execute(
        base.STAGE, _params(base={"source": "local", "path": "mine", "licence": "MIT", "bootstrap": None})
    )
    assert digest(project / "out/base") == digest(project / "mine")
    assert not (project / "out/base/notes.txt").exists()
    about = manifest.read(project / "out/base")["lineage"]["base"]
    assert about == {"source": "local", "licence": "MIT", "digest": digest(project / "mine")}


def test_a_hub_base_is_refused_offline(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        UserError, match=r"Qwen/Qwen2\.5-0\.5B is not in the Hugging Face cache and HF_HUB_OFFLINE is set"
    ):
        execute(base.STAGE, _params(base={"source": "hub", "path": "Qwen/Qwen2.5-0.5B"}))


def test_a_student_folder_with_the_same_tokenizer(project: Path) -> None:
    shutil.copytree(project / "out/base", project / "student")
    execute(distill.STAGE, _params(distill={"student": "student"}))
    assert load_model(project / "out/distill").config.num_hidden_layers == 4
    assert load_tokenizer(project / "out/distill").eos_token == "<|endoftext|>"
