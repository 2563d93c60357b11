"""table.json: the rows from which the tables of the terminal, of MLflow and of the README are made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stages.report.models import Estimate, Model, shared_prompt

SCHEMA = 1


def table(models: Sequence[Model], decision: dict[str, Any], beside: Sequence[Model]) -> dict[str, Any]:
    """Rows as plain numbers, the champion first; `speed_prompt_tokens` is the prompt length behind the times.
    `beside` are the scores of models that are no candidates.

    `method` and `trainable_parameters` are those of the adaptation, `removed_parameters` what a candidate of
    a cut model has less than the model before the cut, `removed_share` the same as a share of that one's.
    Shares are 0..1, sizes bytes, times milliseconds, speeds tokens per second; null where there is no number.
    """
    prompt = shared_prompt(models)
    machine = next((model.measures["machine"] for model in models if model.measures), None)
    return {
        "schema": SCHEMA,
        "winner": decision["winner"],
        "winner_reason": decision["winner_reason"],
        "champion": decision["champion"],
        "machine": machine,
        "speed_prompt_tokens": None if prompt is None else int(prompt),
        "rows": [_row(model, prompt) for model in models],
        "beside": [{"name": model.name, **_scores(model)} for model in beside],
    }


def _row(model: Model, prompt: str | None) -> dict[str, Any]:
    times = model.speeds.get(prompt) if prompt else None
    return {
        "name": model.name,
        "role": "champion" if model.champion else "candidate",
        "verdict": model.verdict,
        "winner": model.winner,
        "reasons": model.decision.get("reasons", []),
        "digest": model.decision.get("digest") or (model.scores or {}).get("model", {}).get("digest"),
        **_scores(model),
        "judge": _plain(model.preference),
        "bytes": model.measure("bytes"),
        "parameters": model.measure("parameters"),
        "removed_parameters": model.removed_parameters,
        "removed_share": model.removed_share,
        "trainable_parameters": model.adaptation.get("trainable_parameters"),
        "method": model.adaptation.get("method"),
        "bits_per_weight": model.measure("bits_per_weight"),
        "peak_rss_bytes": model.measure("peak_rss_bytes"),
        "load_s": model.measure("load_s"),
        "ttft_ms": None if times is None else times.first_ms.value,
        "latency_ms": None if times is None else times.latency_ms.value,
        "latency_p95_ms": None if times is None else times.latency_p95,
        "prefill_tokens_per_s": None if times is None else times.prefill.value,
        "decode_tokens_per_s": None if times is None or times.decode is None else times.decode.value,
    }


def _scores(model: Model) -> dict[str, Any]:
    return {
        "total": _plain(model.total),
        "tasks": {
            name: {key: task.get(key) for key in ("value", "ci", "n", "majority", "chance")}
            for name, task in sorted(model.tasks.items())
        },
        "bpc": {language: _plain(value) for language, value in model.bpc.items()},
    }


def _plain(found: Estimate | None) -> dict[str, Any] | None:
    return None if found is None else {"value": found.value, "ci": [found.low, found.high]}
