"""Checkpoints as plain Hugging Face folders: load, save, digest, and what must hold before they are used.

Weights are safetensors only; no pickle is read or written and no code of a checkpoint is ever run.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from stages.common import faults, manifest
from stages.common.atomic import read_json, write_json
from stages.common.errors import UserError, one_line
from stages.common.hashing import sha256_bytes, sha256_file, sha256_paths

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
WEIGHTS = "*.safetensors"
INDEX = "model.safetensors.index.json"
CONFIGS = ("config.json", "generation_config.json")
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
    "chat_template.json",
)
# How a tokenizer was loaded, which Transformers writes beside what it is.
LOADING_OPTIONS = ("is_local", "local_files_only", "name_or_path", "trust_remote_code")


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of the model of `folder`, sorted. Raises `UserError` when one is missing."""
    index = folder / INDEX
    if not index.exists():
        files = sorted(folder.glob(WEIGHTS))
        if not files:
            pickled = sorted(file.name for file in folder.glob("pytorch_model*.bin"))
            hint = f"; {pickled[0]} is a pickle, which is never read: convert it first" if pickled else ""
            raise UserError(f"{folder}: no *.safetensors weights there{hint}")
        return files
    files = [folder / name for name in sorted(set(read_json(index)["weight_map"].values()))]
    for file in files:
        if not file.exists():
            raise UserError(f"{file}: named in {INDEX} but missing; copy the checkpoint again")
    return files


def checkpoint_files(folder: Path) -> list[Path]:
    """Weights, their index, configs and tokenizer files of `folder`, sorted: the model and nothing else."""
    named = [folder / name for name in (INDEX, *CONFIGS, *TOKENIZER_FILES)]
    return sorted([*folder.glob(WEIGHTS), *(file for file in named if file.is_file())])


def digest(folder: Path) -> str:
    """Hex SHA-256 over names and contents of `checkpoint_files`; manifests and subfolders do not count.

    Raises `UserError` when `folder` holds no checkpoint.
    """
    folder = Path(folder)
    _require_folder(folder)
    weight_files(folder)
    return sha256_paths(folder, checkpoint_files(folder))


def weight_bytes(folder: Path) -> int:
    """Bytes of the safetensors files of `folder`. Raises `UserError` when there are none."""
    return sum(file.stat().st_size for file in weight_files(Path(folder)))


def pick_device(device: Literal["auto", "cpu", "cuda"]) -> str:
    """`cuda` or `cpu`. `auto` takes the GPU when there is one; `cuda` without one raises `UserError`."""
    if device == "cpu" or (device == "auto" and not _may_have_gpu()):
        return "cpu"
    import torch

    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        raise UserError("params.yaml: `device: cuda`, but torch sees no GPU; set `device: auto` or `cpu`")
    return "cuda" if available else "cpu"


def _may_have_gpu() -> bool:
    """False where the kernel shows no GPU: then torch, which takes seconds to import, need not be asked."""
    if sys.platform != "linux":
        return True
    return any(Path("/dev").glob("nvidia[0-9]*")) or any(Path(p).exists() for p in ("/dev/kfd", "/dev/dxg"))


def load_config(folder: Path) -> Any:
    """The model configuration of `folder`, of a family that Gorn can train, compress and measure.

    Raises `UserError` for a missing or broken config.json and for any other model family.
    """
    import lowbit  # registers its model classes and quantisation method
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    folder = Path(folder)
    _require_folder(folder)
    family = read_json(folder / "config.json").get("model_type")
    ours = family in CONFIG_MAPPING and CONFIG_MAPPING[family].__module__.partition(".")[0] == "lowbit"
    if family not in FAMILIES and not ours:
        raise UserError(
            f"{folder}: model family `{family}` is not supported; supported: {', '.join(FAMILIES)}"
        )
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (ValueError, KeyError, TypeError, StrictDataclassError, lowbit.LowbitError) as error:
        raise UserError(f"{folder}/config.json: not a usable configuration ({one_line(error)})") from error


