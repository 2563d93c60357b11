"""`gorn ask`: which checkpoint, which adapter on it, and what it answers."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import flows_fakes as fakes
import pytest
import yaml

from flows import ask
from stages.common.errors import UserError


def test_ask_names_what_there_is(root: Path) -> None:
    assert ask.locate("adapt-bf16") == Path("out/quantize/adapt-bf16")
    assert ask.locate("champion") == Path("out/base")
    with pytest.raises(UserError, match="no checkpoint at nobody; candidates: adapt-bf16, adapt-ternary"):
        ask.locate("nobody")
    shutil.rmtree(root / "out/base")
    with pytest.raises(UserError, match="run `gorn champion fetch`, or `gorn run` first"):
        ask.locate("champion")


def tiny_model(folder: Path) -> None:
    """An untrained Qwen2 with a byte-level tokenizer that knows every byte."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: at for at, letter in enumerate([*alphabet, "<eos>"])}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>").save_pretrained(folder)
    config = Qwen2Config(
        vocab_size=257,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=16,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)


def test_ask_answers_greedily_and_knows_its_room(tmp_path: Path) -> None:
    tiny_model(tmp_path)
    first = ask.answer(tmp_path, "Moscow", 4, threads=1)
    assert first == ask.answer(tmp_path, "Moscow", 4, threads=1)
    assert len(first) <= 4
    with pytest.raises(UserError, match="6 \\+ 11 tokens; this model has room for 16"):
        ask.answer(tmp_path, "Moscow", 11, threads=1)
    with pytest.raises(UserError, match="the prompt is empty"):
        ask.answer(tmp_path, "  ", 4, threads=1)
    (tmp_path / "model.safetensors").write_bytes(b"\x00\x01")
    with pytest.raises(UserError, match=r"model\.safetensors"):
        ask.answer(tmp_path, "Moscow", 4, threads=1)


BESIDE = {"base": "out/quantize/adapt-ternary", "method": "lora", "weights": "0" * 64}


def test_ask_takes_the_base_that_the_adapter_names(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from flows import cli, commands

    adapter = root / "adapter"
    fakes.write(adapter / "adapter_config.json", {})
    fakes.write(adapter / "base.json", BESIDE)
    monkeypatch.setattr(ask, "answer", lambda folder, *_: str(folder))

    def asked(*words: str) -> str:
        commands.ask(cli.parser().parse_args(["ask", "?", *words]))
        return capsys.readouterr().out.strip()

    assert asked() == "out/base"
    assert asked("--adapter", "adapter") == "out/quantize/adapt-ternary"
    assert asked("--adapter", "adapter", "--model", "adapt-bf16") == "out/quantize/adapt-bf16"


def test_ask_switches_an_adapter_on_its_own_base(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    from stages.adapt.adaptation import AdaptContext
    from stages.adapt.adapters import WEIGHTS
    from stages.adapt.methods import wrap_of
    from stages.common.checkpoint import load_model
    from stages.common.params.adaptation import AdaptBlock

    base = tmp_path / "base"
    tiny_model(base)
    values = yaml.safe_load((fakes.REPO / "params.yaml").read_text(encoding="utf-8"))["adapt"]
    block = AdaptBlock(**values | {"rank": 8})
    context = AdaptContext(block, 1, base, str(base), 1, "cpu", None, None)
    adaptation = wrap_of("lora")(load_model(base, dtype=torch.float32), context)
    adaptation.save_adapter(tmp_path / "adapter")
    plain = ask.answer(base, "Moscow", 8, threads=1)
    assert ask.answer(base, "Moscow", 8, threads=1, adapter=tmp_path / "adapter") == plain
    weights = tmp_path / "adapter" / WEIGHTS
    torch.manual_seed(0)
    moved = {name: 3 * torch.randn_like(value) for name, value in load_file(weights).items()}
    save_file(moved, weights)
    assert ask.answer(base, "Moscow", 8, threads=1, adapter=tmp_path / "adapter") != plain
    assert ask.base_of(tmp_path / "adapter") == str(base)
    tiny_model(tmp_path / "other")
    with pytest.raises(UserError, match="this adapter belongs to the weights"):
        ask.answer(tmp_path / "other", "Moscow", 8, threads=1, adapter=tmp_path / "adapter")
    with pytest.raises(UserError, match="no adapter there"):
        ask.base_of(base)


@pytest.mark.parametrize(
    ("about", "key"),
    [([], "method"), ({}, "method"), (BESIDE | {"weights": None}, "weights"), ("x", "method")],
)
def test_a_damaged_base_json_is_named(tmp_path: Path, about: Any, key: str) -> None:
    from stages.adapt import adapters

    fakes.write(tmp_path / "adapter_config.json", {})
    fakes.write(tmp_path / "base.json", about)
    with pytest.raises(UserError, match=rf"base\.json: no text under `{key}`"):
        ask.base_of(tmp_path)
    with pytest.raises(UserError, match=rf"base\.json: no text under `{key}`"):
        adapters.load(None, tmp_path, tmp_path)
