"""Draws figures that are data: our runs, and beside them what can be read off the published figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lopbench.results.figures import Drawn, FigureData, Panel
from lopbench.results.plots import house_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Plain learning, beside which methods are seen.
GREY = "0.55"

#: How what was published looks: black on white, on whatever stands beside it.
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


def draw(data: FigureData, panels: Sequence[Sequence[Drawn]]) -> Figure:
    """Return a figure: bars with their 95% intervals, lines with theirs as a band, published values as diamonds.

    Args:
        data: What is drawn.
        panels: Of each panel what `drawn` returned.
    """
    import seaborn as sns
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    colours = _colours(data)
    rows = -(-len(data.panels) // 3)
    columns = min(len(data.panels), 3)
    with house_style():
        legend = -(-(len(colours) + 1) // (2 * columns))
        size = 0.8 + 2.7 * columns, 2.3 * rows + 0.3 + 0.22 * legend
        figure = Figure(figsize=size, layout="constrained", facecolor="white")
        grid = list(figure.subplots(rows, columns, squeeze=False).flat)
        for axes in grid[len(data.panels) :]:
            axes.set_axis_off()
        for axes, panel, marks in zip(grid, data.panels, panels, strict=False):
            sns.despine(ax=axes)
            (_bars if panel.kind == "bars" else _curves)(axes, panel, marks, colours)
            axes.set_ylabel(panel.label)
        handles: list[Any] = [Patch(color=colour, label=name) for name, colour in colours.items()]
        if any(each.mark.published for marks in panels for each in marks):
            handles.append(Line2D([], [], label=_LABEL, **_PUBLISHED))
        figure.legend(handles=handles, loc="outside lower center", ncols=2 * columns, frameon=False)
    return figure


def _colours(data: FigureData) -> dict[str, Any]:
    """Return the colour of each series; plain learning is grey, where it is one series alone or called none."""
    import seaborn as sns

    methods: dict[str, set[str | None]] = {}
    for panel in data.panels:
        for mark in panel.marks:
            methods.setdefault(mark.series, set()).add(mark.entry.method)
    plain = [series for series, used in methods.items() if used <= {"none", None}]
    grey = plain if len(plain) == 1 else [series for series in plain if series == "none"]
    palette = iter(sns.color_palette("colorblind", len(methods)))
    return {series: GREY if series in grey else next(palette) for series in methods}


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
    axes.set_xticks(range(len(places)), labels=list(places))
    axes.set_xlabel(panel.across)
    axes.grid(visible=False, axis="x")


def _curves(axes: Axes, panel: Panel, marks: Sequence[Drawn], colours: Mapping[str, Any]) -> None:
    for each in marks:
        colour = colours[each.mark.series]
        place, mean, low, high = np.array(each.points).reshape(-1, 4).T
        axes.plot(place, mean, color=colour, linewidth=1.2)
        axes.fill_between(place, low, high, color=colour, alpha=0.25, linewidth=0)
        if each.mark.published:
            at, published = zip(*each.mark.published, strict=True)
            axes.plot(at, published, **{**_PUBLISHED, "markeredgecolor": colour})
            axes.plot(at, published, color=colour, linestyle=":", linewidth=0.9, zorder=4)
    axes.set_xlabel(panel.across or "share of the stream")
    axes.set_xlim(0, 1)
