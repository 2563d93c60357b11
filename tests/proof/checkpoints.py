"""Packed checkpoints of real widths: a fresh process that knows nothing of the project gives the same bits.

One decoder layer each, of the widths of Qwen2.5-0.5B, Qwen2.5-1.5B and a Llama of 7B, with random weights.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

from stages.common.hashing import sha256_file
from tests.proof.common import SCRATCH, piece, run, write_result

CLAIM = "checkpoints"
# Hidden and intermediate size, query heads, key and value heads.
SHAPES = {
    "896x4864": (896, 4864, 14, 2),
    "1536x8960": (1536, 8960, 12, 2),
    "4096x11008": (4096, 11008, 32, 32),
}
RECIPES = ("int8", "higgs-4bit", "higgs-3bit", "higgs-2bit", "ternary")
SEED = 3
FRESH = """
import sys
import torch, transformers, lowbit
folder, out = sys.argv[1:]
model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
ids = torch.arange(48).view(2, 24)
with torch.no_grad():
    torch.save(model(ids).logits, out + "/logits.pt")
new = model.generate(ids[:1, :3], max_new_tokens=8, do_sample=False, pad_token_id=0)
assert new.shape == (1, 11), new.shape
model.save_pretrained(out + "/again")
ours = {name.partition(".")[0] for name in sys.modules} & {"stages", "evals", "flows", "tests"}
assert not ours, ours
"""


def measure() -> None:
    """Per shape and recipe: equal logits, tokens that come, equal bytes when saved again."""
    found = {
        shape: {
            recipe: piece(
                CLAIM, f"{shape}-{recipe}", lambda shape=shape, recipe=recipe: _check(shape, recipe)
            )
            for recipe in RECIPES
        }
        for shape in SHAPES
    }
    write_result(CLAIM, {"found": found, "seed": SEED})


def _check(shape: str, recipe: str) -> dict[str, Any]:
    """Quantise by streaming, load in a fresh process, compare with the model quantised in memory."""
    import lowbit
    import torch
    from transformers import AutoModelForCausalLM

    work = SCRATCH / CLAIM / shape
    source, packed, fresh = _source(work, shape), work / recipe, work / f"{recipe}-fresh"
    shutil.rmtree(packed, ignore_errors=True)
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    report = lowbit.quantize_folder(source, recipe, packed, seed=SEED)
    run([sys.executable, "-c", FRESH, str(packed), str(fresh)], work)
    memory = lowbit.quantize_model(AutoModelForCausalLM.from_pretrained(source).eval(), recipe, seed=SEED)
    with torch.inference_mode():
        logits = memory(torch.arange(48).view(2, 24)).logits
    found = {
        "bits_per_weight": report.quantized_bits_per_weight,
        "logits_equal": torch.equal(torch.load(fresh / "logits.pt", weights_only=True), logits),
        "saved_again_equal": _weights(fresh / "again") == _weights(packed),
    }
    shutil.rmtree(packed)
    shutil.rmtree(fresh)
    return found


def _weights(folder: Path) -> dict[str, str]:
    return {file.name: sha256_file(file) for file in sorted(folder.glob("*.safetensors"))}


def _source(work: Path, shape: str) -> Path:
    """The unquantised checkpoint in bfloat16; made once."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = work / "source"
    if not (folder / "model.safetensors").exists():
        hidden, intermediate, heads, pairs = SHAPES[shape]
        torch.manual_seed(SEED)
        config = LlamaConfig(
            vocab_size=512,
            hidden_size=hidden,
            intermediate_size=intermediate,
            num_hidden_layers=1,
            num_attention_heads=heads,
            num_key_value_heads=pairs,
            max_position_embeddings=128,
            dtype="bfloat16",
        )
        LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    return folder
