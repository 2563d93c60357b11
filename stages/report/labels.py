"""Labels beside points of a plot, placed where they cover least."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Directions from the point, the preferred first: horizontal, vertical.
DIRECTIONS = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1))
ALIGNMENT = {-1: "right", 0: "center", 1: "left"}
VERTICAL = {-1: "top", 0: "center", 1: "bottom"}
GAP = 5.0
Offset = tuple[float, float]


@dataclass(frozen=True)
class Label:
    """A text for the point (x, y) of the data, whose marker has a radius in typographic points.

    `low` and `high` are the ends of its error bar.
    """

    text: str
    x: float
    y: float
    low: float
    high: float
    radius: float
    colour: str
    bold: bool = False


def place(figure: Figure, axes: Axes, labels: Sequence[Label]) -> None:
    """Write `labels` in order, each where it covers least of markers, bars, earlier labels and edges.

    A place that is nearer to another label's point than to its own costs as much as being covered whole.
    """
    figure.canvas.draw()
    frame = axes.get_window_extent()
    taken = [box for label in labels for box in _occupied(figure, axes, label)]
    for label in labels:
        tried = []
        for rank, (offset, direction) in enumerate(_places(figure, axes, label)):
            text = _write(axes, label, offset, direction)
            box = text.get_window_extent()
            area = box.width * box.height
            covered = sum(overlap(box, other) for other in taken) + area - overlap(box, frame)
            covered += area * _nearer_to_another(axes, box, label, labels)
            tried.append((round(covered, 3), rank, text, box))
        best = min(tried, key=lambda item: item[:2])
        for item in tried:
            if item is not best:
                item[2].remove()
        taken.append(best[3])


def _places(figure: Figure, axes: Axes, label: Label) -> list[tuple[Offset, tuple[int, int]]]:
    """Offsets in typographic points with their directions: beside the marker, then beyond the bar's ends."""
    away = label.radius + GAP
    found: list[tuple[Offset, tuple[int, int]]] = []
    for across, up in DIRECTIONS:
        share = 0.75 if across and up else 1.0
        found.append(((share * across * away, share * up * away), (across, up)))
    middle = _pixels(axes, label.x, label.y)[1]
    for end, up in ((label.high, 1), (label.low, -1)):
        beyond = abs(_pixels(axes, label.x, end)[1] - middle) * 72 / figure.dpi + GAP
        found += [((0.0, up * further), (0, up)) for further in (beyond, beyond + 6 * GAP)]
    return found


def _pixels(axes: Axes, x: float, y: float) -> tuple[float, float]:
    across, up = axes.transData.transform((x, y))
    return float(across), float(up)


def _nearer_to_another(axes: Axes, box: Any, label: Label, labels: Sequence[Label]) -> bool:
    """Whether some other label's marker or end of bar is closer to `box` than those of `label`."""

    def distance(other: Label) -> float:
        points = [_pixels(axes, other.x, value) for value in (other.low, other.y, other.high)]
        return min(
            math.hypot(max(box.x0 - x, 0.0, x - box.x1), max(box.y0 - y, 0.0, y - box.y1)) for x, y in points
        )

    return any(distance(other) < distance(label) for other in labels if other is not label)


def _write(axes: Axes, label: Label, offset: tuple[float, float], direction: tuple[int, int]) -> Any:
    return axes.annotate(
        label.text,
        (label.x, label.y),
        xytext=offset,
        textcoords="offset points",
        ha=ALIGNMENT[direction[0]],
        va=VERTICAL[direction[1]],
        fontsize=9,
        color=label.colour,
        fontweight="bold" if label.bold else "normal",
        linespacing=1.25,
        zorder=5,
    )


def _occupied(figure: Figure, axes: Axes, label: Label) -> list[Any]:
    from matplotlib.transforms import Bbox

    radius = label.radius * figure.dpi / 72
    (x, y), (_, low), (_, high) = (
        _pixels(axes, label.x, value) for value in (label.y, label.low, label.high)
    )
    return [
        Bbox.from_extents(x - radius, y - radius, x + radius, y + radius),
        Bbox.from_extents(x - 4, low, x + 4, high),
    ]


def overlap(one: Any, other: Any) -> float:
    """Area that two boxes share, in square pixels."""
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    return float(max(0.0, width) * max(0.0, height))


def apart(positions: Sequence[float], least: float) -> list[float]:
    """`positions` moved until they stand `least` apart, in their order; for labels at the ends of lines."""
    order = sorted(range(len(positions)), key=lambda index: (positions[index], index))
    groups: list[list[int]] = []
    for index in order:
        groups.append([index])
        while (
            len(groups) > 1
            and _bottom(groups[-1], positions, least) - _top(groups[-2], positions, least) < least
        ):
            last = groups.pop()
            groups[-1] += last
    moved = [0.0] * len(positions)
    for group in groups:
        for rank, index in enumerate(group):
            moved[index] = _bottom(group, positions, least) + rank * least
    return moved


def _bottom(group: list[int], positions: Sequence[float], least: float) -> float:
    return sum(positions[index] for index in group) / len(group) - least * (len(group) - 1) / 2


def _top(group: list[int], positions: Sequence[float], least: float) -> float:
    return _bottom(group, positions, least) + least * (len(group) - 1)
