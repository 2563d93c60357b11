"""What a person may get wrong about adaptation: one line that says what, where and what to do, exit status 1,
and the earlier out untouched. Everything goes through the stage's own command.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from adapt_fakes import TARGETS
from training_fakes import settings, tiny_model

from stages.adapt.stage import STAGE
from stages.common.atomic import read_json, write_json
from stages.common.checkpoint import digest, load_model, load_tokenizer, save_model
from stages.common.stage import main

ROOT = Path(__file__).resolve().parents[3]
LORA = {"method": "lora", "rank": 2, "alpha": 4, "target_modules": TARGETS, "shrink": None}
GATES = {
    "method": "finegates",
    "rank": None,
    "alpha": None,
    "target_modules": None,
    "shrink": {"share": 0.3, "mode": "global", "gate_learning_rate": 0.02},
}


@pytest.fixture(scope="module")
def base(shards_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project in which `pretrain` has run."""
    out = tmp_path_factory.mktemp("base") / "out"
    shutil.copytree(shards_folder, out / "tokens")
    (out / "supervised").mkdir()
    model = tiny_model(num_attention_heads=4, num_key_value_heads=2, head_dim=8)
    save_model(model, load_tokenizer(out / "tokens" / "tokenizer"), out / "pretrain")
    lineage = {"base": {"source": "bootstrap", "licence": "MIT"}, "data": {}}
    write_json(out / "pretrain" / "gorn.json", {"stage": "pretrain", "lineage": lineage, "notes": {}})
    return out.parent


@pytest.fixture
def project(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(base, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


Adapt = Callable[..., tuple[int, str]]


@pytest.fixture
def adapt(project: Path, capsys: pytest.CaptureFixture[str]) -> Adapt:
    """Runs `python -m stages.adapt` with this block `adapt`; exit status and what it said on stderr."""

    def run(block: dict[str, Any], **training: Any) -> tuple[int, str]:
        values = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
        values["threads"], values["device"] = 1, "cpu"
        mix = {"world-ru": 0.5, "world-en": 0.5}
        values["adapt"] |= {**block, "mix": mix, "training": settings(**training).model_dump()}
        values["gate"]["against_anchor"] = {"pretrain": [{"metric": "total", "margin": 0.1}]}
        (project / "params.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
        capsys.readouterr()
        return main(STAGE, []), capsys.readouterr().err

    return run


def _one_line(said: str) -> str:
    lines = [line for line in said.splitlines() if not line.startswith("adapt: ") or " steps, " not in line]
    assert len(lines) == 1, said
    return lines[0]


@pytest.mark.parametrize("block", [LORA, {**GATES, "rank": 2, "alpha": 4}], ids=["lora", "finegates"])
def test_an_unknown_target_module_lists_those_there(adapt: Adapt, block: dict[str, Any]) -> None:
    status, said = adapt({**block, "target_modules": ["q_proj", "c_attn"]})
    assert status == 1
    assert _one_line(said) == (
        "adapt: params.yaml: adapt.target_modules names c_attn, which the model does not have; "
        f"it has {', '.join(TARGETS)}"
    )


@pytest.mark.parametrize("method", ["finegates", "magnitude"])
def test_a_budget_that_would_empty_a_layer_names_the_floor(adapt: Adapt, method: str) -> None:
    shrink = {"share": 0.85, "mode": "global", "multiples": {"ffn": 32, "groups": 1}}
    gates = {"gate_learning_rate": 0.02} if method == "finegates" else {}
    status, said = adapt({**(GATES if gates else LORA), "method": method, "shrink": {**shrink, **gates}})
    assert status == 1
    line = _one_line(said)
    assert (
        "adapt.shrink.share: 0.85 would empty a layer; every layer keeps at least 32 FFN neurons and 1 KV"
        in line
    )
    assert "at most 0.5 can go" in line
    assert not Path("out/adapt").exists()


def test_a_family_without_slicing_rules_is_refused_by_name(adapt: Adapt, project: Path) -> None:
    config = project / "out/pretrain/config.json"
    write_json(
        config, read_json(config) | {"model_type": "gpt_neox", "architectures": ["GPTNeoXForCausalLM"]}
    )
    status, said = adapt(GATES)
    assert status == 1
    assert "model family `gpt_neox` is not supported; supported: llama, mistral, qwen2, qwen3" in _one_line(
        said
    )


def test_a_quantised_base_cannot_be_sliced(adapt: Adapt, project: Path) -> None:
    from lowbit.folder import quantize_folder

    shutil.move(project / "out/pretrain", project / "dense")
    quantize_folder(project / "dense", "int8", project / "out/pretrain")
    shutil.copy(project / "dense/gorn.json", project / "out/pretrain")
    for file in (project / "dense").glob("tokenizer*"):
        shutil.copy(file, project / "out/pretrain")
    for method, block in (
        ("finegates", GATES),
        ("magnitude", {**LORA, "shrink": {"share": 0.3, "mode": "global"}}),
    ):
        status, said = adapt({**block, "method": method})
        assert status == 1, said
        assert "quantised" in _one_line(said) and "dense weights" in said


def test_a_peft_that_was_not_tested_is_refused(adapt: Adapt, monkeypatch: pytest.MonkeyPatch) -> None:
    import peft

    monkeypatch.setattr(peft, "__version__", "0.31.0")
    status, said = adapt(GATES)
    assert status == 1
    assert "peft 0.31.0: FineGates was tested with peft >=0.21,<0.22; install one of these" in _one_line(said)


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"method": "apt"}, "key `adapt`: method `apt` is not built: it moves ranks and masks"),
        ({"method": "maskllm"}, "key `adapt`: method `maskllm` is not built: its 2:4 masks"),
        ({"method": "lorra"}, "key `adapt`: there is no method `lorra`; built: lora, rslora"),
        (
            {"shrink": GATES["shrink"]},
            "key `adapt`: method `lora` does not use `shrink` here; set it to null",
        ),
        ({**GATES, "shrink": None}, "key `adapt`: method `finegates` needs `shrink`"),
        (
            {**GATES, "nf4": True},
            "method `finegates` does not train beside a 4-bit base; set `nf4` to false",
        ),
    ],
)
def test_a_block_that_does_not_fit_its_method(adapt: Adapt, block: dict[str, Any], message: str) -> None:
    status, said = adapt({**LORA, **block})
    assert status == 1
    assert message in _one_line(said)


