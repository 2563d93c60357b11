"""Lets a checkpoint, with an adapter or without, continue a prompt, greedily, on the CPU or GPU there is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flows import champion
from stages.common import environment
from stages.common.errors import UserError


def locate(name: str) -> Path:
    """The folder behind `champion`, a candidate's name or a path. Raises `UserError`."""
    if name == "champion":
        folder = Path(champion.read().path)
        hint = "run `gorn champion fetch`, or `gorn run` first"
    elif (champion.CANDIDATES / name).is_dir():
        return champion.CANDIDATES / name
    else:
        folder = Path(name)
        hint = f"candidates: {', '.join(candidates()) or 'none yet, run `gorn run`'}"
    if not (folder / "config.json").is_file():
        raise UserError(f"model `{name}`: no checkpoint at {folder}; {hint}")
    return folder


def base_of(adapter: Path) -> str:
    """Where the checkpoint lay that `adapter` was trained on. Raises `UserError` for what is no adapter."""
    from stages.adapt.adapters import about

    return about(adapter)["base"]


def candidates() -> list[str]:
    """Candidates with a checkpoint on disk."""
    if not champion.CANDIDATES.is_dir():
        return []
    return sorted(
        folder.name for folder in champion.CANDIDATES.iterdir() if (folder / "config.json").is_file()
    )


def answer(folder: Path, prompt: str, max_tokens: int, threads: int, adapter: Path | None = None) -> str:
    """What the model of `folder` writes after `prompt`: at most `max_tokens` tokens, greedy, no special ones.

    `adapter` is switched on, where one is given, and asked by the chat template that it was trained with. A
    model with a chat template gets the prompt as a user's message. Raises `UserError` when the prompt is
    empty or too long, the checkpoint cannot be read, or the adapter belongs to another one.
    """
    if not prompt.strip():
        raise UserError("ask: the prompt is empty")
    environment.fix_threads(threads)
    import torch

    from stages.common.checkpoint import load_model, load_tokenizer

    tokenizer: Any = load_tokenizer(folder)
    model: Any = load_model(folder)
    if adapter is not None:
        from stages.adapt import adapters, chat

        base, model = model, adapters.load(model, adapter, folder)
        chat.use(adapter, tokenizer, base)
    model = model.to("cuda" if torch.cuda.is_available() else "cpu")
    if tokenizer.chat_template:
        messages = [{"role": "user", "content": prompt}]
        prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    encoded = tokenizer(prompt, return_tensors="pt", add_special_tokens=not tokenizer.chat_template)
    inputs = encoded["input_ids"].to(model.device)
    room = getattr(model.config, "max_position_embeddings", None)
    if room is not None and inputs.shape[1] + max_tokens > room:
        raise UserError(f"ask: {inputs.shape[1]} + {max_tokens} tokens; this model has room for {room}")
    with torch.inference_mode():
        written = model.generate(
            inputs,
            attention_mask=torch.ones_like(inputs),
            max_new_tokens=max_tokens,
            do_sample=False,
            pad_token_id=tokenizer.eos_token_id,
        )
    return str(tokenizer.decode(written[0, inputs.shape[1] :], skip_special_tokens=True)).strip()
