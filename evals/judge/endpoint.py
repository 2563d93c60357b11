"""A model behind any OpenAI-compatible server: every prompt is answered once, or missing with the reason.

As a judge it gives verdicts (`ask`), as a model under evaluation it writes (`write`, for evals/remote.py).

Nothing leaves the machine unless the caller says that it may, and then only after personal data was redacted.
The client's own retries are off: one loop here bounds them together with malformed replies.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from evals.errors import EvalError
from evals.judge import replies
from evals.judge.cache import Cache, prompt_digest
from evals.judge.protocol import Failure, Identity, Reply
from evals.judge.replies import Completion, MalformedError
from evals.judge.rubrics import Rubric
from evals.judge.verdicts import Reason

MESSAGE = 200  # characters of a server's own words in a message of ours
LONGEST_PAUSE = 60.0  # seconds
Redact = Callable[[str], str]


@dataclass(frozen=True)
class Settings:
    """Where and how to ask.

    `address`: base URL, ends before /chat/completions. `key_variable`: the environment variable that holds
    the key; None for a server that needs none. `timeout`: seconds for one whole call. `retries`: further
    tries after the first. `pause`: seconds before the second try, doubled before each later one.
    `concurrency`: calls at a time. `alternatives`: log-probabilities asked for, 0 for none. `structured`: ask
    for a verdict by JSON schema. `give_up`: failed prompts in a row after which the rest is not asked.
    """

    address: str
    model: str
    key_variable: str | None = None
    timeout: float = 60.0
    retries: int = 4
    pause: float = 1.0
    concurrency: int = 4
    temperature: float = 0.0
    max_tokens: int = 64
    seed: int | None = 0
    alternatives: int = 20
    structured: bool = True
    give_up: int = 8

    def __post_init__(self) -> None:
        """Raises `EvalError` on a value that cannot be; never with the address of a refused one."""
        parts = urlsplit(self.address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise EvalError("the address of an endpoint must begin with http:// or https:// and name a host")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise EvalError(
                "the address of an endpoint holds a user, password or query; put the key into an environment "
                "variable and name that in `key_variable`"
            )
        ranges = {
            "timeout": self.timeout > 0,
            "retries": self.retries >= 0,
            "pause": self.pause >= 0,
            "concurrency": self.concurrency >= 1,
            "temperature": self.temperature >= 0,
            "max_tokens": self.max_tokens >= 1,
            "alternatives": 0 <= self.alternatives <= 20,
            "give_up": self.give_up >= 1,
        }
        if wrong := [name for name, right in ranges.items() if not right]:
            raise EvalError(
                f"the setting of an endpoint `{wrong[0]}` is out of range: {getattr(self, wrong[0])}"
            )


@dataclass
class Traffic:
    """Calls sent, those of them that were tries after a failure, prompts known beforehand."""

    calls: int = 0
    retries: int = 0
    cached: int = 0


@dataclass
class Endpoint:
    """A back end that asks a server. Raises `EvalError` unless `texts_may_leave`, or without its key.

    `redact` is applied to every text that is sent. `cache`: file of finished calls, None for none. `advance`
    is told of every finished prompt. `role` is what messages call the model.
    """

    settings: Settings
    redact: Redact
    texts_may_leave: bool = False
    cache: Path | None = None
    advance: Callable[[int], None] = lambda _: None
    traffic: Traffic = field(default_factory=Traffic)
    role: str = "judge"

    def __post_init__(self) -> None:
        if not self.texts_may_leave:
            raise EvalError(
                f"{self.role} `{self.settings.model}` is behind an address, and texts may not leave this "
                f"machine; allow it in params.yaml or name a local {self.role}"
            )
        variable = self.settings.key_variable
        if variable is not None and not os.environ.get(variable):
            raise EvalError(
                f"the {self.role}'s key is not set; put it into the environment variable {variable}"
            )

    def identity(self, name: str, rubric: Rubric | None) -> Identity:
        """Bound to address, model and what shapes a reply; not to time-outs, retries or the key."""
        told = ("address", "temperature", "max_tokens", "seed", "alternatives", "structured")
        settings = tuple((key, getattr(self.settings, key)) for key in told)
        digest = rubric.digest if rubric else ""
        return Identity(name, "endpoint", self.settings.model, settings, digest)

    def ask(self, rubric: Rubric, prompts: Sequence[str]) -> list[Reply | Failure]:
        """Equal prompts are asked once. Raises `EvalError` when the server refuses the key or the model."""
        chats = [self._messages(rubric.system, prompt) for prompt in prompts]
        return [
            _reply(found) if isinstance(found, Completion) else found for found in self._all(rubric, chats)
        ]

    def write(self, prompts: Sequence[str]) -> list[str | Failure]:
        """What the model writes when a prompt is all that it is told. Raises `EvalError` as `ask`."""
        chats = [self._messages("", prompt) for prompt in prompts]
        return [found.text if isinstance(found, Completion) else found for found in self._all(None, chats)]

    def _all(
        self, rubric: Rubric | None, chats: Sequence[list[dict[str, str]]]
    ) -> list[Completion | Failure]:
        judge = self.identity("", rubric).digest
        digests = [prompt_digest(chat) for chat in chats]
        with Cache(self.cache) if self.cache else nullcontext() as cache:
            found: dict[str, Completion | Failure] = {}
            for digest in digests:
                known = cache.get(judge, digest) if cache else None
                if known and digest not in found:
                    shares = known["shares"]
                    found[digest] = Completion(known["text"], shares and tuple(shares))
                    self.traffic.cached += 1
                    self.advance(1)
            todo = {digest: chat for digest, chat in zip(digests, chats, strict=True) if digest not in found}
            run = _Run(self, rubric, judge, cache)
            if todo:
                found |= asyncio.run(run.all(todo))
        return [found[digest] for digest in digests]

    def _messages(self, system: str, prompt: str) -> list[dict[str, str]]:
        texts = [("system", system), ("user", prompt)]
        return [{"role": role, "content": self.redact(text)} for role, text in texts if text]


class _CallError(Exception):
    """A failure of one call. `again`: whether another try may help, after `pause` seconds at least."""

    def __init__(self, kind: Reason, reason: str, again: bool, pause: float = 0.0) -> None:
        super().__init__(reason)
        self.kind, self.reason, self.again, self.pause = kind, reason, again, pause


class _Run:
    """One run over prompts that are all different; without a rubric replies are free text."""

    def __init__(self, endpoint: Endpoint, rubric: Rubric | None, judge: str, cache: Cache | None) -> None:
        self._endpoint, self._settings = endpoint, endpoint.settings
        self._rubric, self._judge, self._cache = rubric, judge, cache
        self._key = os.environ.get(self._settings.key_variable or "", "")
        self._extras = self._offers()
        self._settled = len(self._extras) == 1
        self._failed_in_a_row = 0

    def _offers(self) -> list[dict[str, Any]]:
        """What may be asked for beyond the plain call, the most first; a server may know only some of it."""
        if self._rubric is None:
            return [{}]
        settings = self._settings
        answer = {"name": "verdict", "schema": self._rubric.schema(), "strict": True}
        structured = {"response_format": {"type": "json_schema", "json_schema": answer}}
        alternatives = {"logprobs": True, "top_logprobs": settings.alternatives}
        forms = [structured, {}] if settings.structured else [{}]
        parts = [alternatives, {}] if settings.alternatives else [{}]
        return [form | part for part in parts for form in forms]

    async def all(self, todo: dict[str, list[dict[str, str]]]) -> dict[str, Completion | Failure]:
        """Replies by digest. The first prompts are asked alone until one shows what the server knows."""
        import openai

        # A redirect would carry the texts to another address.
        plain = openai.DefaultAsyncHttpxClient(timeout=self._settings.timeout, follow_redirects=False)
        unsent: Any = {"OpenAI-Organization": openai.Omit(), "OpenAI-Project": openai.Omit()}
        found: dict[str, Completion | Failure] = {}
        async with openai.AsyncOpenAI(
            api_key=self._key or "none",
            base_url=self._settings.address,
            max_retries=0,
            http_client=plain,
            default_headers=unsent,
        ) as client:
            waiting = list(todo.items())
            while waiting and not self._settled:
                digest, chat = waiting.pop(0)
                found[digest] = await self._one(client, digest, chat)
            room = asyncio.Semaphore(self._settings.concurrency)

            async def one(digest: str, chat: list[dict[str, str]]) -> None:
                async with room:
                    found[digest] = await self._one(client, digest, chat)

            try:
                async with asyncio.TaskGroup() as group:
                    for digest, chat in waiting:
                        group.create_task(one(digest, chat))
            except ExceptionGroup as errors:
                raise errors.exceptions[0] from None
        return found

    async def _one(self, client: Any, digest: str, chat: list[dict[str, str]]) -> Completion | Failure:
        """The reply to one prompt after at most `retries` further tries; what is finished is kept at once."""
        settings, pause = self._settings, self._settings.pause
        if self._failed_in_a_row >= settings.give_up:
            self._endpoint.advance(1)
            return Failure("given_up", f"not asked: {settings.give_up} prompts in a row had failed")
        for attempt in range(settings.retries + 1):
            started, clock = time.time(), time.monotonic()
            try:
                completion, sent = await self._call(client, chat)
            except _CallError as stop:
                failure = Failure(stop.kind, self._clean(stop.reason))
                if not stop.again or attempt == settings.retries:
                    break
                await asyncio.sleep(min(max(pause, stop.pause), LONGEST_PAUSE))
                pause, self._endpoint.traffic.retries = 2 * pause, self._endpoint.traffic.retries + 1
            else:
                self._failed_in_a_row = 0
                completion = Completion(self._clean(completion.text, None), completion.shares)
                if self._cache:
                    took = time.monotonic() - clock
                    self._cache.put(
                        self._judge, digest, completion.shares, completion.text, sent, started, took
                    )
                self._endpoint.advance(1)
                return completion
        # A server that refuses one prompt is alive.
        self._failed_in_a_row = 0 if failure.kind == "refused" else self._failed_in_a_row + 1
        self._endpoint.advance(1)
        return failure

    async def _call(self, client: Any, chat: list[dict[str, str]]) -> tuple[Completion, list[dict[str, str]]]:
        """One reply and the messages that it answers, asking for less where the server does not take it all.

        Raises `_CallError`.
        """
        while True:
            extra = self._extras[0]
            sent = self._worded(chat, extra)
            try:
                completion = await self._send(client, sent, extra)
            except _CallError as stop:
                if stop.kind != "refused" or self._settled:
                    raise
                if len(self._extras) == 1:
                    # Even the plain call was refused: the prompt is at fault, the next asks for all again.
                    self._extras = self._offers()
                    raise
                self._extras = self._extras[1:]
            else:
                self._settled = True
                return completion, sent

    def _worded(self, chat: list[dict[str, str]], extra: dict[str, Any]) -> list[dict[str, str]]:
        """`chat`, with the sentence that asks for JSON where a schema is asked for."""
        if self._rubric is None or "response_format" not in extra:
            return chat
        return [*chat[:-1], {**chat[-1], "content": f"{chat[-1]['content']}\n{self._rubric.json_line()}"}]

    async def _send(self, client: Any, chat: list[dict[str, str]], extra: dict[str, Any]) -> Completion:
        import openai

        settings = self._settings
        given = {} if settings.seed is None else {"seed": settings.seed}
        self._endpoint.traffic.calls += 1
        try:
            async with asyncio.timeout(settings.timeout):
                raw = await client.chat.completions.with_raw_response.create(
                    model=settings.model,
                    messages=chat,
                    temperature=settings.temperature,
                    max_tokens=settings.max_tokens,
                    **given,
                    **extra,
                )
            return replies.read(json.loads(raw.http_response.content), self._rubric)
        except (TimeoutError, openai.APITimeoutError) as error:
            raise _CallError("time_out", f"no reply within {settings.timeout:g} s", again=True) from error
        except openai.APIConnectionError as error:
            raise _CallError("connection", f"connection failed ({_cause(error)})", again=True) from error
        except openai.APIStatusError as error:
            raise self._status(error) from error
        except MalformedError as error:
            raise _CallError("malformed", str(error), again=True) from error
        except (ValueError, RecursionError) as error:
            raise _CallError("malformed", "the reply is no JSON", again=True) from error

    def _status(self, error: Any) -> _CallError:
        """What a status other than 200 means. Raises `EvalError` where every prompt would meet it."""
        status, said = error.status_code, self._clean(str(error.message))
        if status in (401, 402, 403, 404) or 300 <= status < 400:
            raise EvalError(
                f"the {self._endpoint.role} at {self._settings.address} refuses model "
                f"`{self._settings.model}` with status {status}: {said}; check address, model and key"
            ) from None
        if status in (408, 409, 429) or status >= 500:
            kind: Reason = "rate_limit" if status == 429 else "server"
            return _CallError(kind, f"status {status}: {said}", True, _retry_after(error.response.headers))
        return _CallError("refused", f"status {status}: {said}", again=False)

    def _clean(self, text: str, length: int | None = MESSAGE) -> str:
        """`text` without the key; with a `length`, on one line and no longer than that."""
        if self._key:
            text = text.replace(self._key, "[KEY]")
        return " ".join(text.split())[:length] if length else text


def _reply(completion: Completion) -> Reply | Failure:
    if completion.shares is None:
        said = " ".join(completion.text.split())[:MESSAGE]
        return Failure("unparsable", f"no verdict in: {said!r}")
    return Reply(completion.shares)


def _cause(error: BaseException) -> str:
    """The kind of the innermost error; its words may hold the request."""
    while error.__cause__ is not None:
        error = error.__cause__
    return type(error).__name__


def _retry_after(headers: Any) -> float:
    """Seconds that the server asks to wait; 0 when it does not say so in seconds."""
    try:
        return max(0.0, float(headers.get("retry-after", 0)))
    except ValueError:
        return 0.0
