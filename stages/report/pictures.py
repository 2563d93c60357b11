"""The report's pictures as SVG: the same bytes for the same numbers, readable without colour."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stages.report import wording
from stages.report.curve import Curve
from stages.report.models import Estimate, Model, majority_total, shared_prompt

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, LINE = "#1c2430", "#5b6675", "#d5dbe3"
# Okabe and Ito's palette, told apart with every common kind of colour blindness.
BLUE, VERMILLION, GREEN, GREY, ORANGE = "#0072b2", "#d55e00", "#009e73", "#7a8594", "#e69f00"
STYLE = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#eceff3",
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "svg.fonttype": "none",
}
LANGUAGE_STYLES = ((BLUE, "o", "-"), (VERMILLION, "s", "--"), (GREEN, "^", "-."), (ORANGE, "D", ":"))
LARGEST_BUBBLE = 1500.0


@dataclass(frozen=True)
class Point:
    """One model in the picture: size in MB, total in per cent, decoding speed in tokens per second."""

    model: Model
    megabytes: float
    total: Estimate
    decode: float | None

    @property
    def colour(self) -> str:
        """By what the gate said."""
        if self.model.champion:
            return INK
        return {"pass": BLUE, "fail": VERMILLION}.get(self.model.verdict or "", GREY)

    @property
    def marker(self) -> str:
        """The same told by shape."""
        if self.model.champion:
            return "D"
        return {"pass": "o", "fail": "X"}.get(self.model.verdict or "", "s")

    @property
    def label(self) -> str:
        """Name, and decoding speed when it was measured."""
        name = f"{self.model.name} (winner)" if self.model.winner else self.model.name
        return name if self.decode is None else f"{name}\n{wording.significant(self.decode)} tokens/s"


def points(models: Sequence[Model]) -> list[Point]:
    """Every model whose size and total are known."""
    prompt = shared_prompt(models)
    found = []
    for model in models:
        size, total = model.measure("bytes"), model.total
        if size is None or total is None:
            continue
        times = model.speeds.get(prompt) if prompt else None
        decode = times.decode.value if times and times.decode else None
        found.append(Point(model, size / 1e6, Estimate(*(_scaled(v) for v in _bounds(total))), decode))
    return found


def _bounds(found: Estimate) -> tuple[float, float, float]:
    low = found.value if found.low is None else found.low
    return found.value, low, found.value if found.high is None else found.high


def _scaled(share: float) -> float:
    return 100 * share


def quality_size_speed(models: Sequence[Model]) -> str | None:
    """Total against size on disk, the bubble's area being decoding speed; None with nothing to show."""
    shown = points(models)
    if not shown:
        return None
    with _figure("quality", (9.2, 4.9)) as drawing:
        axes = drawing.axes
        fastest = max((point.decode or 0 for point in shown), default=0)
        for point in shown:
            _draw_point(axes, point, fastest)
        _frame(axes, shown)
        _majority_line(axes, majority_total(models))
        _place_labels(drawing.figure, axes, shown)
        return drawing.svg()


def _draw_point(axes: Axes, point: Point, fastest: float) -> None:
    x, y = point.megabytes, point.total.value
    if point.decode and fastest:
        area = LARGEST_BUBBLE * point.decode / fastest
        axes.scatter([x], [y], s=area, color=point.colour, alpha=0.14, linewidths=0)
    errors = [[y - point.total.low], [point.total.high - y]]  # type: ignore[operator]
    axes.errorbar([x], [y], yerr=errors, color=point.colour, capsize=3, linewidth=1.4, zorder=3)
    axes.scatter([x], [y], s=64, marker=point.marker, color=point.colour, edgecolors="white", zorder=4)
    if point.model.winner:
        axes.scatter([x], [y], s=210, facecolors="none", edgecolors=point.colour, linewidths=1.6, zorder=4)


