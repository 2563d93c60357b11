"""The forgetting curve: bits per character of held-out text while the model is pretrained further."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Curve:
    """Per language, (tokens seen, bits per character) from the start to the end of continual pretraining.

    `tokens` are the tokens consumed by subset.
    """

    languages: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    tokens: dict[str, int] = field(default_factory=dict)

    def changes(self) -> list[tuple[str, float, float, float]]:
        """(language, first, last, relative change) for every language with two points or more."""
        return [
            (language, values[0][1], values[-1][1], values[-1][1] / values[0][1] - 1)
            for language, values in sorted(self.languages.items())
            if len(values) > 1
        ]


def read_curve(training: dict[str, Any]) -> Curve:
    """The curve of training.json; empty when the training made no evaluations."""
    languages: dict[str, list[tuple[int, float]]] = {}
    for point in training["points"]:
        for language, value in point["bpc"].items():
            languages.setdefault(language, []).append((int(point["tokens"]), float(value)))
    return Curve(
        {language: sorted(values) for language, values in sorted(languages.items())},
        dict(sorted(training["tokens"].items())),
    )
