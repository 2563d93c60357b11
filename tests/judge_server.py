"""An OpenAI-compatible server on loopback around a small model of ours, with faults on demand."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.error import HTTPError

import torch

Fault = Literal[
    "429", "500", "time_out", "malformed", "shapeless", "nan", "cut", "hang_up", "401", "302", "refuse"
]
# The fault of a try from (the number of the prompt in order of arrival, the number of the try, from 0).
Plan = Callable[[int, int], Fault | None]
CHAT = "{% for m in messages %}<{{ m.role }}>\n{{ m.content }}\n{% endfor %}{{ '<assistant>\n' }}"
HANG = 1.5  # seconds; longer than the time-out of any test


@dataclass
class Knows:
    """What the server does with the optional parts of a request: obey, ignore or refuse them."""

    response_format: Literal["obey", "ignore", "refuse"] = "obey"
    logprobs: Literal["obey", "ignore", "refuse"] = "obey"
    template: str = "{label}"  # how the verdict is written where no format holds


@dataclass
class Judging:
    """The server's state: what it was asked, by the text of the last message, and what it gave back."""

    model: Any
    tokenizer: Any
    labels: tuple[str, ...]
    knows: Knows = field(default_factory=Knows)
    plan: Plan = lambda prompt, attempt: None  # noqa: ARG005
    says: str = ""  # appended to the words of every error and every reply
    address: str = ""
    attempts: Counter[str] = field(default_factory=Counter)
    delivered: Counter[str] = field(default_factory=Counter)
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    busy: int = 0
    most_busy: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def arrive(self, body: dict[str, Any], headers: dict[str, str]) -> tuple[str, Fault | None]:
        """The prompt and the fault that its request meets."""
        prompt = body["messages"][-1]["content"]
        with self.lock:
            self.busy += 1
            self.most_busy = max(self.most_busy, self.busy)
            self.attempts[prompt] += 1
            self.requests.append(body)
            self.headers.append(headers)
            return prompt, self.plan(list(self.attempts).index(prompt), self.attempts[prompt] - 1)

    def reply(self, body: dict[str, Any]) -> dict[str, Any]:
        """A chat completion whose one free token is the model's likeliest label."""
        text = self.tokenizer.apply_chat_template(
            body["messages"], tokenize=False, add_generation_prompt=True
        )
        ids = self.tokenizer.encode(text)
        tokens = [self.tokenizer.encode(label)[0] for label in self.labels]
        with self.lock, torch.inference_mode():
            logits = self.model(input_ids=torch.tensor([ids])).logits[0, -1].double()
        # Held to its labels, as a server with a grammar is.
        logprobs = logits[tokens].log_softmax(-1).tolist()
        best = max(range(len(tokens)), key=logprobs.__getitem__)
        formatted = "response_format" in body and self.knows.response_format == "obey"
        before, after = self._frame(body, formatted)
        message = {"role": "assistant", "content": before + self.labels[best] + after}
        choice: dict[str, Any] = {"index": 0, "message": message, "finish_reason": "stop"}
        if body.get("logprobs") and self.knows.logprobs == "obey":
            entries = [
                {"token": label, "logprob": value, "bytes": None}
                for label, value in zip(self.labels, logprobs, strict=True)
            ]
            verdict = {**entries[best], "top_logprobs": sorted(entries, key=lambda entry: -entry["logprob"])}
            sure = [
                {"token": part, "logprob": 0.0, "bytes": None, "top_logprobs": []} for part in (before, after)
            ]
            choice["logprobs"] = {
                "content": [token for token in (sure[0], verdict, sure[1]) if token["token"]]
            }
        return {
            "id": "1",
            "object": "chat.completion",
            "created": 0,
            "model": body["model"],
            "choices": [choice],
        }

    def _frame(self, body: dict[str, Any], formatted: bool) -> tuple[str, str]:
        if not formatted:
            before, _, after = self.knows.template.partition("{label}")
            return before, after + self.says
        key = next(iter(body["response_format"]["json_schema"]["schema"]["properties"]))
        return f'{{"{key}": "', f'"}}{self.says}'


@dataclass
class Writing(Judging):
    """A server that writes `answer(prompt)`; it has no model."""

    model: Any = None
    tokenizer: Any = None
    labels: tuple[str, ...] = ()
    answer: Callable[[str], str] = field(default=lambda prompt: "")  # noqa: ARG005

    def reply(self, body: dict[str, Any]) -> dict[str, Any]:
        """A chat completion."""
        text = self.answer(body["messages"][-1]["content"])
        return {"choices": [{"index": 0, "message": {"role": "assistant", "content": text}}]}


def _handler(judging: Judging) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # else every reply waits 40 ms for the client to confirm its header

        def log_message(self, *_: Any) -> None:
            """Nothing: the tests look into `Judging`."""

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            prompt, fault = judging.arrive(body, {name.lower(): text for name, text in self.headers.items()})
            try:
                self.answer(body, prompt, fault)
            except OSError:
                self.close_connection = True  # the client did not wait
            finally:
                with judging.lock:
                    judging.busy -= 1

        def answer(self, body: dict[str, Any], prompt: str, fault: Fault | None) -> None:
            if fault is None and (refused := self.unknown(body)):
                self.send(400, {"error": {"message": f"unknown parameter {refused}", "param": refused}})
            elif fault in ("429", "500", "401", "refuse"):
                status = 400 if fault == "refuse" else int(fault)
                self.send(status, {"error": {"message": f"fault {fault} {judging.says}"}})
            elif fault == "302":
                self.send(307, {}, {"Location": f"{judging.address}/elsewhere"})
            elif fault == "time_out":
                time.sleep(HANG)
                self.close_connection = True
            elif fault == "hang_up":
                self.close_connection = True
            else:
                try:
                    value = judging.reply(body)
                except HTTPError as error:  # of a server behind this one
                    self.send(error.code, {"error": {"message": error.reason}})
                else:
                    self.deliver(value, prompt, fault)

        def deliver(self, value: dict[str, Any], prompt: str, fault: Fault | None) -> None:
            if fault == "nan":
                for token in value["choices"][0]["logprobs"]["content"]:
                    token["logprob"] = float("nan")
            if fault == "shapeless":
                value = {"choices": []}
            data = json.dumps(value).encode()
            if fault == "malformed":
                data = data[: len(data) // 2]
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if fault == "cut":
                self.wfile.write(data[: len(data) // 2])
                self.close_connection = True
                return
            # Counted first: the client may have the reply before this thread runs again.
            if fault is None:
                with judging.lock:
                    judging.delivered[prompt] += 1
            self.wfile.write(data)

        def unknown(self, body: dict[str, Any]) -> str:
            """The part of the request that this server refuses."""
            for name in ("response_format", "logprobs"):
                if name in body and getattr(judging.knows, name) == "refuse":
                    return name
            return ""

        def send(self, status: int, value: dict[str, Any], headers: dict[str, str] | None = None) -> None:
            data = json.dumps(value).encode()
            self.send_response(status)
            for name, text in {
                "Content-Type": "application/json",
                "Retry-After": "0",
                **(headers or {}),
            }.items():
                self.send_header(name, text)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    return Handler


@contextmanager
def serve(judging: Judging) -> Iterator[Judging]:
    """Serve on a free port of loopback; `judging.address` is the base URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(judging))
    server.daemon_threads = True
    judging.address = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield judging
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
