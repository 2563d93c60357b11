"""Tasks whose answers are written, asked of a model behind an address.

A prompt is one message; what it writes is cut at the task's stops here, because a server may know few of
them or none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from evals.errors import EvalError
from evals.judge.endpoint import Endpoint
from evals.judge.protocol import Failure
from evals.suites import Task

NO_CHOICES = "an endpoint gives no log-probabilities of its choices"
NO_SAMPLES = "drawing several samples of an endpoint is not built"


def refused(tasks: Sequence[Task]) -> dict[str, str]:
    """Tasks that cannot be asked of an endpoint -> why."""
    found = {}
    for task in tasks:
        if task.kind == "choice":
            found[task.name] = NO_CHOICES
        elif task.config["generation_kwargs"].get("do_sample"):
            found[task.name] = NO_SAMPLES
    return found


class Remote:
    """An endpoint with the part of lm-eval's interface that writes."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    def loglikelihood(self, requests: Sequence[Any]) -> list[Any]:
        """lm-eval's hook. Raises `EvalError` when anything is asked."""
        if requests:
            raise EvalError(f"{NO_CHOICES}; leave out what `refused` names")
        return []

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """lm-eval's hook: what the model writes after every request, up to the first stop.

        Raises `EvalError` when a prompt has no reply: what was replied is kept, and another run goes on.
        """
        replies: list[str] = [""] * len(requests)
        by_length: dict[int, list[int]] = {}
        for place, request in enumerate(requests):
            by_length.setdefault(int(request.arguments[1]["max_gen_toks"]), []).append(place)
        for length, places in by_length.items():
            settings = replace(self._endpoint.settings, max_tokens=length)
            endpoint = replace(self._endpoint, settings=settings)
            written = endpoint.write([requests[place].arguments[0] for place in places])
            if failed := [reply for reply in written if isinstance(reply, Failure)]:
                raise EvalError(
                    f"endpoint `{settings.model}` left {len(failed)} of {len(written)} prompts without a "
                    f"reply ({failed[0].kind}: {failed[0].reason}); run again, replies that came are kept"
                )
            for place, text in zip(places, written, strict=True):
                replies[place] = _until(str(text), requests[place].arguments[1]["until"])
        return replies


def _until(text: str, stops: Sequence[str]) -> str:
    for stop in stops:
        text = text.partition(stop)[0]
    return text
