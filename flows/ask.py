"""Lets a checkpoint continue a prompt, greedily, on the CPU or GPU that there is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flows import champion
from stages.common import environment
from stages.common.errors import UserError, one_line


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


def candidates() -> list[str]:
    """Candidates with a checkpoint on disk."""
    if not champion.CANDIDATES.is_dir():
        return []
    return sorted(
        folder.name for folder in champion.CANDIDATES.iterdir() if (folder / "config.json").is_file()
    )


def answer(folder: Path, prompt: str, max_tokens: int, threads: int) -> str:
    """What the model of `folder` writes after `prompt`: at most `max_tokens` tokens, greedy, without special
    ones.

    A model with a chat template gets the prompt as a user's message. Raises `UserError` when the prompt is
    empty or the checkpoint cannot be read.
    """
    if not prompt.strip():
        raise UserError("ask: the prompt is empty")
    environment.fix_threads(threads)
    import lowbit  # noqa: F401 -- registers the formats that from_pretrained then knows
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model: Any = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise UserError(f"{folder}: not a checkpoint that can be loaded ({one_line(error)})") from error
    model.eval()
    model.to(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    if tokenizer.chat_template:
        messages = [{"role": "user", "content": prompt}]
        text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        encoded = tokenizer(text, return_tensors="pt", add_special_tokens=False)
    else:
        encoded = tokenizer(prompt, return_tensors="pt")
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
            pad_token_id=tokenizer.pad_token_id
            if tokenizer.pad_token_id is not None
            else tokenizer.eos_token_id,
        )
    return str(tokenizer.decode(written[0, inputs.shape[1] :], skip_special_tokens=True)).strip()
