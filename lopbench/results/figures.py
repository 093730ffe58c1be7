"""Figures as data: what a study file says to draw of its runs, beside what can be read off the published figure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean as mean
from typing import TYPE_CHECKING, Any, Literal, get_args

from lopbench.core.errors import UsageError
from lopbench.results.claims import EntryName, entry_name, read_quantity
from lopbench.results.per_seed import Quantity
from lopbench.results.toml_table import Table, is_number

if TYPE_CHECKING:
    import pandas as pd

    from lopbench.results.group import Group

#: Kinds of panels: bars of a number, curves of a metric over the stream, or a scatter of one metric against another,
#: with a point for each part of the stream.
Kind = Literal["bars", "curves", "scatter"]

#: Most points of a line. If there are more tasks, each point is the mean of a window, as in published curves.
MOST_POINTS = 100

#: The columns of `frame`.
COLUMNS = ("panel", "at", "series", "value", "low", "high", "seeds", "published")


@dataclass(frozen=True)
class Mark:
    """One bar or one line.

    Args:
        series: Its name in the legend, which its colour stands for.
        entry: The entry of the study that it shows.
        at: The place of a bar on the horizontal axis; empty for a line.
        layer: The layer, counted from 1 in the order of the network; the mean of all if None.
        published: What is read off the published figure: points of a line, each a share of the stream and a value, or
            the height of a bar as one point at share 1.
    """

    series: str
    entry: EntryName
    at: str
    layer: int | None
    published: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Args:
        kind: How it is drawn.
        label: What its vertical axis shows.
        quantity: What is drawn of each entry. Curves show a metric over the whole stream.
        marks: Its bars or lines.
        across: Label of the horizontal axis, as "width"; empty for none.
        against: The metric on the horizontal axis of a scatter.
        size: The metric that a scatter shows as the size of points; None for points of one size.
    """

    kind: Kind
    label: str
    quantity: Quantity
    marks: tuple[Mark, ...]
    across: str = ""
    against: Quantity | None = None
    size: Quantity | None = None

    @property
    def quantities(self) -> list[Quantity]:
        """Everything that is drawn of each entry."""
        return [each for each in (self.quantity, self.against, self.size) if each is not None]


@dataclass(frozen=True)
class FigureData:
    """A figure of a study.

    Args:
        source: The published figure.
        minutes: How long its runs may take.
        panels: Its panels, side by side.
        note: How it differs from the published figure; empty if it does not.
        where: The file, for messages.
    """

    source: str
    minutes: float
    panels: tuple[Panel, ...]
    note: str = ""
    where: str = ""

    @property
    def names(self) -> dict[EntryName, None]:
        """The entries in the figure, each once."""
        return dict.fromkeys(mark.entry for panel in self.panels for mark in panel.marks)


def read_figure(value: Any, path: object) -> FigureData:
    """Return the figure of a study file.

    Args:
        value: What stands under ``figure``.
        path: The file, for messages.

    Raises:
        UsageError: If it is no table, a key is unknown or missing, or a value is of the wrong kind.
    """
    where = f"{path}, figure"
    if not isinstance(value, dict):
        raise UsageError(f"{path}: 'figure' must be a table, begun by a line [figure]")
    table = Table(value, where)
    table.refuse_others(("source", "minutes", "panels", "note"))
    panels = table.value("panels")
    if not isinstance(panels, list) or not panels or not all(isinstance(each, dict) for each in panels):
        raise table.wrong("'panels' must be one or more tables, each begun by a line [[figure.panels]]")
    minutes = table.number("minutes")
    if minutes <= 0:
        raise table.wrong(f"'minutes' must be above 0, got {minutes:g}")
    read = tuple(_panel(each, f"{where}, panel {number}") for number, each in enumerate(panels, start=1))
    return FigureData(table.text("source"), minutes, read, table.maybe("note") or "", where)


def _panel(value: Mapping[str, Any], where: str) -> Panel:
    table = Table(value, where)
    kind = table.choice("kind", get_args(Kind))
    others = ("against", "size") if kind == "scatter" else ("column", "of")
    table.refuse_others(("kind", "label", "metric", "across", "marks", *others))
    marks = table.value("marks")
    if not isinstance(marks, list) or not marks or not all(isinstance(each, dict) for each in marks):
        raise table.wrong("'marks' must be a list of tables, each a bar or a line")
    quantity = read_quantity(value, where)
    if kind == "curves" and quantity.of is None:
        raise table.wrong(f"curves show a 'metric', and {quantity.name!r} is one number for the whole stream")
    read = tuple(_mark(each, kind, where) for each in marks)
    if quantity.of is None and any(mark.layer is not None for mark in read):
        raise table.wrong(f"'layer' is for a 'metric', and {quantity.name!r} is a column")
    panel = Panel(kind, table.text("label"), quantity, read, table.maybe("across") or "")
    if kind != "scatter":
        return panel
    size = table.maybe("size")
    against = Quantity(table.text("against"), "late")
    return replace(panel, against=against, size=None if size is None else Quantity(size, "late"))


#: The keys of a bar, a line and a row of points, besides those that all have.
_MARK_KEYS: Mapping[Kind, tuple[str, ...]] = {"bars": ("at", "published"), "curves": ("published",), "scatter": ()}