def _frame(axes: Axes, shown: Sequence[Point]) -> None:
    """Axes, with room around the points for bubbles and labels."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    sizes = [point.megabytes for point in shown]
    low, high = min(sizes), max(sizes)
    if high > 3 * low:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5)))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlim(low / 1.6, high * 1.9)
    else:
        room = max(high - low, 0.2 * high)
        axes.set_xlim(max(0.0, low - 0.35 * room), high + 0.5 * room)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    bottom = min(point.total.low or 0.0 for point in shown)
    top = max(point.total.high or 100.0 for point in shown)
    room = max(0.16 * (top - bottom), 2.0)
    axes.set_ylim(max(0.0, bottom - room), min(100.0, top + room))
    axes.set_xlabel("size on disk, MB")
    axes.set_ylabel("total, % (bars: 95 % interval)")


def _majority_line(axes: Axes, share: float | None) -> None:
    if share is None:
        return
    bottom, top = axes.get_ylim()
    axes.set_ylim(min(bottom, 100 * share - 3), top)
    axes.axhline(100 * share, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
    axes.annotate(
        "majority class",
        (1, 100 * share),
        xycoords=("axes fraction", "data"),
        xytext=(-4, 4),
        textcoords="offset points",
        ha="right",
        color=MUTED,
        fontsize=9,
    )


# Where a label may stand, seen from its point: offsets in typographic points and alignment.
PLACES = (
    (16, 0, "left", "center"),
    (-16, 0, "right", "center"),
    (0, 22, "center", "bottom"),
    (0, -22, "center", "top"),
    (16, 18, "left", "bottom"),
    (16, -18, "left", "top"),
    (-16, 18, "right", "bottom"),
    (-16, -18, "right", "top"),
    (26, 40, "left", "bottom"),
    (26, -40, "left", "top"),
)


def _place_labels(figure: Figure, axes: Axes, shown: Sequence[Point]) -> None:
    """Give every label the first place where it covers least: no other label, no marker, no edge of the axes."""
    from matplotlib.transforms import Bbox

    figure.canvas.draw()
    frame = axes.get_window_extent()
    taken = []
    for point in shown:
        x, y = axes.transData.transform((point.megabytes, point.total.value))
        low, high = (
            axes.transData.transform((point.megabytes, edge))[1] for edge in (point.total.low, point.total.high)
        )
        taken += [Bbox.from_extents(x - 9, y - 9, x + 9, y + 9), Bbox.from_extents(x - 3, low, x + 3, high)]
    for point in sorted(shown, key=lambda item: (not item.model.winner, item.megabytes, item.model.name)):
        best = None
        for place, (dx, dy, horizontal, vertical) in enumerate(PLACES):
            text = axes.annotate(
                point.label,
                (point.megabytes, point.total.value),
                xytext=(dx, dy),
                textcoords="offset points",
                ha=horizontal,
                va=vertical,
                fontsize=9,
                color=point.colour,
                fontweight="bold" if point.model.winner else "normal",
                linespacing=1.25,
                zorder=5,
            )
            box = text.get_window_extent()
            covered = sum(_overlap(box, other) for other in taken) + _outside(box, frame)
            if best is None or (covered, place) < best[:2]:
                if best is not None:
                    best[2].remove()
                best = (covered, place, text, box)
            else:
                text.remove()
        assert best is not None
        taken.append(best[3])


def _overlap(one: Any, other: Any) -> float:
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    return float(max(0.0, width) * max(0.0, height))


def _outside(box: Any, frame: Any) -> float:
    return float(box.width * box.height - _overlap(box, frame))


def forgetting(curve: Curve) -> str | None:
    """Bits per character by language over the tokens of continual pretraining; None without a curve."""
    if not curve.languages:
        return None
    with _figure("forgetting", (9.2, 3.6)) as drawing:
        axes = drawing.axes
        for (language, values), (colour, marker, dashes) in zip(
            sorted(curve.languages.items()), _cycle(LANGUAGE_STYLES, len(curve.languages)), strict=True
        ):
            xs = [tokens / 1e6 for tokens, _ in values]
            ys = [bits for _, bits in values]
            axes.plot(xs, ys, dashes, marker=marker, markersize=5, color=colour, linewidth=1.8)
            axes.annotate(
                f"{language}  {ys[-1]:.2f}",
                (xs[-1], ys[-1]),
                xytext=(8, 0),
                textcoords="offset points",
                va="center",
                color=colour,
                fontweight="bold",
            )
        axes.margins(x=0.02, y=0.18)
        left, right = axes.get_xlim()
        axes.set_xlim(left, right + 0.09 * (right - left))
        axes.set_xlabel("tokens of continual pretraining, million")
        axes.set_ylabel("bits per character, held-out text")
        return drawing.svg()


def _cycle(styles: Sequence[tuple[str, str, str]], length: int) -> list[tuple[str, str, str]]:
    return [styles[index % len(styles)] for index in range(length)]


class _figure:
    """One figure with our style; ids in its SVG are prefixed with its name, so that one page can hold several."""

    def __init__(self, name: str, inches: tuple[float, float]) -> None:
        self._name, self._inches = name, inches

    def __enter__(self) -> _figure:
        import matplotlib
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure

        self._context = matplotlib.rc_context({**STYLE, "svg.hashsalt": self._name})
        self._context.__enter__()
        self.figure = Figure(figsize=self._inches, layout="constrained")
        FigureCanvasSVG(self.figure)
        self.axes = self.figure.add_subplot()
        return self

    def __exit__(self, *error: object) -> None:
        self._context.__exit__(*error)  # type: ignore[arg-type]

    def svg(self) -> str:
        """The `<svg>` element, without prologue, date or absolute size."""
        buffer = io.StringIO()
        self.figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
        text = buffer.getvalue()
        text = text[text.index("<svg") :]
        text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
        text = re.sub(r'\bid="', f'id="{self._name}-', text)
        text = re.sub(r'href="#', f'href="#{self._name}-', text)
        text = re.sub(r"url\(#", f"url(#{self._name}-", text)
        return re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1), count=1)
