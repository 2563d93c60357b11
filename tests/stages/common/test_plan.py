"""The plan of a parameter file: exact where it can be, close where it estimates, silent where nothing is
known.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from training_fakes import make_tokenizer, settings, tiny_model

from stages.common.checkpoint import save_model
from stages.common.errors import UserError
from stages.common.params import Params, parse
from stages.common.plan import Row, _Model, plan

ROOT = Path(__file__).resolve().parents[3]


def _params(**blocks: dict[str, Any]) -> Params:
    values = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for block, changes in blocks.items():
        values[block] |= changes
    return parse(values, "params.yaml")


def _rows(params: Params, speed: float | None = None) -> dict[str, Row]:
    return {row.stage: row for row in plan(params, speed)}


def test_every_training_stage_and_candidate_has_a_row() -> None:
    params = _params()
    assert list(_rows(params)) == [
        "base",
        "pretrain",
        "adapt",
        "distill",
        "judge_model",
        *(f"quantize {name}" for name in params.candidates),
    ]


def test_sizes_of_the_default_run() -> None:
    rows = _rows(_params())
    assert rows["base"].parameters == 1_050_752
    assert rows["base"].weight_bytes == 4 * 1_050_752
    assert rows["base"].optimiser_bytes == 12 * 1_050_752
    assert rows["adapt"].optimiser_bytes < rows["pretrain"].optimiser_bytes / 5
    assert rows["quantize adapt-bf16"].weight_bytes == 2 * 1_050_752
    assert rows["quantize adapt-ternary"].weight_bytes < rows["quantize adapt-higgs-4bit"].weight_bytes


def test_what_adapt_trains_follows_its_method() -> None:
    lora, base = _rows(_params())["adapt"], _rows(_params())["base"]
    assert base.trained == base.parameters
    # Width 128, FFN 384, keys and values 64 wide, four layers.
    ends = 4 * (2 * (128 + 128) + 2 * (128 + 64) + 3 * (128 + 384))
    outs = 4 * (2 * 128 + 2 * 64 + 2 * 384 + 128)
    assert lora.trained == 16 * ends
    rows = {
        "vera": {"alpha": None},
        "rocoft": {"rank": None, "alpha": None},
        "finegates": {
            "rank": None,
            "alpha": None,
            "target_modules": None,
            "shrink": {"share": 0.3, "mode": "global", "gate_learning_rate": 0.02},
        },
    }
    gate = {"against_anchor": {"pretrain": [{"metric": "total", "margin": 0.1}]}}
    trained = {
        method: _rows(_params(adapt={"method": method, **changes}, gate=gate))["adapt"].trained
        for method, changes in rows.items()
    }
    assert trained == {"vera": 4 * 7 * 16 + outs, "rocoft": 4 * (6 * 128 + 384), "finegates": 4 * (384 + 2)}


def test_a_4_bit_base_takes_less_memory() -> None:
    dense, small = (_rows(_params(adapt={"nf4": nf4}))["adapt"] for nf4 in (False, True))
    assert small.trained == dense.trained
    weights = 4 * (2 * 128 * 128 + 2 * 128 * 64 + 3 * 128 * 384)
    saved = (dense.weight_bytes or 0) - (small.weight_bytes or 0)
    assert saved == pytest.approx(weights * (32 - 4.127) / 8, rel=1e-3)


def test_a_4_bit_base_is_loaded_and_merged_dense_where_it_trains_on_the_cpu() -> None:
    training = settings(batch_size=1, sequence_length=16).model_dump()
    values = _params(adapt={"nf4": True, "training": training}).model_dump()
    small = _rows(parse(values | {"device": "cpu"}, "params.yaml"))["adapt"]
    held = (small.weight_bytes or 0) + (small.optimiser_bytes or 0) + (small.activation_bytes or 0)
    both = (small.weight_bytes or 0) + 4 * (1_050_752 + (small.trained or 0))
    assert small.memory == both > held
    assert _rows(parse(values | {"device": "cuda"}, "params.yaml"))["adapt"].memory == held


def test_lora_xs_holds_the_factors_that_it_does_not_train() -> None:
    lora, crossed = (_rows(_params(adapt={"method": name}))["adapt"] for name in ("lora", "lora-xs"))
    # As many numbers as LoRA trains, and 28 matrices of 16 by 16.
    assert crossed.trained == 28 * 16 * 16
    assert crossed.weight_bytes == (lora.weight_bytes or 0) + 4 * crossed.trained
    assert (crossed.optimiser_bytes or 0) < (lora.optimiser_bytes or 0) / 10


def test_cutting_holds_copies() -> None:
    tight = {"training": settings(batch_size=1, sequence_length=16).model_dump()}
    gated = _cut(0.3)
    values = gated.model_dump() | {"device": "cpu"}
    values["adapt"] |= tight
    left = _rows(gated)["quantize adapt-bf16"].parameters or 0
    assert _rows(parse(values, "params.yaml"))["adapt"].memory == 4 * (1_050_752 + 2 * left)
    lora = {"method": "magnitude", "rank": 8, "alpha": 16, "target_modules": ["q_proj"]}
    values["adapt"] |= {**lora, "shrink": {"share": 0.3, "mode": "global"}}
    assert _rows(parse(values, "params.yaml"))["adapt"].memory == 4 * (2 * 1_050_752 + left)


def test_time_scales_from_the_measured_speed() -> None:
    params = _params()
    rows = _rows(params, speed=1e9)
    pretrain, adapt = rows["pretrain"], rows["adapt"]
    assert pretrain.seconds == pytest.approx(6e-9 * pretrain.parameters * pretrain.tokens, rel=0.15)
    assert adapt.seconds / adapt.tokens < pretrain.seconds / pretrain.tokens
    assert all(row.seconds is None for row in plan(params))


def test_candidates_take_the_bytes_that_lowbit_writes(tmp_path: Path) -> None:
    from lowbit.folder import quantize_folder

    tokenizer = make_tokenizer(tmp_path / "tokenizer")
    save_model(tiny_model(hidden_size=64), tokenizer, tmp_path / "base")
    params = _params(base={"source": "local", "path": str(tmp_path / "base"), "bootstrap": None})
    rows = _rows(params)
    for recipe in ("bf16", "higgs-4bit", "ternary"):
        out = tmp_path / recipe
        quantize_folder(tmp_path / "base", recipe, out)
        (weights,) = out.glob("*.safetensors")
        with weights.open("rb") as file:
            header = 8 + int.from_bytes(file.read(8), "little")
        assert rows[f"quantize adapt-{recipe}"].weight_bytes == weights.stat().st_size - header


def test_the_judge_is_planned_with_its_own_vocabulary() -> None:
    """A tokenizer too large for the judge's budget is not the judge's."""
    values = _params().base.bootstrap.model_dump() | {"parameters": 20_000_000}
    params = _params(tokens={"vocab_size": 32_000}, base={"bootstrap": values})
    assert _rows(params)["judge_model"] == _rows(_params())["judge_model"]


def _cut(
    share: float, student: str = "adapt", target_modules: list[str] | None = None, **shrink: Any
) -> Params:
    values = _params().model_dump()
    values["adapt"] |= {"method": "finegates", "rank": None, "alpha": None, "target_modules": target_modules}
    values["adapt"]["shrink"] = {"share": share, "mode": "global", "gate_learning_rate": 0.02, **shrink}
    values["distill"]["student"] = student
    values["gate"]["against_anchor"] = {"pretrain": [{"metric": "total", "margin": 0.1}]}
    return parse(values, "params.yaml")


def test_a_cut_is_planned_before_anything_is_trained() -> None:
    from stages.adapt.shrink.units import Units
    from stages.common.training.shape import config_of, derive_shape

    gateable = Units.of(config_of(derive_shape(1_000_000, 2048), 0)).gateable
    whole = _rows(_params())
    finer = {"multiples": {"ffn": 1, "groups": 1}}
    for share in (0.1, 0.3, 0.5):
        rows = _rows(_cut(share, **finer))
        left = rows["quantize adapt-bf16"].parameters
        assert 1_050_752 - left == pytest.approx(share * gateable, abs=0.01 * gateable)
        assert rows["adapt"].parameters == rows["pretrain"].parameters == 1_050_752
        assert f"{left:,}" in rows["adapt"].note
        assert rows["distill"].parameters == rows["quantize distill-higgs-4bit"].parameters == left
        assert rows["quantize adapt-ternary"].weight_bytes < whole["quantize adapt-ternary"].weight_bytes
        # The teacher is the uncut model, and it is held too.
        assert rows["distill"].weight_bytes == 4 * (left + 1_050_752)


def test_whole_layers_and_half_of_the_layers_left_are_planned() -> None:
    rows = _rows(_cut(0.4, "every-second-layer", layers=1, multiples={"ffn": 1, "groups": 1}))
    left, half = (rows[f"quantize {name}"].parameters for name in ("adapt-bf16", "distill-higgs-4bit"))
    assert 0.6 * 1_050_752 < left < 0.8 * 1_050_752
    assert rows["distill"].weight_bytes == 4 * (left + half)
    assert half < 0.8 * left


def test_a_target_module_that_is_not_there_is_told_before_the_run() -> None:
    with pytest.raises(UserError, match="names w_pack, which the model does not have; it has q_proj"):
        plan(_params(adapt={"target_modules": ["q_proj", "w_pack"]}))


def test_a_cut_that_would_empty_a_layer_is_told_before_the_run() -> None:
    with pytest.raises(UserError, match="would empty a layer"):
        plan(_cut(0.9, multiples={"ffn": 128, "groups": 2}))


def test_a_cut_by_faithful_gates_on_one_part_is_planned_and_refused_for_that_part() -> None:
    share = {"mode": "faithful", "multiples": {"ffn": 1, "groups": 1}}
    rows = {
        name: _rows(_cut(0.3, target_modules=[name], **share))["quantize adapt-bf16"].parameters
        for name in ("up_proj", "v_proj")
    }
    assert 1_050_752 > rows["v_proj"] > rows["up_proj"]
    with pytest.raises(UserError, match=r"share: 0.6 would empty a layer; .* at most 0.5 can go"):
        plan(_cut(0.6, target_modules=["v_proj"], **share))
    with pytest.raises(UserError, match="gates on q_proj close no unit"):
        plan(_cut(0.3, target_modules=["q_proj"], **share))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_activations_are_close_to_what_autograd_keeps(precision: str) -> None:
    from stages.common.training.losses import cross_entropy
    from stages.common.training.sampler import Batch

    model = tiny_model(layers=4, hidden_size=64, intermediate_size=192).train()
    tokens = torch.arange(256).view(8, 32)
    batch = Batch(tokens, tokens, torch.arange(32).expand(8, -1), {})
    own = {value.data_ptr() for value in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    autocast = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16")
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), autocast:
        loss = cross_entropy(model, batch)
    estimate = _Model(model).activation_bytes(256, precision)
    assert loss.isfinite()
    assert 0.6 < estimate / sum(kept.values()) < 1.6


def test_flops_are_those_that_torch_counts() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    model = tiny_model(layers=4, attention="eager")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.arange(64)[None], use_cache=False)
    # Torch counts the whole square of attention, the plan the half below the diagonal.
    square = 2 * 4 * 32 * 64
    assert 64 * (_Model(model).forward_flops(64) + square) == pytest.approx(
        counter.get_total_flops(), rel=0.02
    )


def test_a_hub_base_that_is_not_on_disk_is_unknown_and_not_guessed() -> None:
    params = _params(base={"source": "hub", "path": "nobody/has-this"})
    rows = _rows(params, speed=1000)
    for stage in ("base", "pretrain", "adapt", "distill", "quantize adapt-bf16"):
        assert rows[stage].parameters is None
        assert rows[stage].seconds is None
        assert "unknown" in rows[stage].note
    assert rows["judge_model"].parameters is not None


def test_accumulation_lowers_activations_only() -> None:
    whole = _rows(_params(pretrain={"training": settings(batch_size=16).model_dump()}))["pretrain"]
    parts = _rows(_params(pretrain={"training": settings(batch_size=16, accumulate=4).model_dump()}))[
        "pretrain"
    ]
    assert parts.activation_bytes * 4 == pytest.approx(whole.activation_bytes, rel=0.01)
    assert (parts.flops, parts.optimiser_bytes) == (whole.flops, whole.optimiser_bytes)
    assert whole.memory - parts.memory == whole.activation_bytes - parts.activation_bytes


QWEN_05B = {
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "vocab_size": 151_936,
    "tie_word_embeddings": True,
}
QWEN_7B = {
    "hidden_size": 3584,
    "intermediate_size": 18_944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "vocab_size": 152_064,
    "tie_word_embeddings": False,
}


@pytest.mark.parametrize(("profile", "config"), [("qwen2.5-0.5b", QWEN_05B), ("t-lite", QWEN_7B)])
def test_a_profile_says_what_memory_its_trainings_take(
    tmp_path: Path, profile: str, config: dict[str, Any]
) -> None:
    from transformers import Qwen2Config

    Qwen2Config(**config).save_pretrained(tmp_path)
    text = (ROOT / "profiles" / f"{profile}.yaml").read_text(encoding="utf-8")
    values = yaml.safe_load(text)
    values["base"] |= {"source": "local", "path": str(tmp_path)}
    rows = _rows(parse(values, profile))
    memory = {stage: round((rows[stage].memory or 0) / 1e9) for stage in ("pretrain", "adapt", "distill")}
    header = text.partition("\n\n")[0]
    (gpu,) = re.findall(r"one GPU of (\d+) GB", header)
    assert max(memory.values()) < int(gpu)
    for stage, taken in memory.items():
        assert re.search(rf"{stage}\b[^.,;]*\b{taken} GB", header.replace("\n# ", " ")), (stage, taken)


def test_a_local_base_that_does_not_exist() -> None:
    with pytest.raises(UserError, match=r"base\.path absent is no folder"):
        plan(_params(base={"source": "local", "path": "absent", "bootstrap": None}))