def load_model(folder: Path, dtype: torch.dtype | None = None, device: str = "cpu") -> PreTrainedModel:
    """The causal language model of `folder` in evaluation mode, quantised ones included.

    `dtype` None keeps the dtype of the file. Raises `UserError` for a truncated or foreign safetensors file
    (named), a model family that is not supported, and weights that do not fit the config.
    """
    folder = Path(folder)
    config = load_config(folder)
    _check_weights(folder)
    from transformers import AutoModelForCausalLM

    _no_bars()
    loaded: Any
    try:
        loaded = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            dtype="auto" if dtype is None else dtype,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(f"{folder}: cannot be loaded ({one_line(error)})") from error
    model, info = loaded
    for kind in ("missing_keys", "mismatched_keys", "unexpected_keys"):
        # Transformers only warns, and fills what is missing with random numbers.
        if keys := sorted(str(key) for key in info.get(kind, ())):
            raise UserError(
                f"{folder}: {kind.replace('_', ' ')} in the weights, {keys[0]} and {len(keys) - 1} more"
            )
    return model.to(device).eval()


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of `folder`. Raises `UserError` when there is none, or it has no end-of-text token."""
    import lowbit  # noqa: F401  # Transformers looks into the model's config.json for its class too
    from transformers import AutoTokenizer

    folder = Path(folder)
    _require_folder(folder)
    if not any((folder / name).exists() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        raise UserError(f"{folder}: no tokenizer files there")
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # the tokenizers library raises bare Exception
        raise UserError(f"{folder}: its tokenizer cannot be loaded ({one_line(error)})") from error
    if tokenizer.eos_token_id is None:
        raise UserError(
            f"{folder}: its tokenizer has no end-of-text token (eos_token), which separates documents"
        )
    return tokenizer


def save_model(model: Any, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write `model` and `tokenizer` as a Hugging Face folder; equal models give equal bytes."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    _no_bars()
    model.save_pretrained(folder)
    faults.point("inside-checkpoint-write")
    save_tokenizer(tokenizer, folder)


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write `tokenizer` into `folder`; saving, loading and saving again gives the same bytes."""
    tokenizer.save_pretrained(folder)
    settings = Path(folder) / "tokenizer_config.json"
    kept = {key: value for key, value in read_json(settings).items() if key not in LOADING_OPTIONS}
    write_json(settings, kept)


def tokenizer_sha256(folder: Path) -> str:
    """Hash of what the tokenizer of `folder` does (vocabulary, merges, normalisation, special tokens).

    Saving the tokenizer again does not change it. Raises `UserError` as `load_tokenizer` does.
    """
    return _tokenizer_hash(load_tokenizer(folder))


def _tokenizer_hash(tokenizer: Any) -> str:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return sha256_bytes(json.dumps(sorted(tokenizer.get_vocab().items())).encode())
    described = json.loads(backend.to_str())
    # Batch settings of the last call, not part of what a text becomes.
    described.pop("padding", None)
    described.pop("truncation", None)
    return sha256_bytes(json.dumps(described, sort_keys=True).encode())


def check_tokenizer(folder: Path, tokens_dir: Path) -> None:
    """Refuse a checkpoint whose tokenizer is not the one that packed the shards in `tokens_dir`.

    Raises `UserError` when hashes differ or the embedding has fewer rows than the vocabulary.
    """
    shards = read_json(Path(tokens_dir) / "shards.json")
    tokenizer = load_tokenizer(folder)
    if len(tokenizer) != shards["vocab_size"] or _tokenizer_hash(tokenizer) != shards["tokenizer_sha256"]:
        raise UserError(
            f"{folder}: foreign tokenizer ({len(tokenizer)} entries; the shards in {tokens_dir} were packed "
            f"with another of {shards['vocab_size']}); set `tokens.tokenizer: base` or bring the checkpoint "
            "that belongs to them"
        )
    rows = load_config(folder).vocab_size
    if rows < shards["vocab_size"]:
        raise UserError(f"{folder}: {rows} embedding rows for a vocabulary of {shards['vocab_size']}")


def check_own_tokenizer(folder: Path) -> None:
    """Refuse a checkpoint whose tokenizer files are not those that its own manifest lists.

    Another tokenizer of equal size would load and give numbers, only meaningless ones. A checkpoint without a
    manifest passes. Raises `UserError`.
    """
    folder = Path(folder)
    about = folder / manifest.CHECKPOINT_MANIFEST
    listed = read_json(about).get("files") if about.is_file() else None
    if listed is None:
        return
    for name in TOKENIZER_FILES:
        file = folder / name
        if listed.get(name) != (sha256_file(file) if file.is_file() else None):
            raise UserError(
                f"{folder}: foreign tokenizer ({name} is not the one that {about.name} lists); "
                "run the stage that writes this checkpoint again"
            )


def _no_bars() -> None:
    from transformers.utils import logging

    logging.disable_progress_bar()


def _require_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise UserError(
            f"{folder}: no such checkpoint folder; run the stage that writes it, or mend the path"
        )


def _check_weights(folder: Path) -> None:
    from safetensors import SafetensorError, safe_open

    for file in weight_files(folder):
        try:
            with safe_open(file, framework="pt") as opened:
                opened.keys()
        except (SafetensorError, OSError) as error:
            raise UserError(
                f"{file}: truncated or not safetensors ({one_line(error)}); copy or make it again"
            ) from error
