"""The sheet that a figure is on: the house style, the width of a column or a page, and where legend and title stand."""

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from lopbench.core.errors import UsageError
from lopbench.core.text import broken, plain

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.legend import Legend

#: Width of a page of text, in inches: what figures have unless told.
PAGE = 6.8

#: Size of all text, in points, whatever the width.
POINTS = 8

#: Inches below which the legend stands under the axes, where it squeezes nothing, and below which no panel gets.
_NARROW, _LEAST_PANEL = 5.0, 2.0

#: Largest share of the width that a legend beside the axes may take.
_BESIDE = 0.3

#: Inches of a line of text, and of what stands around the axes besides legend and title.
_LINE, _AROUND = 0.155, 0.1

#: Points of a legend's entry besides its text, and between two columns of entries.
_HANDLE, _GAP = 20.0, 10.0


@contextmanager
def house_style() -> Iterator[None]:
    """Hold the house style inside the block."""
    import matplotlib as mpl
    import seaborn as sns

    with mpl.rc_context(
        {
            **sns.axes_style("ticks"),
            **sns.plotting_context("paper"),
            "font.size": POINTS,
            "axes.grid": True,
            "grid.alpha": 0.3,
            "figure.facecolor": "white",
        }
    ):
        yield


def dress(figure: "Figure", title: str, keys: Sequence["Artist"]) -> None:
    """Give a figure its title and legend, and the width of a page.

    Args:
        figure: The figure, whose axes are all drawn.
        title: The title; empty for none.
        keys: What the legend shows, each with its label.
    """
    title = plain(title)
    figure.suptitle(title).set_label(title)  # what `fit` breaks into lines
    for key in keys:
        key.set_label(_label(str(key.get_label())))
    if keys:
        figure.legend(handles=list(keys), labels=[str(key.get_label()) for key in keys])
    fit(figure, width=PAGE)


def check_width(width: float | None) -> None:
    """Refuse a width, in inches, that no figure has; None is the usual one.

    Raises:
        UsageError: If it is below 1 or above 40, or no number.
    """
    if width is not None and not 1 <= width <= 40:  # also refuses NaN
        raise UsageError(f"--width is a width in inches from 1 to 40, got {width:g}")


def fit(
    figure: "Figure", *, width: float | None = None, title: bool = True, labels: Mapping[str, str] | None = None
) -> None:
    """Bring a figure to the width of a column or a page, in place; its text is 8 points whatever the width.

    Where panels would be narrower than two inches they are put below each other.

    Args:
        figure: What `lopbench.results.plots` drew.
        width: Width in inches, from 1 to 40; None leaves it as it is.
        title: False leaves out the title, whose place is the caption.
        labels: What stands in the legend in place of the names. It is text: nothing in it is a formula, and "?" stands
            for what cannot be printed.

    Raises:
        UsageError: If the width is none, or a name is not in the legend.
    """
    from matplotlib.text import Text

    check_width(width)
    keys = [key for legend in figure.legends for key in legend.legend_handles if key is not None]
    names = {str(key.get_label()): key for key in keys}
    for name, label in (labels or {}).items():
        if name not in names:
            raise UsageError(f"--label {name}={label}: the figure has no {name!r}; it has {', '.join(names)}")
        names[name].set_label(_label(label))
    wide = float(width or figure.get_size_inches()[0])
    with house_style():
        rows, columns = _stack(figure, wide)
        for axes in figure.axes:
            axes.tick_params(which="both", labelsize=POINTS)  # those that are made when it is drawn too
            axes.set_title(_lines(plain(axes.get_title()), 72 * wide / columns - 30), parse_math=False)
            axes.set_xlabel(plain(axes.get_xlabel()), parse_math=False)
            room = 72 * _row(wide, rows, columns) - 45
            axes.set_ylabel(_lines(plain(axes.get_ylabel()), room), parse_math=False)
        beside = _beside(keys, wide) if rows * columns == 1 else 0.0
        lines = _title(figure, wide, beside, shown=title) + _legend(figure, keys, wide, beside)
        for text in figure.findobj(Text):
            text.set_fontsize(POINTS)
        lines += rows * max(axes.get_title().count("\n") + bool(axes.get_title()) for axes in figure.axes)
        below = rows * max(map(_turned, figure.axes))
        figure.set_size_inches(wide, rows * _row(wide, rows, columns) + below + lines * _LINE + _AROUND)


def _turned(axes: "Axes") -> float:
    """Return the height, in inches, of the names along the horizontal axis if they stand upright, else 0."""
    if not axes.xaxis.get_tick_params().get("rotation"):
        return 0.0
    return max(text_width(label.get_text()) for label in axes.get_xticklabels()) / 72


def _label(text: str) -> str:
    """Return a text as a legend shows it: one line that can be printed."""
    return " ".join(plain(text).split())


