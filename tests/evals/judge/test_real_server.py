"""The endpoint back end against a server that is not ours: `transformers serve`."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from evaluation_models import make_config, make_tokenizer
from judge_fakes import make_pairs
from transformers import Qwen2ForCausalLM

from evals.judge import passport, rubrics
from evals.judge.endpoint import Endpoint, Settings
from evals.judge.protocol import RubricJudge
from evals.judge.verdicts import Verdict

START = 120  # seconds on a busy machine
# For this model type the server finds the reply by these very words.
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{{ '<|im_start|>assistant\n' }}"
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that says `1` whatever it is asked."""
    folder = tmp_path_factory.mktemp("always-first")
    tokenizer = make_tokenizer([rubrics.load("pair.ru").prompt], size=400)
    tokenizer.chat_template = TEMPLATE
    config = make_config(tokenizer, positions=2048)
    config.tie_word_embeddings = False
    model = Qwen2ForCausalLM(config)
    with torch.no_grad():
        for weight in model.model.layers.parameters():
            weight.zero_()
        model.model.embed_tokens.weight.fill_(1.0)
        model.lm_head.weight.zero_()
        model.lm_head.weight[tokenizer.encode("1")[0]] = 1.0
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def address(checkpoint: Path) -> Iterator[str]:
    """The base URL of a started server; the test is skipped when it does not start."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).with_name("transformers")), "serve", "--host", "127.0.0.1"]
    # In the repository its folder kernels/ would pass for the package of that name (docs/footguns.md).
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    log = checkpoint / "serve.log"
    with log.open("w") as file:
        process = subprocess.Popen(
            [*command, "--port", str(port)], stdout=file, stderr=file, cwd=checkpoint, env=env
        )
    try:
        until = time.monotonic() + START
        while not _answers(f"http://127.0.0.1:{port}/health"):
            if process.poll() is not None or time.monotonic() > until:
                pytest.skip(f"`transformers serve` does not start here: {log.read_text()[-300:]}")
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


@pytest.mark.slow
def test_a_judge_that_always_says_the_first_is_read_and_found_out(address: str, checkpoint: Path) -> None:
    settings: dict[str, Any] = {"max_tokens": 1, "timeout": 60.0, "concurrency": 2, "pause": 0.1}
    backend = Endpoint(
        Settings(address, str(checkpoint), **settings), lambda text: text, texts_may_leave=True
    )
    results = RubricJudge("always-first", backend, rubrics.load("pair.ru")).pairs(make_pairs(3))
    verdicts = [result for result in results if isinstance(result, Verdict)]
    assert len(verdicts) == 3, results
    # This server leaves out log-probabilities without a word, so the written verdict counts.
    assert {(verdict.p_first, verdict.p_second) for verdict in verdicts} == {(1.0, 0.0)}
    found = passport.without_labels(verdicts)
    assert (found["consistency"].value, found["primacy"].value) == (0.0, 1.0)
