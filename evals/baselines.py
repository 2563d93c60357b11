"""What a score must beat: the best constant answer, and a guess."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from evals.scoring import normalise


def majority(outputs: Sequence[str], choices: Sequence[str] | None) -> float:
    """Score of the best constant answer on these very items: the share of the most frequent one.

    With `choices` only an answer among them can be given; written answers count after normalisation.
    """
    answers = list(outputs) if choices is not None else [normalise(output) for output in outputs]
    counts = Counter(answer for answer in answers if choices is None or answer in choices)
    return max(counts.values(), default=0) / len(answers)


def chance(outputs: Sequence[str], choices: Sequence[str] | None) -> float:
    """Expected score of a uniform guess among the choices; 0 for written answers, which have none."""
    if choices is None:
        return 0.0
    return sum(output in choices for output in outputs) / (len(choices) * len(outputs))