def test_an_adapter_is_good_for_its_own_base_only(
    adapt: Adapt, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from flows import cli

    shutil.copy(ROOT / "dvc.yaml", project)
    assert adapt(LORA)[0] == 0
    ask = ["ask", "кот", "--max-tokens", "1", "--adapter", "out/adapt/adapter", "--model"]
    assert cli.main([*ask, "out/pretrain"]) == 0
    capsys.readouterr()
    assert cli.main([*ask, "out/adapt"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("gorn ask: out/adapt/adapter: this adapter belongs to the weights ")
    assert line.endswith("name the checkpoint that it was trained on")


@pytest.mark.parametrize("block", [LORA, GATES], ids=["lora", "finegates"])
def test_a_loss_that_is_no_number_stops_with_the_step_and_keeps_the_last_good_state(
    adapt: Adapt, project: Path, monkeypatch: pytest.MonkeyPatch, block: dict[str, Any]
) -> None:
    from stages.common.training import losses

    assert adapt(block)[0] == 0
    before, sane, calls = digest(project / "out/adapt"), losses.cross_entropy, []

    def ill(model: Any, batch: Any) -> Any:
        calls.append(1)
        value = sane(model, batch)
        return value * float("nan") if len(calls) == 6 else value

    monkeypatch.setattr(losses, "cross_entropy", ill)
    status, said = adapt(block)
    assert status == 1
    gates = "shrink.gate_learning_rate"
    rate = f"adapt.{gates if block is GATES else 'training.learning_rate'}"
    assert f"adapt: loss nan, gradient norm nan at step 5; lower {rate} in params.yaml" in said
    (kept,) = {file.parent.parent for file in Path(".gorn/resume/adapt").rglob("state.json")}
    assert f"the state before it is kept in {kept}" in said
    assert digest(project / "out/adapt") == before
    monkeypatch.setattr(losses, "cross_entropy", sane)
    assert adapt(block)[0] == 0
    assert digest(project / "out/adapt") == before


def test_a_cut_model_that_is_not_what_was_written_is_not_kept(
    adapt: Adapt, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stages.common import checkpoint

    save = checkpoint.save_model

    def damaged(model: Any, *rest: Any) -> None:
        with torch.no_grad():
            weight = model.model.layers[0].mlp.down_proj.weight
            weight[0, 0] += 0.1
            save(model, *rest)
            weight[0, 0] -= 0.1

    monkeypatch.setattr(checkpoint, "save_model", damaged)
    status, said = adapt(GATES)
    assert status == 70
    assert "the models are not one function: logits differ by" in said
    assert not Path("out/adapt").exists()


def test_the_model_that_a_cut_leaves_is_loaded_again(adapt: Adapt, project: Path) -> None:
    """The workspace of these tests is sound: without a fault the stage ends well."""
    status, said = adapt(GATES)
    assert status == 0, said
    removed = read_json(project / "out/adapt/gorn.json")["notes"]["removed"]
    assert load_model(project / "out/adapt").num_parameters() == removed["parameters_after"]
    assert removed["parameters_before"] - removed["parameters_after"] == removed["removed_parameters"] > 0
