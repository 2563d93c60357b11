"""Checkpoints whose layers have widths of their own: loading, packing, streaming, refusals."""

from __future__ import annotations

import copy
import filecmp
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import lowbit
import pytest
import torch
from lowbit.errors import LowbitError
from lowbit.registration import FAMILIES
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
)

CONFIGS = dict(zip(FAMILIES, (LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config), strict=True))
WIDTHS = [(48, 4, 2), (32, 2, 1), (80, 6, 3)]
IDS = torch.arange(24).view(2, 12)

FRESH = """
import sys
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
import lowbit  # after Transformers' registries; everywhere else it is imported before them
assert "lowbit.layerwise" not in sys.modules, "the classes must wait until they are wanted"
config = AutoConfig.from_pretrained(sys.argv[1])
assert config.model_type == "lowbit_qwen2", config
import torch
model = AutoModelForCausalLM.from_pretrained(sys.argv[1]).eval()
ids = torch.arange(24).view(2, 12)
with torch.no_grad():
    torch.save(model(ids).logits, sys.argv[2])
"""


def stock(family: str, **more: Any) -> Any:
    return CONFIGS[family](
        vocab_size=96,
        hidden_size=64,
        intermediate_size=80,
        num_hidden_layers=3,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=8,
        max_position_embeddings=64,
        bos_token_id=None,
        eos_token_id=None,
        **more,
    )


def layered(family: str, **more: Any) -> Any:
    """A model of three layers of the widths above; every weight is random."""
    from lowbit.layerwise import Widths, resized

    config = resized(stock(family, **more), [Widths(*widths) for widths in WIDTHS], range(3))
    torch.manual_seed(0)
    model: Any = AutoModelForCausalLM.from_config(config)
    for name, value in model.named_parameters():
        torch.nn.init.normal_(value, 1.0 if "norm" in name else 0.0, 0.2)
    return model.eval()


def load(folder: Path, **options: Any) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, **options).eval()


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    return model(IDS).logits


def generated(model: Any, **options: Any) -> list[int]:
    kwargs = {"max_new_tokens": 10, "do_sample": False, "pad_token_id": 0, **options}
    return model.generate(IDS[:1], **kwargs)[0].tolist()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("layered") / "qwen2"
    model = layered("qwen2", tie_word_embeddings=True)
    model.to(torch.bfloat16).save_pretrained(path)
    return path


@pytest.mark.parametrize("family", FAMILIES)
def test_layers_have_their_widths_and_survive_a_round_trip(family: str, tmp_path: Path) -> None:
    model = layered(family)
    for layer, (ffn, queries, groups) in zip(model.model.layers, WIDTHS, strict=True):
        assert layer.mlp.up_proj.weight.shape == (ffn, 64)
        assert layer.self_attn.q_proj.weight.shape == (8 * queries, 64)
        assert layer.self_attn.v_proj.weight.shape == (8 * groups, 64)
    model.save_pretrained(tmp_path / "one")
    loaded = load(tmp_path / "one")
    assert torch.equal(logits(loaded), logits(model))
    loaded.save_pretrained(tmp_path / "two")
    for name in ("model.safetensors", "config.json"):
        assert filecmp.cmp(tmp_path / "one" / name, tmp_path / "two" / name, shallow=False), name
    once = generated(loaded)
    assert once == generated(loaded, use_cache=False) == generated(loaded, cache_implementation="static")


def test_a_fresh_process_imports_late_and_computes_the_same(folder: Path, tmp_path: Path) -> None:
    script = tmp_path / "fresh.py"
    script.write_text(FRESH, encoding="utf-8")
    command = [sys.executable, str(script), str(folder), str(tmp_path / "logits")]
    run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert torch.equal(torch.load(tmp_path / "logits", weights_only=True), logits(load(folder)))


def test_the_stock_function_at_equal_widths() -> None:
    """A model of ours with the weights of a stock one computes the same, and new layers are initialised."""
    from lowbit.layerwise import LowbitQwen3Config

    torch.manual_seed(0)
    plain: Any = AutoModelForCausalLM.from_config(stock("qwen3")).eval()
    own: Any = AutoModelForCausalLM.from_config(LowbitQwen3Config(**stock("qwen3").to_dict())).eval()
    assert own.model.layers[2].mlp.up_proj.weight.std().item() == pytest.approx(0.02, rel=0.1)
    own.load_state_dict(plain.state_dict())
    assert torch.equal(logits(own), logits(plain))
    assert type(own.config.per_layer_config[0]) is LowbitQwen3Config


