"""A small random model with a chat template, pairs for it, and a server around it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from evaluation_models import make_model, make_tokenizer
from judge_fakes import make_pairs
from judge_server import CHAT, Judging, serve

from evals.judge import rubrics

Serve = Callable[..., Judging]


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
