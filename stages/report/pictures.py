"""The report's pictures as SVG: the same bytes for the same numbers, readable without colour."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stages.report import labels, wording
from stages.report.curve import Curve
from stages.report.models import Estimate, Model, majority_total, shared_prompt

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, LINE = "#1c2430", "#5b6675", "#d5dbe3"
# Okabe and Ito's palette, told apart with every common kind of colour blindness.
BLUE, VERMILION, GREEN, GREY, ORANGE = "#0072b2", "#d55e00", "#009e73", "#7a8594", "#e69f00"
STYLE: Any = {
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
LANGUAGE_STYLES = ((BLUE, "o", "-"), (VERMILION, "s", "--"), (GREEN, "^", "-."), (ORANGE, "D", ":"))
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
        return {"pass": BLUE, "fail": VERMILION}.get(self.model.verdict or "", GREY)

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
    with _Drawing("quality", (11, 4.8)) as drawing:
        axes = drawing.axes
        fastest = max((point.decode or 0 for point in shown), default=0)
        for point in shown:
            _draw_point(axes, point, fastest)
        _frame(axes, shown)
        _majority_line(axes, majority_total(models))
        labels.place(drawing.figure, axes, [_label(point, fastest) for point in _important_first(shown)])
        return drawing.svg()


def _important_first(shown: Sequence[Point]) -> list[Point]:
    return sorted(shown, key=lambda point: (not point.model.winner, point.megabytes, point.model.name))


def _bubble(point: Point, fastest: float) -> float:
    """Area in square typographic points, in proportion to speed; 0 when it is not known."""
    return LARGEST_BUBBLE * point.decode / fastest if point.decode and fastest else 0.0


def _label(point: Point, fastest: float) -> labels.Label:
    radius = max(9.0, math.sqrt(_bubble(point, fastest) / math.pi))
    low, high = point.total.low, point.total.high
    assert low is not None and high is not None
    return labels.Label(
        point.label, point.megabytes, point.total.value, low, high, radius, point.colour, point.model.winner
    )


def _draw_point(axes: Axes, point: Point, fastest: float) -> None:
    x, y = point.megabytes, point.total.value
    if area := _bubble(point, fastest):
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


def forgetting(curve: Curve) -> str | None:
    """Bits per character by language over the tokens of continual pretraining; None without a curve."""
    if not curve.languages:
        return None
    with _Drawing("forgetting", (11, 3.7)) as drawing:
        axes, lines = drawing.axes, sorted(curve.languages.items())
        styles = [LANGUAGE_STYLES[place % len(LANGUAGE_STYLES)] for place in range(len(lines))]
        for (_, values), (colour, marker, dashes) in zip(lines, styles, strict=True):
            xs, ys = [tokens / 1e6 for tokens, _ in values], [bits for _, bits in values]
            axes.plot(xs, ys, dashes, marker=marker, markersize=5, color=colour, linewidth=1.8)
        axes.margins(x=0.02, y=0.18)
        left, right = axes.get_xlim()
        axes.set_xlim(left, right + 0.09 * (right - left))
        axes.set_xlabel("tokens of continual pretraining, million")
        axes.set_ylabel("bits per character, held-out text")
        _name_lines(drawing.figure, axes, lines, [colour for colour, _, _ in styles])
        return drawing.svg()


def _name_lines(figure: Figure, axes: Axes, lines: Sequence[tuple[str, Any]], colours: Sequence[str]) -> None:
    """Language and last value at the end of every line, moved apart where lines end close to each other."""
    figure.canvas.draw()
    ends = [(values[-1][0] / 1e6, values[-1][1]) for _, values in lines]
    heights = [float(axes.transData.transform(end)[1]) * 72 / figure.dpi for end in ends]
    for (language, _), end, height, moved, colour in zip(
        lines, ends, heights, labels.apart(heights, 13.0), colours, strict=True
    ):
        axes.annotate(
            f"{language}  {end[1]:.2f}",
            end,
            xytext=(8, moved - height),
            textcoords="offset points",
            va="center",
            color=colour,
            fontweight="bold",
        )


class _Drawing:
    """One figure with our style; its name prefixes the ids in its SVG, so that one page can hold several."""

    def __init__(self, name: str, inches: tuple[float, float]) -> None:
        self._name, self._inches = name, inches

    def __enter__(self) -> _Drawing:
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
        return re.sub(
            r'(<svg[^>]*?) width="[^"]*"',
            r"\1",
            re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1),
            count=1,
        )