def test_another_attention_implementation_reaches_every_layer() -> None:
    model = layered("llama")
    before = logits(model)
    calls = []
    model.set_attn_implementation("eager")
    for layer in model.model.layers:
        assert layer.self_attn.config._attn_implementation == "eager"
        layer.self_attn.register_forward_hook(lambda _m, _a, answer: calls.append(answer[1]))
    assert torch.allclose(logits(model), before, atol=1e-5)
    assert [weights.shape[1] for weights in calls] == [queries for _, queries, _ in WIDTHS]


@pytest.mark.parametrize("recipe", ["higgs-4bit", "ternary", "int8"])
def test_packed_folders_load_again(recipe: str, folder: Path, tmp_path: Path) -> None:
    report = lowbit.quantize_folder(folder, recipe, tmp_path / "packed", seed=3)
    assert len(report.layers) == 21
    packed = load(tmp_path / "packed")
    memory = lowbit.quantize_model(load(folder), recipe, seed=3)
    assert torch.equal(logits(packed), logits(memory))
    assert generated(packed) == generated(packed, use_cache=False)
    memory.save_pretrained(tmp_path / "memory")
    for name in ("model.safetensors", "config.json"):
        assert filecmp.cmp(tmp_path / "packed" / name, tmp_path / "memory" / name, shallow=False), name
    lowbit.quantize_folder(folder, recipe, tmp_path / "shards", seed=3, shard_bytes=20_000)
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    assert torch.equal(logits(load(tmp_path / "shards")), logits(packed))


def test_lora_matrices_have_the_widths_of_their_layers() -> None:
    from peft import LoraConfig, get_peft_model

    model = layered("mistral")
    before = logits(model)
    wrapped = get_peft_model(
        model, LoraConfig(r=2, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM")
    )
    widths = [layer.mlp.down_proj.lora_A["default"].in_features for layer in model.model.layers]
    assert widths == [ffn for ffn, _, _ in WIDTHS]
    assert torch.equal(logits(wrapped), before)
    assert torch.equal(logits(wrapped.merge_and_unload()), before)


def test_a_tokenizer_is_read_as_beside_the_stock_model(tmp_path: Path) -> None:
    """Transformers puts the splitting of its Qwen2 class in the place of what tokenizer.json says."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokens = Tokenizer(models.BPE({letter: at for at, letter in enumerate("abcĠ<")}, [], unk_token="<"))
    tokens.pre_tokenizer = pre_tokenizers.Whitespace()
    found = {}
    for model_type in ("qwen2", "lowbit_qwen2"):
        path = tmp_path / model_type
        path.mkdir()
        tokens.save(str(path / "tokenizer.json"))
        (path / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
        (path / "config.json").write_text(json.dumps({"model_type": model_type, "head_dim": 8}))
        found[model_type] = AutoTokenizer.from_pretrained(path)
    assert found["qwen2"].encode("a b") == found["lowbit_qwen2"].encode("a b")
    assert type(found["qwen2"]) is type(found["lowbit_qwen2"])


def damaged(folder: Path, tmp_path: Path, change: dict[str, Any]) -> Path:
    value = json.loads((folder / "config.json").read_text())
    value.update(change)
    (tmp_path / "config.json").write_text(
        json.dumps({key: item for key, item in value.items() if item != "gone"})
    )
    return tmp_path


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"per_layer_config": {"1": {"num_key_value_heads": 0}}}, "layer 1: `num_key_value_heads` is 0"),
        (
            {"per_layer_config": {"1": {"num_attention_heads": 5}}},
            "layer 1: 5 query heads are no multiple of",
        ),
        ({"per_layer_config": {"1": {"hidden_size": 32}}}, "layer 1: key `hidden_size`; this lowbit knows"),
        ({"per_layer_config": {"0": {"skip": ["mlp"]}}}, "layer 0: key `skip`"),
        ({"head_dim": "gone"}, "`head_dim` is missing"),
    ],
)
def test_a_damaged_configuration_is_named(
    change: dict[str, Any], what: str, folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(LowbitError, match=what):
        AutoConfig.from_pretrained(damaged(folder, tmp_path, change))


def test_what_cannot_be_resized_is_refused() -> None:
    from lowbit.layerwise import Widths, resized

    with pytest.raises(LowbitError, match="`gpt2`: lowbit has no class"):
        resized(GPT2Config(), [Widths(1, 1, 1)], [0])
    with pytest.raises(LowbitError, match="layer 1: 3 query heads are no multiple of 2"):
        resized(stock("llama"), [Widths(1, 1, 1), Widths(8, 3, 2)], [0, 1])


def test_naive_readers_of_a_width_are_stopped() -> None:
    """`config.intermediate_size` of such a model has no one answer, and Transformers says so."""
    model = layered("qwen3")
    with pytest.raises(RuntimeError, match="per-layer attribute"):
        _ = model.config.intermediate_size
    assert copy.deepcopy(model.config).to_dict() == model.config.to_dict()
