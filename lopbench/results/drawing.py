"""What figures are drawn with: lines with their intervals, what they are to be seen against, and axes of errors."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from lopbench.results.looks import PLAIN, Look
from lopbench.results.sheet import house_style
from lopbench.results.statistics import interval

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Places and means over seeds with the ends of their 95% intervals, ``(n, 4)``.
Curve = NDArray[np.float64]

REFERENCE_STYLE: Mapping[str, Any] = {"color": "0.2", "linestyle": "--", "linewidth": 1.2}
CHANCE_STYLE: Mapping[str, Any] = {"color": "0.2", "linestyle": ":", "linewidth": 1.2}
SWITCH_STYLE: Mapping[str, Any] = {"color": "0.2", "linestyle": "-.", "linewidth": 0.8}
SCORED_STYLE: Mapping[str, Any] = {"color": "0.94", "linewidth": 0, "zorder": 0}

#: Most markers of a line: more hide it.
_MARKERS = 12

#: Opacity of a band, and most lines of a figure for which bands have it.
_BAND, _FEW = 0.18, 5

#: Ratio of the largest to the smallest error below which an axis has even numbers. Other axes have numbers with these
#: leading digits, by the ratio that theirs is below.
_FLAT = 1.6
_SUBS = ((8.0, (1.0, 1.5, 2.0, 3.0, 4.0, 6.0)), (1000.0, (1.0, 2.0, 5.0)), (math.inf, (1.0,)))

#: Largest natural logarithm of that ratio: a float holds no much larger one.
_MOST_LOG = 700.0


@dataclass(frozen=True, eq=False)
class Line:
    """The mean over seeds of what is drawn.

    Args:
        name: What the legend calls it.
        curve: Its points.
        switch: Place at which its method turned on; None if it was on from the start.
        before: What the legend calls what was before.
    """

    name: str
    curve: Curve
    switch: float | None = None
    before: str = ""


@contextmanager
def axes_grid(rows: int = 1, columns: int = 1, *, steps: bool = False) -> "Iterator[tuple[Figure, list[Axes]]]":
    """Yield a figure and its panels, in reading order, in the house style, which holds inside the block.

    Args:
        rows: Number of rows, which share their horizontal axis.
        columns: Number of columns.
        steps: Whether the horizontal axes count steps; the panels of a row then share their vertical axis.
    """
    import seaborn as sns
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter

    with house_style():
        figure = Figure(layout="constrained")
        grid = list(figure.subplots(rows, columns, sharex="col", sharey="row" if steps else False, squeeze=False).flat)
        for axes in grid:
            sns.despine(ax=axes)
            axes.set_axisbelow(True)
            if steps:
                axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        yield figure, grid


def curve(known: Sequence[Mapping[float, float]]) -> Curve:
    """Return the points where all of some runs, which differ in seed, know a value."""
    places = sorted(set[float].intersection(*map(set, known)))
    return np.array([(place, *summary([values[place] for values in known])) for place in places]).reshape(-1, 4)


def summary(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the mean over seeds and its interval, which is empty for one seed; NaN if one is."""
    mean = math.fsum(values) / len(values)
    low, high = interval(values) if len(values) > 1 and not math.isnan(mean) else (mean, mean)
    return mean, low, high


def draw_lines(axes: "Axes", lines: Sequence[Line], drawn: Mapping[str, Look]) -> "list[Artist]":
    """Draw lines; what was before a method turned on is the same for several of them, and drawn once, in grey.

    Args:
        axes: Where.
        lines: What.
        drawn: How each looks, by name.

    Returns:
        The keys of the legend: of the lines in the order of ``drawn``, and of what was before.
    """
    steady = [line.curve for line in lines if line.switch is None]
    before: list[Curve] = []
    names: dict[str, None] = {}
    alpha = _BAND if len(lines) <= _FEW else _BAND / 2
    for line in sorted(lines, key=lambda line: list(drawn).index(line.name)):
        shown = line.curve
        if line.switch is not None:
            early = int(np.searchsorted(shown[:, 0], line.switch, side="right"))
            first, shown = shown[:early], shown[max(early - 1, 0) :]
            if shared(first, (*steady, *before)) < len(first):
                before.append(first)
                names[line.before] = None
                draw_curve(axes, first, PLAIN, alpha=alpha)
        look = drawn[line.name]
        draw_curve(axes, shown, look.colour, marker=look.marker, alpha=alpha)
    return [*(key(name, look) for name, look in drawn.items()), *(key(name, Look(PLAIN, "")) for name in names)]


def shared(points: Curve, others: Sequence[Curve]) -> int:
    """Return how many of its first points a curve has in common with one of several others, to floating-point error."""
    most = 0
    for other in others:
        count = min(len(points), len(other))
        same = np.isclose(points[:count], other[:count], rtol=1e-4, equal_nan=True).all(axis=1)
        most = max(most, count if same.all() else int(np.argmin(same)))
    return most


def draw_curve(
    axes: "Axes", points: Curve, colour: object, *, marker: str = "", linestyle: str = "-", alpha: float = _BAND
) -> None:
    """Draw a mean as a line, with a few markers, and its interval as a band."""
    place, mean, low, high = points.T
    every = max(1, math.ceil(len(place) / _MARKERS))
    axes.plot(
        place, mean, color=colour, linestyle=linestyle, linewidth=1.2, marker=marker, markersize=3.5, markevery=every
    )
    axes.fill_between(place, low, high, color=colour, alpha=alpha, linewidth=0)


def key(name: str, look: Look, linestyle: Literal["-", "--"] = "-") -> "Artist":
    """Return what stands in a legend for a line."""
    from matplotlib.lines import Line2D

    return Line2D(
        [], [], color=look.colour, linestyle=linestyle, linewidth=1.2, marker=look.marker, markersize=3.5, label=name
    )


def named(name: str, style: Mapping[str, Any]) -> "Artist":
    """Return what stands in a legend for a line of this style, which belongs to no method."""
    from matplotlib.lines import Line2D

    return Line2D([], [], label=name, **style)


def draw_scored(axes: "Axes", first: float, last: float) -> "Artist":
    """Shade the part of the stream that the score is made of; return its key."""
    from matplotlib.patches import Patch

    axes.axvspan(first, last, **SCORED_STYLE)
    return Patch(color=SCORED_STYLE["color"], label="scored tasks")


def errors_in_log(axes: "Axes") -> None:
    """Give an axis of errors, whose data are drawn, a logarithmic scale with numbers that can be read off.

    Nothing is done where an error is 0, which no such axis shows.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    drawn = [np.asarray(line.get_ydata(), dtype=float) for line in axes.lines if line.get_transform() == axes.transData]
    values = np.concatenate([each[np.isfinite(each)] for each in drawn] or [np.array([])])
    if not len(values) or values.min() <= 0:
        return
    axes.set_yscale("log")
    ratio = math.exp(min(math.log(values.max()) - math.log(values.min()), _MOST_LOG))
    axis = axes.yaxis
    if ratio < _FLAT:
        axis.set_major_locator(MaxNLocator(4))
    else:
        axis.set_major_locator(LogLocator(subs=next(subs for most, subs in _SUBS if ratio < most)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())
