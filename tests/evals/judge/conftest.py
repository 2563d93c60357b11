"""A small random model with a chat template, pairs for it, and a server around it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from evaluation_models import make_model, make_tokenizer
from judge_server import CHAT, Judging, serve

from evals.judge import rubrics
from evals.judge.verdicts import Pair

Serve = Callable[..., Judging]


def make_pairs(count: int) -> list[Pair]:
    """Pairs that are all different."""
    return [
        Pair(f"p{i}", f"c{i // 2}", f"Сколько будет {i} + 1?", f"Будет {i + 1}.", f"Думаю, {i}")
        for i in range(count)
    ]


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    """Byte-level, with a chat template; a digit after a line end is one token."""
    pair = rubrics.load("pair.ru")
    made = make_tokenizer([pair.system, pair.prompt, *(item.question for item in make_pairs(9))], size=500)
    made.chat_template = CHAT
    return made


@pytest.fixture(scope="session")
def model(tokenizer: Any) -> Any:
    return make_model(tokenizer, seed=3, positions=2048)


@pytest.fixture
def serving(model: Any, tokenizer: Any) -> Iterator[Serve]:
    """Starts servers that end with the test: `serving(plan=..., knows=...)`."""
    with ExitStack() as stack:

        def start(labels: tuple[str, ...] = ("1", "2", "0"), **settings: Any) -> Judging:
            return stack.enter_context(serve(Judging(model, tokenizer, labels, **settings)))

        yield start