def _mark(value: Mapping[str, Any], kind: Kind, where: str) -> Mark:
    table = Table(value, where)
    table.refuse_others(("series", "entry", "layer", *_MARK_KEYS[kind]))
    entry = entry_name(table.value("entry"), where)
    if kind == "bars":
        read = [[1.0, table.number("published")]] if "published" in value else []
    else:
        read = value.get("published", [])
    if not isinstance(read, list) or not all(map(_is_point, read)):
        raise table.wrong(
            "'published' of a line must be a list of points, each a share of the stream and a value, as in "
            f"[[0.0, 0.2], [1.0, 0.53]], got {str(read)[:60]!r}"
        )
    points = tuple((float(place), float(height)) for place, height in read)
    at = table.text("at") if kind == "bars" else ""
    return Mark(table.text("series"), entry, at, table.whole("layer"), points)


def _is_point(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(is_number, value)) and 0 <= value[0] <= 1


# -- the numbers of the runs


@dataclass(frozen=True)
class Drawn:
    """A bar or a line with the numbers of its runs.

    Args:
        mark: The bar or line.
        points: Share of the stream, mean over seeds, and low and high end of its 95% interval; a bar has one point.
        seeds: Number of seeds.
        beside: For each point of a scatter the means of what its horizontal place and its size show.
    """

    mark: Mark
    points: tuple[tuple[float, float, float, float], ...]
    seeds: int
    beside: tuple[tuple[float, float], ...] = ()


def drawn(panel: Panel, groups: Mapping[EntryName, Group], seeds: Mapping[EntryName, Sequence[int]]) -> list[Drawn]:
    """Return the bars or lines of a panel.

    A bar is the mean of the seeds whose runs completed. A line ends where the first run of a seed ends.

    Args:
        panel: The panel.
        groups: The runs of each entry.
        seeds: The seeds of each entry that are drawn.
    """
    return [_drawn(panel, mark, groups[mark.entry], seeds[mark.entry]) for mark in panel.marks]


def _drawn(panel: Panel, mark: Mark, group: Group, seeds: Sequence[int]) -> Drawn:
    from lopbench.results.tasks import task_count, task_means

    if panel.kind == "bars":
        known = replace(panel.quantity, layer=mark.layer).values(group)
        values = [value for seed, value in known.items() if seed in seeds]
        return Drawn(mark, _points({1.0: values} if values else {}, panel.quantity), len(values))
    runs = [record for record in group.runs if record.seed in seeds]
    count = task_count(runs[0])

    def windows(quantity: Quantity) -> dict[float, list[float]]:
        return _windows([task_means(record, quantity.name, mark.layer) for record in runs], count)

    found = windows(panel.quantity)
    points = _points(found, Quantity(panel.quantity.name, "late"))
    if panel.against is None:
        return Drawn(mark, points, len(runs))
    right = windows(panel.against)
    size = {} if panel.size is None else {place: mean(each) for place, each in windows(panel.size).items()}
    both = [point for point in points if point[0] in right]
    beside = tuple((mean(right[place]), size.get(place, math.nan)) for place, *_ in both)
    return Drawn(mark, tuple(both), len(runs), beside)


def _windows(known: Sequence[Mapping[int, float]], tasks: int) -> dict[float, list[float]]:
    """Return the mean of each window of the stream in each run, by the window's end; only of windows that all have."""
    number = min(tasks, MOST_POINTS)
    found = {}
    for window in range(number):
        inside = range(window * tasks // number, (window + 1) * tasks // number)
        values = [[each[task] for task in inside if task in each] for each in known]
        if all(values):
            found[(window + 1) / number] = [mean(each) for each in values]
    return found


def _points(
    places: Mapping[float, Sequence[float]], quantity: Quantity
) -> tuple[tuple[float, float, float, float], ...]:
    return tuple(_point(place, list(values), quantity) for place, values in sorted(places.items()))


def _point(place: float, values: list[float], quantity: Quantity) -> tuple[float, float, float, float]:
    middle = mean(values)
    low, high = quantity.interval(values) if len(values) > 1 else (middle, middle)
    return place, middle, low, high


def frame(data: FigureData, panels: Sequence[Sequence[Drawn]]) -> pd.DataFrame:
    """Return a figure as a table, in the columns `COLUMNS`.

    A bar has one row. A line has one for each published point, with the nearest of ours; if nothing was published, one
    for its last point. A scatter has one for its first and one for its last point.
    """
    import pandas as pd

    rows = [
        (panel.label, at, each.mark.series, *found, each.seeds, published)
        for panel, marks in zip(data.panels, panels, strict=True)
        for each in marks
        for at, found, published in _rows(each)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _rows(each: Drawn) -> Iterator[tuple[str, tuple[float, float, float], float]]:
    if each.beside:
        yield from _scattered(each)
        return
    for place, published in each.mark.published or ((1.0, math.nan),):
        nearest = min(each.points, key=lambda point: abs(point[0] - place), default=(place, *[math.nan] * 3))
        at = each.mark.at or f"{place:.0%} of the stream"
        yield at, (nearest[1], nearest[2], nearest[3]), published


def _scattered(each: Drawn) -> Iterator[tuple[str, tuple[float, float, float], float]]:
    """Yield the first and the last point of a scatter."""
    for index in dict.fromkeys((0, len(each.points) - 1)):
        place, *found = each.points[index]
        yield f"{place:.0%} of the stream, at {each.beside[index][0]:.3g}", (found[0], found[1], found[2]), math.nan
