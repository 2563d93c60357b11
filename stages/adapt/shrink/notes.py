"""What the manifest says of a cut."""

from __future__ import annotations

from typing import Any

from stages.adapt.shrink.budget import Choice
from stages.adapt.shrink.units import Units


def notes(before: Any, after: Any, units: Units, choice: Choice) -> dict[str, Any]:
    """`removed` (shares are of the gateable parameters) and `kept`, for the model `before` the cut and
    `after`.
    """
    return {
        "removed": {
            "asked": choice.asked,
            "before_rounding": choice.before_rounding,
            "after_rounding": choice.after_rounding,
            "gateable_parameters": units.gateable,
            "removed_parameters": units.removed(choice.kept),
            "parameters_before": before.num_parameters(),
            "parameters_after": after.num_parameters(),
        },
        "kept": choice.kept.to_json(),
    }
