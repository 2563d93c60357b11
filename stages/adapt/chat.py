"""How a model that was trained on conversations is asked: its chat template, and what ends an answer.

A merged checkpoint holds both in its own files. Beside an adapter they lie in `chat.json`, because the base
that it is switched on may know neither.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from stages.common.atomic import read_json, write_json
from stages.common.errors import UserError

FILE = "chat.json"


def save(folder: Path, tokenizer: Any, closing: Iterable[int]) -> None:
    """Write the template of `tokenizer` and the ids of the closing tokens beside an adapter."""
    write_json(folder / FILE, {"chat_template": tokenizer.chat_template, "closing": sorted(closing)})


def use(folder: Path, tokenizer: Any, model: Any) -> None:
    """Let `tokenizer` and `model` ask and stop as the adapter of `folder` was trained.

    An adapter of plain text has no such file and changes nothing. Raises `UserError` for a damaged one.
    """
    if not (folder / FILE).is_file():
        return
    found = read_json(folder / FILE)
    known = found if isinstance(found, dict) else {}
    template, closing = known.get("chat_template"), known.get("closing")
    ids = isinstance(closing, list) and all(type(each) is int for each in closing)
    if not isinstance(template, str | dict) or not ids:
        raise UserError(
            f"{folder / FILE}: needs `chat_template` and the list `closing`; run `adapt` again, or copy the "
            "adapter again"
        )
    tokenizer.chat_template = template
    stop_at(model, closing or ())


def stop_at(model: Any, closing: Iterable[int]) -> None:
    """Let `generate` stop at `closing` too: base models know their end-of-text token alone."""
    ends, known = set(closing), model.generation_config.eos_token_id
    stops = {known} if isinstance(known, int) else set(known or ())
    if not stops >= ends:
        model.generation_config.eos_token_id = sorted(stops | ends)
