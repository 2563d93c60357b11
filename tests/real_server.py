"""A server that is not ours, `transformers serve`, with models of ours, and a relay that lets it fail."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from evals.judge.rubrics import Rubric
from evals.judge.verdicts import Pair
from tests.evaluation_models import make_model, make_tokenizer
from tests.judge_server import Judging

START = 120  # seconds on a busy machine
# For this model type the server finds the reply by these very words.
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{{ '<|im_start|>assistant\n' }}"
)
# What a server without log-probabilities can be made to fail with.
FAULTS = ("429", "500", "time_out", "malformed", "shapeless", "cut", "hang_up")


def save_judge(folder: Path, pairs: Sequence[Pair], rubric: Rubric) -> None:
    """A random model that says `1` or `2`, by what it has read, saved as a checkpoint in `folder`.

    The rows of its head for the two words are v and -v, all others are zero, so that one of the two is the
    likeliest token. v is the direction in which the last states of the prompts of `pairs` differ most, made
    orthogonal to their mean, so that both words occur.
    """
    tokenizer = make_tokenizer([rubric.system, rubric.prompt], size=400)
    tokenizer.chat_template = TEMPLATE
    model = make_model(tokenizer, seed=5, positions=2048)
    with torch.no_grad():
        states = torch.stack(
            [
                model.model(torch.tensor([tokenizer.encode(chat(tokenizer, rubric, prompt))]))[0][0, -1]
                for pair in pairs
                for prompt in rubric.pair(pair)
            ]
        )
        mean = states.mean(0)
        direction = torch.linalg.svd(states - mean).Vh[0]
        direction -= mean * (direction @ mean) / (mean @ mean)
        model.config.tie_word_embeddings = False
        head = torch.zeros(len(tokenizer), len(direction))
        for word, sign in (("1", 1.0), ("2", -1.0)):
            head[tokenizer.encode(word)[0]] = 10 * sign * direction / direction.norm()
        model.lm_head.weight = torch.nn.Parameter(head)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def chat(tokenizer: Any, rubric: Rubric, prompt: str) -> str:
    """The text of a chat as `evals.judge.local` writes it."""
    messages = [{"role": "system", "content": rubric.system}, {"role": "user", "content": prompt}]
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))


@contextmanager
def started(folder: Path) -> Iterator[str]:
    """The base URL of `transformers serve`; its log goes to serve.log in `folder`.

    Raises `RuntimeError` with the end of the log when it does not start.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).with_name("transformers")), "serve", "--host", "127.0.0.1"]
    # In the repository its folder kernels/ would pass for the package of that name (docs/footguns.md).
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    log = folder / "serve.log"
    with log.open("w") as file:
        process = subprocess.Popen(
            [*command, "--port", str(port)], stdout=file, stderr=file, cwd=folder, env=env
        )
    try:
        until = time.monotonic() + START
        while not _answers(f"http://127.0.0.1:{port}/health"):
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"`transformers serve` does not start: {log.read_text()[-600:]}")
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


@dataclass
class Relay(Judging):
    """Stands before the server at `upstream`: what meets no fault there is passed on, and its reply back."""

    model: Any = None
    tokenizer: Any = None
    labels: tuple[str, ...] = ()
    upstream: str = ""

    def reply(self, body: dict[str, Any]) -> dict[str, Any]:
        """The upstream server's chat completion."""
        request = urllib.request.Request(
            f"{self.upstream}/chat/completions",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as reply:
            return dict(json.load(reply))
