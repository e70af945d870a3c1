"""Charts as SVG text for a page: no files, no global state, the same bytes for the same numbers.

Colours are left to the page: what is drawn here in a stand-in colour refers to a CSS variable there, so that one chart
serves light, dark and paper. Knows numbers and names; nothing of students or caches.
"""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

COLOURS = 8
"""Colours that the page gives to lines; the ninth is the first again, dashed."""
_INK, _QUIET, _GRID, _FILL = "#000001", "#000002", "#000003", "#000004"
_VARIABLES = {_INK: "--ink", _QUIET: "--quiet", _GRID: "--rule", _FILL: "--accent"} | {
    f"#0000a{number}": f"--line-{number}" for number in range(COLOURS)
}
_INCHES = (3.7, 2.35)
_POINTS = 240
"""Points of a line at most; more of them are averaged in equal groups."""
_DASHES = ("solid", (0, (5, 2)), (0, (1.5, 1.5)))

Scale = Literal["share", "log"]


@dataclass(frozen=True)
class Line:
    """One line of a chart.

    Attributes:
        place: which colour and dash, the same in all charts of a page.
        x, y: float64 [n].
    """

    place: int
    x: npt.NDArray[np.float64]
    y: npt.NDArray[np.float64]


def histogram(name: str, values: npt.NDArray[np.float64], low: float, high: float, x_label: str) -> str:
    """How values are spread.

    Args:
        name: unique on the page.
        values: float64 [n].
        low, high: ends of the axis.
        x_label: what they are.

    Returns:
        An `<svg>` element; heights are shares of all values.
    """
    figure, axes = _figure()
    bins = 24
    counts, edges = np.histogram(values, bins=bins, range=(low, high))
    shares = counts / max(1, len(values))
    axes.bar(edges[:-1], shares, width=np.diff(edges) * 0.86, align="edge", color=_FILL)
    axes.set_xlim(low, high)
    axes.set_xlabel(x_label)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_formatter(FuncFormatter(_percent))
    return _svg(name, figure, f"Histogram: {x_label}")


def curves(
    name: str,
    lines: Sequence[Line],
    title: str,
    scale: Scale,
    level: float | None = None,
    x_label: str = "epoch",
) -> str:
    """How figures went over epochs, or over something else that is counted.

    Args:
        name: unique on the page.
        lines: at least one.
        title: for people who cannot see the chart.
        scale: "share" for shares in [0, 1], "log" for positive numbers over decades.
        level: a level to compare with, drawn across.
        x_label: what is counted.
    """
    figure, axes = _figure()
    for line in lines:
        x, y = thinned(line.x, line.y)
        axes.plot(
            x,
            y,
            color=f"#0000a{line.place % COLOURS}",
            linestyle=_DASHES[line.place // COLOURS % len(_DASHES)],
            linewidth=1.6,
            marker="o" if len(x) == 1 else "",
            markersize=4,
        )
    if level is not None:
        axes.axhline(level, color=_QUIET, linewidth=1.0, linestyle=(0, (4, 3)))
    axes.set_xlabel(x_label)
    axes.set_xlim(0, max(1.0, *(float(line.x.max()) for line in lines)))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    if scale == "share":
        axes.set_ylim(0, 1.03)
        axes.yaxis.set_major_locator(FixedLocator([0, 0.25, 0.5, 0.75, 1]))
        axes.yaxis.set_major_formatter(FuncFormatter(_percent))
    else:
        _logarithmic(axes, np.concatenate([line.y for line in lines]))
    return _svg(name, figure, title)


def thinned(
    x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The same line with few enough points: means over equal groups; the last point stays where it is."""
    if len(x) <= _POINTS:
        return x, y
    groups = np.array_split(np.arange(len(x) - 1), _POINTS - 1)
    few = [np.array([column[group].mean() for group in groups] + [column[-1]]) for column in (x, y)]
    return few[0], few[1]


def _figure() -> tuple[Figure, Axes]:
    figure = Figure(figsize=_INCHES, layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.add_subplot()
    figure.patch.set_visible(False)
    axes.patch.set_visible(False)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(_QUIET)
    axes.grid(axis="y", color=_GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(colors=_QUIET, labelcolor=_QUIET, labelsize=8.5, length=0)
    axes.tick_params(axis="y", pad=5)
    axes.xaxis.label.set_color(_INK)
    axes.xaxis.label.set_fontsize(9)
    return figure, axes


def _logarithmic(axes: Axes, values: npt.NDArray[np.float64]) -> None:
    positive = values[values > 0]
    if not len(positive):
        return
    low, high = float(positive.min()), float(positive.max())
    axes.set_yscale("log")
    axes.set_ylim(low * 0.8, high * 1.25)
    decades = np.log10(high / low)
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if decades < 2 else (1.0,)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_formatter(NullFormatter())


def _percent(value: float, _: int | None = None) -> str:
    return f"{value * 100:.3g}\u202f%"


def _svg(name: str, figure: Figure, title: str) -> str:
    """The figure as an element that fits its box, with ids of its own and colours by variable."""
    sink = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
        figure.savefig(sink, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    text = sink.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r'<svg [^>]*viewBox="([^"]*)"[^>]*>', rf'<svg viewBox="\1" role="img" aria-label="{title}">', text)
    text = re.sub(r'xlink:href="#', 'href="#', text)
    text = re.sub(r'( id="|href="#|url\(#)', rf"\g<1>{name}-", text)
    text = re.sub(r"font-family: [^;\"]*; ?", "", text)
    text = re.sub(r"font: ([0-9.]+px) [^;\"]*", r"font-size: \1", text)
    return re.sub("|".join(_VARIABLES), lambda match: f"var({_VARIABLES[match[0]]})", text).strip()