def _lines(text: str, room: float) -> str:
    """Return a text in lines of at most ``room`` points, where that is possible."""
    return "\n".join(each for line in text.split("\n") for each in _even(line, room))


def _even(line: str, room: float) -> list[str]:
    """Return a line in as few lines as possible, about equally long where words are all that has to be parted."""
    fewest = broken(line, _within(room))
    for width in np.linspace(room / len(fewest), room, 10, endpoint=False):
        found = broken(line, _within(width))
        if len(found) == len(fewest) and " ".join(found) == line:
            return found
    return fewest


def _within(room: float) -> Callable[[str], bool]:
    """Return what tells whether a text is at most ``room`` points wide."""
    return lambda text: text_width(text) <= room


def text_width(text: str) -> float:
    """Return how wide a line of text is, in points."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextToPath

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # `save` tells of characters that the font does not have
        width, _, _ = TextToPath().get_text_width_height_descent(text, FontProperties(size=POINTS), ismath=False)
    return float(width)


def _row(width: float, rows: int, columns: int) -> float:
    """Return the height of a row of panels, in inches, with the numbers and names along its axes."""
    if rows * columns == 1:
        return min(max(0.6 * width, 1.6), 3.3)
    return min(max(0.78 * width / columns, 1.5), 1.9)


def _stack(figure: "Figure", width: float) -> tuple[int, int]:
    """Put the panels into as many columns as there is room for; return rows and columns."""
    grid = figure.axes[0].get_gridspec()
    assert grid is not None  # the axes are subplots
    panels = len(figure.axes)
    columns = min(grid.ncols, max(1, int(width // _LEAST_PANEL)))
    rows = math.ceil(panels / columns)
    if (rows, columns) != (grid.nrows, grid.ncols):
        places = figure.add_gridspec(rows, columns)
        for index, axes in enumerate(figure.axes):
            axes.set_subplotspec(places[index // columns, index % columns])
        for axes in figure.axes:
            axes.tick_params(labelleft=True)  # what another panel to its left has shown for it
            axes.set_ylabel(axes.get_ylabel() or figure.axes[0].get_ylabel())
    return rows, columns


def _title(figure: "Figure", width: float, beside: float, *, shown: bool) -> int:
    """Break the title into lines that fit over the panels; return how many they are."""
    title = figure.suptitle(figure.get_suptitle())
    whole = str(title.get_label()) if shown else ""
    room = 72 * width - beside
    title.set_label(whole)
    title.set_text(_lines(whole, room - 20))
    title.set_parse_math(False)
    title.set_x(room / 2 / (72 * width))
    return len(title.get_text().split("\n")) if whole else 0


def _beside(keys: Sequence["Artist"], width: float) -> float:
    """Return the points that a legend takes beside a panel that is wide, if its names are short; 0 if it goes below."""
    taken = _HANDLE + max((text_width(str(key.get_label())) for key in keys), default=math.inf)
    return taken if width >= _NARROW and taken < 72 * _BESIDE * width else 0.0


def _legend(figure: "Figure", keys: Sequence["Artist"], width: float, beside: float) -> int:
    """Put the legend beside the panel, if it takes points there, or else below; return the lines that it takes."""
    for legend in figure.legends[:]:
        legend.remove()
    if not keys:
        return 0
    style: dict[str, Any] = {"frameon": False, "fontsize": POINTS, "handlelength": 1.7, "handletextpad": 0.6}
    names = [str(key.get_label()) for key in keys]
    if beside:
        _as_text(figure.legend(keys, names, loc="outside right upper", **style))
        return 0
    room = 72 * width - 16
    names = [_lines(name, room - _HANDLE) for name in names]
    widths = [_HANDLE + max(map(text_width, name.split("\n"))) for name in names]
    columns = _columns(widths, room)
    style |= {"ncols": columns, "columnspacing": _GAP / POINTS, "labelspacing": 0.3}
    _as_text(figure.legend(keys, names, loc="outside lower center", **style))
    heights = [name.count("\n") + 1 for name in names]
    return max(int(column.sum()) for column in np.array_split(heights, columns))


def _as_text(legend: "Legend") -> None:
    """Let a legend show dollars as they are: what stands between two of them is no formula."""
    for text in legend.get_texts():
        text.set_parse_math(False)


def _columns(widths: Sequence[float], room: float) -> int:
    """Return the fewest columns in which entries of these widths take fewest lines and fit into ``room``."""

    def fits(columns: int) -> bool:
        # As a legend does it: one column after the other is filled.
        parts = np.array_split(widths, columns)
        return sum(float(part.max()) for part in parts) + _GAP * (columns - 1) <= room

    count = len(widths)
    most = max((columns for columns in range(1, count + 1) if fits(columns)), default=1)
    lines = math.ceil(count / most)
    return next(
        each for each in range(1, most + 1) if math.ceil(count / each) == lines and (each == most or fits(each))
    )
