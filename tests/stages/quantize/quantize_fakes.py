"""Parameters with one more candidate, of a recipe that is not in the default run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import training_fakes as fakes

from stages.common.params import Params, load, parse

ROOT = Path(__file__).resolve().parents[3]


def with_candidate(recipe: str, qat: dict[str, Any] | None = None, **settings: Any) -> Params:
    """The default parameters with one more candidate of `adapt`; `qat` changes what its training declares."""
    values = load(ROOT / "params.yaml").model_dump(mode="json")
    values["threads"] = 1
    values["candidates"][f"adapt-{recipe}"] = {"source": "adapt", "recipe": recipe, **settings}
    training = fakes.settings(tokens=1024, checkpoint_steps=4).model_dump(mode="json")
    mix = {"world-ru": 0.5, "world-en": 0.5}
    block = {"training": training | {"schedule": "two-stage"}, "mix": mix, **(qat or {})}
    values["quantize"]["qat"] |= block
    return parse(values, "params.yaml")
