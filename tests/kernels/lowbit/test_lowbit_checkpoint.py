"""Packed folders: equal logits in a fresh process, equal bytes when saved again, clear refusals of damaged
ones.
"""

from __future__ import annotations

import errno
import filecmp
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import lowbit
import pytest
import torch
from lowbit.errors import LowbitError
from lowbit.tensorfile import Writer
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForCausalLM

RECIPES = ("int8", "higgs-4bit", "higgs-p2n88", "ternary")
IDS = torch.arange(24).view(2, 12)

FRESH = """
import sys, lowbit
assert "torch" not in sys.modules and "transformers" not in sys.modules, "import lowbit must stay light"
import torch, transformers
ids = torch.arange(24).view(2, 12)
for folder in sys.argv[1:]:
    model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    with torch.no_grad():
        torch.save(model(ids).logits, f"{folder}.logits")
    print(model.generate(ids[:1, :3], max_new_tokens=4, do_sample=False, pad_token_id=0).tolist())
"""


def _load(folder: Path, **options: Any) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, **options).eval()


@torch.no_grad()
def _logits(model: Any) -> torch.Tensor:
    return model(IDS).logits


@pytest.fixture(scope="module")
def packed(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("packed")
    for recipe in RECIPES:
        lowbit.quantize_folder(checkpoint, recipe, root / recipe, seed=3)
    return {recipe: root / recipe for recipe in RECIPES}


def test_fresh_process_gives_the_logits_of_the_model_in_memory(
    checkpoint: Path, packed: dict[str, Path], tmp_path: Path
) -> None:
    script = tmp_path / "fresh.py"
    script.write_text(FRESH, encoding="utf-8")
    folders = [str(packed[recipe]) for recipe in RECIPES]
    command = [sys.executable, str(script), *folders]
    run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    for recipe, folder, line in zip(RECIPES, folders, run.stdout.splitlines(), strict=True):
        memory = lowbit.quantize_model(_load(checkpoint), recipe, seed=3)
        assert torch.equal(torch.load(f"{folder}.logits", weights_only=True), _logits(memory))
        assert len(json.loads(line)[0]) == 7


@pytest.mark.parametrize("recipe", RECIPES)
def test_saving_again_gives_the_same_bytes(
    recipe: str, packed: dict[str, Path], checkpoint: Path, tmp_path: Path
) -> None:
    model = _load(packed[recipe])
    model.to(torch.float32)
    model.to(torch.bfloat16)
    model.save_pretrained(tmp_path / "loaded")
    lowbit.quantize_model(_load(checkpoint), recipe, seed=3).save_pretrained(tmp_path / "memory")
    for name in ("model.safetensors", "config.json"):
        assert filecmp.cmp(packed[recipe] / name, tmp_path / "loaded" / name, shallow=False), name
        assert filecmp.cmp(packed[recipe] / name, tmp_path / "memory" / name, shallow=False), name


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_dense_checkpoint_is_quantised_on_loading(
    recipe: str, packed: dict[str, Path], checkpoint: Path, tmp_path: Path
) -> None:
    config = lowbit.LowbitConfig(plan=recipe, seed=3)
    model = _load(checkpoint, quantization_config=config)
    assert torch.equal(_logits(model), _logits(_load(packed[recipe])))
    model.save_pretrained(tmp_path)
    for name in ("model.safetensors", "config.json"):
        assert filecmp.cmp(packed[recipe] / name, tmp_path / name, shallow=False), name


def test_loading_needs_a_plan_or_packed_layers(checkpoint: Path) -> None:
    with pytest.raises(LowbitError, match=r'LowbitConfig\(plan="higgs-4bit"\)'):
        _load(checkpoint, quantization_config=lowbit.LowbitConfig())
    with pytest.raises(LowbitError, match="recipe `fp4` is not built"):
        _load(checkpoint, quantization_config=lowbit.LowbitConfig(plan="fp4"))
    with pytest.raises(LowbitError, match="`plan` is for a dense checkpoint"):
        lowbit.LowbitConfig(plan="int8", layers={"layer": {"kind": "uniform", "shape": [16, 16], "bits": 8}})


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_modes_give_equal_bits_in_both_dtypes(
    recipe: str, dtype: torch.dtype, packed: dict[str, Path]
) -> None:
    model = _load(packed[recipe], dtype=dtype)
    cached = _logits(model)
    assert cached.dtype == dtype
    assert "runs=cached" in repr(model)
    assert lowbit.set_mode(model, "packed") == 14
    assert torch.equal(_logits(model), cached)
    assert "runs=packed" in repr(model)
    with pytest.raises(LowbitError, match="cached"):
        lowbit.set_mode(model, "fast")  # type: ignore[arg-type]


def test_logits_are_those_of_the_dequantised_weights(packed: dict[str, Path], checkpoint: Path) -> None:
    model = _load(packed["higgs-4bit"], dtype=torch.float32)
    plain = _load(checkpoint, dtype=torch.float32)
    for name, module in list(plain.named_modules()):
        if name in model.config.quantization_config.layers:
            module.weight.data = model.get_submodule(name).packed.dequantize()
    assert torch.equal(_logits(plain), _logits(model))
    original = _logits(_load(checkpoint, dtype=torch.float32))
    assert (original - _logits(model)).norm() / original.norm() < 0.2


def test_gradients_reach_the_input_and_nothing_else(packed: dict[str, Path]) -> None:
    layer = _load(packed["int8"], dtype=torch.float32).model.layers[0].mlp.up_proj
    x = torch.randn(2, 64, requires_grad=True)
    layer(x).sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0


def test_what_stays_unquantised(packed: dict[str, Path], checkpoint: Path) -> None:
    tensors = load_file(packed["higgs-4bit"] / "model.safetensors")
    original = load_file(checkpoint / "model.safetensors")
    assert "lm_head.weight" not in tensors
    kept = {name for name in tensors if not name.endswith(("weight_codes", "weight_scales"))}
    assert kept == {name for name in original if "proj.weight" not in name}
    assert all(torch.equal(tensors[name], original[name]) for name in kept)
    model = _load(packed["higgs-4bit"])
    assert model.lm_head.weight is model.model.embed_tokens.weight


def test_files_beside_the_weights(packed: dict[str, Path], checkpoint: Path) -> None:
    names = {file.name for file in packed["ternary"].iterdir()}
    assert names == {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json"}
    for name in ("tokenizer.json", "generation_config.json"):
        assert filecmp.cmp(packed["ternary"] / name, checkpoint / name, shallow=False)
    config = json.loads((packed["ternary"] / "config.json").read_text())["quantization_config"]
    assert (config["quant_method"], config["format"], config["format_version"]) == ("lowbit", "packed", 1)
    assert config["layers"]["model.layers.1.mlp.down_proj"]["kind"] == "ternary"


def test_bf16_is_a_plain_folder_and_sharding_does_not_matter(checkpoint: Path, tmp_path: Path) -> None:
    _load(checkpoint, dtype=torch.float32).save_pretrained(tmp_path / "shards", max_shard_size="80KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 2
    shutil.copy(checkpoint / "generation_config.json", tmp_path / "shards")
    seen: list[tuple[int, int, str]] = []
    report = lowbit.quantize_folder(
        tmp_path / "shards", "bf16", tmp_path / "bf16", progress=lambda *step: seen.append(step)
    )
    assert filecmp.cmp(
        tmp_path / "bf16" / "model.safetensors", checkpoint / "model.safetensors", shallow=False
    )
    assert "quantization_config" not in json.loads((tmp_path / "bf16" / "config.json").read_text())
    assert report.layers == {}
    assert report.bytes == (tmp_path / "bf16" / "model.safetensors").stat().st_size
    assert seen[-1][0] == seen[-1][1] == len(seen)
    assert torch.equal(_logits(_load(tmp_path / "bf16")), _logits(_load(checkpoint)))


def test_a_plan_names_layers(checkpoint: Path, tmp_path: Path) -> None:
    first, second = "model.layers.0.mlp.up_proj", "model.layers.1.mlp.down_proj"
    plan = {first: {"recipe": "higgs-4bit", "group_size": 32, "predicted": 0.1}, second: {"recipe": "int8"}}
    (tmp_path / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
    report = lowbit.quantize_folder(checkpoint, str(tmp_path / "plan.json"), tmp_path / "mixed")
    assert {name: layer.kind for name, layer in report.layers.items()} == {first: "higgs", second: "uniform"}
    assert report.layers[first].bits_per_weight == 4.5
    model = _load(tmp_path / "mixed")
    assert isinstance(model.model.layers[0].mlp.up_proj, lowbit.LowbitLinear)
    assert type(model.model.layers[0].mlp.gate_proj) is torch.nn.Linear


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ("fp4", "recipe `fp4` is not built"),
        ({"model.layers.0.mlp.up": {"recipe": "int8"}}, "no linear layer"),
        ({"model.layers.0.mlp.up_proj": {"recipe": "int8", "grop_size": 3}}, "grop_size"),
        ({"model.layers.0.mlp.up_proj": {"recipe": "int8", "group_size": 32}}, "no group_size"),
        ({"model.layers.0.mlp.up_proj": {"recipe": "higgs-4bit", "group_size": 128}}, "does not fit"),
        ({"lm_head": {"recipe": "int8"}}, "no linear layer `lm_head`"),
        ("absent.json", "no readable plan"),
    ],
)
def test_bad_plans_write_nothing(plan: Any, message: str, checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(LowbitError, match=message):
        lowbit.quantize_folder(checkpoint, plan, tmp_path / "target")
    assert list(tmp_path.iterdir()) == []


def _copy(folder: Path, target: Path) -> Path:
    return Path(shutil.copytree(folder, target))


def test_damaged_sources_write_nothing(checkpoint: Path, packed: dict[str, Path], tmp_path: Path) -> None:
    cut = _copy(checkpoint, tmp_path / "cut")
    data = (cut / "model.safetensors").read_bytes()
    (cut / "model.safetensors").write_bytes(data[: len(data) // 2])
    poisoned = _copy(checkpoint, tmp_path / "poisoned")
    tensors = load_file(poisoned / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"][3, 4] = torch.nan
    save_file(tensors, poisoned / "model.safetensors", {"format": "pt"})
    integers = _copy(checkpoint, tmp_path / "integers")
    tensors["model.layers.1.mlp.up_proj.weight"] = torch.ones(176, 64, dtype=torch.int8)
    save_file(tensors, integers / "model.safetensors", {"format": "pt"})
    bare = tmp_path / "bare"
    bare.mkdir()
    pickled = _copy(checkpoint, tmp_path / "pickled")
    (pickled / "model.safetensors").unlink()
    before = {path.name for path in tmp_path.iterdir()}
    for source, message in (
        (cut, "model.safetensors: damaged or cut short"),
        (poisoned, "layers.1.mlp.up_proj.weight: holds NaN"),
        (integers, "layers.1.mlp.up_proj.weight: torch.int8"),
        (bare, "no config.json"),
        (pickled, "pickled weights are not read"),
        (packed["int8"], "quantised already"),
    ):
        with pytest.raises(LowbitError, match=message):
            lowbit.quantize_folder(source, "higgs-4bit", tmp_path / "target")
        assert {path.name for path in tmp_path.iterdir()} == before


def test_target_with_content_is_left_alone(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "mine").write_text("x")
    with pytest.raises(LowbitError, match="not an empty folder"):
        lowbit.quantize_folder(checkpoint, "int8", tmp_path / "target")
    assert [file.name for file in (tmp_path / "target").iterdir()] == ["mine"]


def test_interruption_leaves_nothing_and_its_remains_do_not_matter(checkpoint: Path, tmp_path: Path) -> None:
    def interrupt(done: int, total: int, name: str) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lowbit.quantize_folder(checkpoint, "int8", tmp_path / "target", progress=interrupt)
    assert list(tmp_path.iterdir()) == []
    killed = tmp_path / ".target.partial"
    killed.mkdir()
    (killed / "half").write_text("x")
    lowbit.quantize_folder(checkpoint, "int8", tmp_path / "target")
    assert not killed.exists()
    assert not (tmp_path / "target" / "half").exists()


@pytest.mark.parametrize(
    ("number", "message"), [(errno.ENOSPC, "the disk is full"), (errno.EFBIG, "larger than a file may be")]
)
def test_no_room_is_one_clear_line(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, message: str
) -> None:
    def full(*_: Any) -> None:
        raise OSError(number, "no room")

    monkeypatch.setattr(Writer, "write", full)
    with pytest.raises(LowbitError, match=f"target: {message}"):
        lowbit.quantize_folder(checkpoint, "int8", tmp_path / "target")
    assert list(tmp_path.iterdir()) == []


def _damage_config(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"].update(changes)
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 2}, "format version 2.*up to 1"),
        ({"format": "striped"}, "format `striped`"),
        ({"signs": "dice"}, "`dice`"),
        ({"zeal": 1}, "unknown key `zeal`"),
        ({"layers": {"x": {"kind": "nf4", "shape": [2, 2]}}}, "kind `nf4`"),
        (
            {"layers": {"x": {"kind": "higgs", "shape": [2, 16], "grid": "p9n9", "group_size": 16}}},
            "p9n9.*p2n256",
        ),
        ({"layers": {"x": {"kind": "higgs", "shape": [2, 16]}}}, "damaged"),
        ({"layers": {"lost": {"kind": "uniform", "shape": [2, 2], "bits": 8}}}, "lost"),
        ({"layers": {"model.norm": {"kind": "uniform", "shape": [2, 2], "bits": 8}}}, "model.norm"),
    ],
)
def test_foreign_configurations_are_refused(
    changes: dict[str, Any], message: str, packed: dict[str, Path], tmp_path: Path
) -> None:
    folder = _copy(packed["int8"], tmp_path / "copy")
    _damage_config(folder, **changes)
    with pytest.raises(LowbitError, match=message):
        _load(folder)


def test_damaged_and_missing_tensors_are_refused(packed: dict[str, Path], tmp_path: Path) -> None:
    layer = "model.layers.1.self_attn.k_proj"
    for number, (recipe, damage, message) in enumerate(
        (
            ("ternary", lambda tensors: tensors[f"{layer}.weight_codes"].fill_(251), "byte 251"),
            (
                "higgs-p2n88",
                lambda tensors: tensors[f"{layer}.weight_codes"].fill_(255),
                "index 127 of a grid of 88",
            ),
            ("higgs-4bit", lambda tensors: tensors[f"{layer}.weight_scales"].fill_(torch.nan), "NaN"),
            ("higgs-4bit", lambda tensors: tensors.pop(f"{layer}.weight_scales"), "no usable tensor"),
        )
    ):
        folder = _copy(packed[recipe], tmp_path / str(number))
        tensors = load_file(folder / "model.safetensors")
        damage(tensors)
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
        with pytest.raises(LowbitError, match=rf"k_proj.*{message}"):
            _load(folder)


def test_the_bare_decoder_loads_too(packed: dict[str, Path]) -> None:
    with torch.no_grad():
        bare = AutoModel.from_pretrained(packed["higgs-4bit"]).eval()(IDS).last_hidden_state
        full = _load(packed["higgs-4bit"]).model(IDS).last_hidden_state
    assert torch.equal(bare, full)


def test_the_writer_gives_the_bytes_of_the_library(tmp_path: Path) -> None:
    tensors = {
        "z": torch.randn(3, 5),
        "a": torch.randn(7).bfloat16(),
        "b": torch.randn(2, 2).half(),
        "c.codes": torch.arange(11, dtype=torch.uint8),
        "i": torch.arange(4),
        "s": torch.arange(3, dtype=torch.int8),
        "e": torch.ones(0),
        "n": torch.tensor(1.5, dtype=torch.float64),
        "t": torch.tensor([True, False]),
        "w": torch.arange(5).int(),
    }
    save_file(tensors, tmp_path / "library", {"format": "pt"})
    with Writer(
        tmp_path / "ours", {name: (tuple(t.shape), t.dtype) for name, t in tensors.items()}
    ) as writer:
        for name in reversed(tensors):
            writer.write(name, tensors[name])
    assert filecmp.cmp(tmp_path / "library", tmp_path / "ours", shallow=False)
    with (
        pytest.raises(LowbitError, match="never written: z"),
        Writer(tmp_path / "p", {"z": ((1,), torch.int8)}),
    ):
        pass


def test_registration_by_the_library_itself() -> None:
    code = """
import lowbit.integration
from transformers.quantizers.auto import AUTO_QUANTIZER_MAPPING, AUTO_QUANTIZATION_CONFIG_MAPPING
assert AUTO_QUANTIZER_MAPPING["lowbit"] is lowbit.integration.LowbitQuantizer
assert AUTO_QUANTIZATION_CONFIG_MAPPING["lowbit"] is lowbit.LowbitConfig
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
