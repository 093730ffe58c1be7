"""Draws figures of studies: our runs, and beside them what can be read off the published figure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lopbench.core.text import plain
from lopbench.results.drawing import Curve, draw_curve, errors_in_log, shared
from lopbench.results.figures import Drawn, FigureData, Kind, Panel
from lopbench.results.looks import COLOURS, PLAIN, looks, shades
from lopbench.results.sheet import dress, house_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Style of published values: black and white, above everything else.
_PUBLISHED: Mapping[str, Any] = {
    "marker": "D",
    "markersize": 4.5,
    "markerfacecolor": "white",
    "markeredgecolor": "black",
    "linestyle": "none",
    "zorder": 5,
    "clip_on": False,
}
_LABEL = "read off the published figure"

#: Areas of the points of a scatter, in square points, for zero and for the largest value.
_SMALLEST, _LARGEST = 4.0, 60.0


def draw(data: FigureData, panels: Sequence[Sequence[Drawn]]) -> Figure:
    """Return a figure. Bars have their 95% intervals, lines theirs as a band, and published values are diamonds.

    The later a point of a scatter is in the stream, the darker it is.

    Args:
        data: The figure.
        panels: What `drawn` returned for each panel.
    """
    import seaborn as sns
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    colours = _colours(data)
    rows, columns = -(-len(data.panels) // 3), min(len(data.panels), 3)
    with house_style():
        figure = Figure(layout="constrained")
        grid = list(figure.subplots(rows, columns, squeeze=False).flat)
        for axes in grid[len(data.panels) :]:
            axes.remove()
        for axes, panel, marks in zip(grid, data.panels, panels, strict=False):
            sns.despine(ax=axes)
            axes.set_axisbelow(True)
            _DRAWN[panel.kind](axes, panel, marks, colours)
            axes.set_ylabel(panel.label)
        keys: list[Any] = [Patch(color=colour, label=name) for name, colour in colours.items()]
        if any(each.mark.published for marks in panels for each in marks):
            keys.append(Line2D([], [], label=_LABEL, **_PUBLISHED))
        dress(figure, "", keys)
    return figure


def _colours(data: FigureData) -> dict[str, str]:
    """Return the colour of each series.

    If each series is one method, it has the colour that the method has in all figures. Otherwise numbered series, such
    as layers, are a ramp. Plain learning is grey if it is just one series, or the series is called none.
    """
    methods: dict[str, set[str | None]] = {}
    for panel in data.panels:
        for mark in panel.marks:
            methods.setdefault(mark.series, set()).add(mark.entry.method)
    alone = {series: next(iter(used)) or "none" for series, used in methods.items() if len(used) == 1}
    if len(set(alone.values())) == len(methods):
        known = looks(alone.values())
        return {series: known[method].colour for series, method in alone.items()}
    plain = [series for series, used in methods.items() if used <= {"none", None}]
    grey = plain if len(plain) == 1 else [series for series in plain if series == "none"]
    others = [series for series in methods if series not in grey]
    numbered = {series.rpartition(" ")[0] for series in others if series.rpartition(" ")[2].replace(".", "").isdigit()}
    one = len(numbered) == 1 and len(others) > 1 and all(each.rpartition(" ")[0] in numbered for each in others)
    found = shades(COLOURS[0], len(others)) if one else [COLOURS[i % len(COLOURS)] for i in range(len(others))]
    by_series = dict(zip(others, found, strict=True))
    return {series: by_series.get(series, PLAIN) for series in methods}


def _bars(axes: Axes, panel: Panel, marks: Sequence[Drawn], colours: Mapping[str, Any]) -> None:
    places: dict[str, list[Drawn]] = {}
    for each in marks:
        places.setdefault(each.mark.at, []).append(each)
    size = 0.8 / max(map(len, places.values()))
    for place, beside in enumerate(places.values()):
        for index, each in enumerate(beside):
            at = place + (index - (len(beside) - 1) / 2) * size
            for _, mean, low, high in each.points:
                bars = [[max(mean - low, 0.0)], [max(high - mean, 0.0)]]
                colour = colours[each.mark.series]
                axes.bar(at, mean, size, yerr=bars, color=colour, capsize=2, error_kw={"elinewidth": 0.8})
            for _, published in each.mark.published:
                axes.plot([at], [published], **_PUBLISHED)
    axes.set_xticks(range(len(places)), labels=list(map(plain, places)), parse_math=False)
    axes.set_xlabel(panel.across)
    axes.grid(visible=False, axis="x")


def _curves(axes: Axes, panel: Panel, marks: Sequence[Drawn], colours: Mapping[str, Any]) -> None:
    shown: list[Curve] = []
    for each in sorted(marks, key=lambda each: colours[each.mark.series] != PLAIN):
        colour = colours[each.mark.series]
        points = np.array(each.points).reshape(-1, 4)
        draw_curve(axes, points[max(0, shared(points, shown) - 1) :], colour)
        shown.append(points)
        if each.mark.published:
            at, published = zip(*each.mark.published, strict=True)
            axes.plot(at, published, **{**_PUBLISHED, "markeredgecolor": colour})
            axes.plot(at, published, color=colour, linestyle=":", linewidth=0.9, zorder=4)
    axes.set_xlabel(panel.across or "share of the stream")
    axes.set_xlim(0, 1)
    if panel.quantity.name.partition(":")[0].endswith("_error"):
        errors_in_log(axes)


def _scatter(axes: Axes, panel: Panel, marks: Sequence[Drawn], colours: Mapping[str, Any]) -> None:
    from matplotlib.colors import to_rgba

    largest = max((size for each in marks for _, size in each.beside if size > 0), default=1.0)
    for each in marks:
        right, size = np.array(each.beside).reshape(-1, 2).T
        areas = _SMALLEST + (_LARGEST - _SMALLEST) * size / largest if panel.size is not None else _SMALLEST
        shades = np.linspace(0.25, 1.0, len(right))
        colour = [to_rgba(colours[each.mark.series], shade) for shade in shades.tolist()]
        axes.scatter(right, [mean for _, mean, _, _ in each.points], s=areas, c=colour, linewidths=0)
    axes.set_xlabel(panel.across)


_DRAWN: Mapping[Kind, Callable[[Axes, Panel, Sequence[Drawn], Mapping[str, Any]], None]] = {
    "bars": _bars,
    "curves": _curves,
    "scatter": _scatter,
}
