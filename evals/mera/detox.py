"""ruDetox: J, the mean over items of style x meaning x fluency (sheet 1.4), by three classifiers.

The classifiers are folders in Hugging Face's form on this machine, `style`, `meaning` and `fluency` in one
folder, each with `calibration.json` beside its weights: {"x": [...], "y": [...]}, the thresholds of an
isotonic regression, read by linear interpolation (MERA keeps them as a pickle, which is never read here).
MERA v1.2 takes rubertconv_toxic_clf, rubert-base-cased-conversational-paraphrase-v1 and
ruRoberta-large-RuCoLa-v1.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evals.errors import EvalError
from evals.items import Answer
from evals.mera.metrics import Floats
from evals.suites import Task

NO_SCORERS = "its score needs three classifiers, which are not here; name their folder with `detox_scorers`"
# Which class of a scorer is the good one: its label, or its number where it has no such label.
SCORERS: dict[str, tuple[str, int]] = {"style": ("", 0), "meaning": ("paraphrase", 1), "fluency": ("", 1)}
_BATCH = 16


def outcomes(task: Task, answers: Sequence[Answer], folder: Path) -> dict[str, dict[str, float]]:
    """id -> {"j", ".sta", ".sim", ".fl"} of every answered item. Raises `EvalError` for a missing scorer."""
    given = {answer.id: answer.text for answer in answers}
    records = task.scored
    written = [given[record.id] for record in records]
    toxic = [str(record.inputs) for record in records]
    style = probabilities(folder / "style", written)
    meaning = probabilities(folder / "meaning", toxic, written)
    fluency = probabilities(folder / "fluency", written)
    rows = zip(records, style, meaning, fluency, strict=True)
    return {
        record.id: {"j": float(a * b * c), ".sta": float(a), ".sim": float(b), ".fl": float(c)}
        for record, a, b, c in rows
    }


def probabilities(folder: Path, texts: Sequence[str], seconds: Sequence[str] | None = None) -> Floats:
    """Calibrated probability (N,) of the good class of one scorer. Raises `EvalError` if it is missing."""
    import torch

    place, label = _calibration(folder), SCORERS[folder.name]
    model, tokenizer = _load(folder)
    column = model.config.label2id.get(label[0], label[1])
    found = []
    for start in range(0, len(texts), _BATCH):
        pair = [list(side[start : start + _BATCH]) for side in (texts, seconds) if side is not None]
        limit = min(512, model.config.max_position_embeddings)
        batch = tokenizer(*pair, return_tensors="pt", padding=True, truncation=True, max_length=limit)
        with torch.inference_mode():
            logits = model(**batch).logits
        chances = logits.softmax(-1)[:, column] if logits.shape[-1] > 1 else logits.sigmoid()[:, 0]
        found.append(chances.double().numpy())
    return np.interp(np.concatenate(found), *place)


def _load(folder: Path) -> tuple[Any, Any]:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    try:
        model = AutoModelForSequenceClassification.from_pretrained(folder, local_files_only=True)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise EvalError(f"{folder}: no classifier that can be loaded ({reason})") from error
    return model.eval(), tokenizer


def _calibration(folder: Path) -> tuple[Floats, Floats]:
    path = folder / "calibration.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        x, y = (np.asarray(values[name], dtype=np.float64) for name in ("x", "y"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EvalError(
            f"{path}: no calibration of a scorer ({error}); it needs lists `x` and `y`"
        ) from error
    if x.shape != y.shape or x.ndim != 1 or not x.size or (np.diff(x) < 0).any() or (np.diff(y) < 0).any():
        raise EvalError(f"{path}: `x` and `y` must be rising lists of equal length")
    return x, y
