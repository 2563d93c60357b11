"""What the items at hand can see: the power of a comparison for an equal model, and how many would be needed.

The spread is that of the two models at hand. Single right/wrong items are planned by the normal formula,
everything else over clusters, with the price of the corrected t test (`evals.stats.power`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from evals.gate.policy import Kind
from evals.stats import binary, power
from evals.stats.inputs import normal_quantile, normal_tail
from evals.stats.intervals import Difference
from evals.stats.noninferiority import MIN_CLUSTERS, Comparison

POWER = 0.8
DISCORDANCE = 0.1
Compared = Comparison | Difference


@dataclass(frozen=True)
class Plan:
    """`visible`: the least margin that an equal model passes with a power of `POWER`; for superiority, the
    least true gain that is shown with it. An equal model: as good as the other one, and different from it on
    as many items as the candidate is.

    `equal_passes`: probability that an equal model passes the rule. `clusters` and `items`: what the rule
    needs for `POWER`, for an equal model or, for superiority, for the gain seen here. None where no number
    is known or would do.
    """

    visible: float | None
    equal_passes: float | None
    clusters: int | None
    items: int | None

    def as_json(self) -> dict[str, Any]:
        """The plan as a part of decision.json."""
        return asdict(self)


def plan(
    found: Compared,
    margin: float,
    alpha: float,
    kind: Kind = "non-inferiority",
    least_clusters: int = MIN_CLUSTERS,
) -> Plan:
    """The plan of a comparison with this spread, for `margin`; it needs `least_clusters` in any case."""
    known = found if isinstance(found, Comparison) else None
    if known is not None and known.needed is not None:
        return Plan(None, None, known.needed, _items(found, known.needed))
    if not math.isfinite(found.se) or found.clusters < 2:
        return Plan(None, None, None, None)
    # Superiority by `margin` of a model that is better by `mean` is as far as non-inferiority by the rest.
    distance = margin if kind == "non-inferiority" else found.mean - margin
    if found.se < 1e-12:
        return _undivided(found, distance, alpha, kind, least_clusters)
    sd = found.se * math.sqrt(found.clusters)

    def reaches(count: int, width: float) -> float:
        if known is not None and known.method == "tango":
            return power.achieved_power(count, width, sd, alpha)
        if known is not None and known.unseen:
            return power.ratio_power(count, width, sd, known.unseen * known.clusters, alpha)
        return power.clustered_power(count, 1, width, sd, 0.0, alpha)

    visible = _least(lambda width: reaches(found.clusters, width), found.se)
    needed = None
    if distance > 1e-3 * sd:
        needed = (
            power.required_items(distance, sd, alpha, POWER)
            if known is not None and known.method == "tango"
            else power.least_count(lambda count: reaches(count, distance), POWER)
        )
        needed = max(needed, least_clusters)
    equal = reaches(found.clusters, margin) if kind == "non-inferiority" else None
    return Plan(
        visible if kind == "non-inferiority" else visible + margin, equal, needed, _items(found, needed)
    )


def of_rate(
    found: Difference, spread: float, margin: float, alpha: float, least_clusters: int = MIN_CLUSTERS
) -> Plan:
    """The plan of a judge's corrected rate, for non-inferiority by `margin`.

    `found`: the rate minus one half. `spread`: the standard deviation over clusters of a cluster's mean
    preference, divided by f1 - f0, as the rate is (`evals.stats.correction`). spread / sqrt(K) is what K
    clusters of compared pairs bring to the standard error. The rest is that of the labelled pairs, and more
    compared pairs do not lower it: where it is too wide alone, no number would do. By the normal formula:

        se(K)^2 = spread^2 / K + rest^2,   margin >= (z_alpha + z_power) se(K)
    """
    if not math.isfinite(found.se) or found.se <= 0 or found.clusters < 1:
        return Plan(None, None, None, None)
    z_alpha, z_power = normal_quantile(1 - alpha), normal_quantile(POWER)
    rest = max(0.0, found.se**2 - spread**2 / found.clusters)
    room = (margin / (z_alpha + z_power)) ** 2 - rest
    needed = max(math.ceil(spread**2 / room), least_clusters) if room > 0 else None
    equal = normal_tail(z_alpha - margin / found.se)
    return Plan((z_alpha + z_power) * found.se, equal, needed, _items(found, needed))


def _undivided(found: Compared, distance: float, alpha: float, kind: Kind, least_clusters: int) -> Plan:
    """No pair differs: the bound is that of none in so many, and another such sample has the same."""
    width = found.mean - found.lower
    needed = max(binary.least_items(distance, alpha), least_clusters) if 0 < distance < 1 else None
    equal = float(width < distance) if kind == "non-inferiority" else None
    return Plan(width, equal, needed, _items(found, needed))


def _items(found: Compared, clusters: int | None) -> int | None:
    return None if clusters is None else math.ceil(clusters * found.n / found.clusters)


def _least(reached: Any, scale: float) -> float:
    """The least width at which the increasing function `reached` is at least `POWER`."""
    low, high = 0.0, scale
    while reached(high) < POWER:
        low, high = high, 2 * high
    while high - low > 1e-3 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if reached(middle) >= POWER else (middle, high)
    return high


def beforehand(margin: float, alpha: float, discordance: float = DISCORDANCE) -> int | None:
    """Single right/wrong items that an equal model needs for `margin`, before anything is known of a spread.

    `discordance` is the share of items on which exactly one model is right. None for a margin of zero.
    """
    return (
        power.required_items(margin, power.discordant_sd(discordance), alpha, POWER) if margin > 0 else None
    )


def of_all(passes: Iterable[float | None]) -> tuple[float, float] | None:
    """Least and greatest probability that an equal model passes every rule; None where one is not known."""
    known = list(passes)
    if not known or None in known:
        return None
    return power.conjunction_bounds([value for value in known if value is not None])
