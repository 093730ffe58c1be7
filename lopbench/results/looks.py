"""How figures look in a paper: what is drawn of each method everywhere, and the size of a column."""

import math
import re
import zlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from lopbench.core.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: The colour-blind safe palette of seaborn, without its grey, which is that of plain learning.
COLOURS = ("#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc", "#ca9161", "#fbafe4", "#ece133", "#56b4e9")
PLAIN = "#6b6b6b"
MARKERS = "sD^vP*X<>"

#: Size of all text in a figure of a given width, in points.
_POINTS = 8

#: Inches below which the legend stands under the axes, where it squeezes nothing.
_NARROW = 5.0


class Look(NamedTuple):
    """What a method is drawn with.

    Args:
        colour: A colour.
        marker: A marker of matplotlib.
    """

    colour: str
    marker: str


def looks(labels: Iterable[str]) -> dict[str, Look]:
    """Return a look for each label: a method has the same in all figures, unless two of one figure would share it.

    Plain learning is grey, with circles. Any other has colour and marker by a hash of its first component's name, so
    that a method that is added elsewhere moves none.

    Args:
        labels: What stands in the legend, as "cbp:maturity=7, adam:lr=0.001".
    """
    found: dict[str, Look] = {}
    colours: set[str] = set()
    for label in sorted(labels, key=lambda each: (each.partition(":")[0], each)):
        name = re.split(r"[:+, ]", label)[0]
        if name == "none" and not any(look.colour == PLAIN for look in found.values()):
            found[label] = Look(PLAIN, "o")
            continue
        first = zlib.crc32(name.encode())
        tried = [COLOURS[(first + step) % len(COLOURS)] for step in range(len(COLOURS))]
        colour = next((each for each in tried if each not in colours), tried[len(found) % len(tried)])
        colours.add(colour)
        taken = {look.marker for look in found.values()}
        marks = [MARKERS[(first // 16 + step) % len(MARKERS)] for step in range(len(MARKERS))]
        found[label] = Look(colour, next((each for each in marks if each not in taken), marks[0]))
    return found


def fit(
    figure: "Figure", *, width: float | None = None, title: bool = True, labels: Mapping[str, str] | None = None
) -> None:
    """Bring a figure to the width of a column, in place; its text is 8 points whatever the width.

    Args:
        figure: What `lopbench.results.plots` drew.
        width: Width in inches, at least 1; None leaves sizes as they are.
        title: False leaves out the title, whose place is the caption.
        labels: What stands in the legend in place of the names.

    Raises:
        UsageError: If the width is none, or a name is not in the legend.
    """
    from matplotlib.text import Text

    legend = figure.legends[0] if figure.legends else None
    texts = {text.get_text(): text for text in (legend.get_texts() if legend else ())}
    for name, label in (labels or {}).items():
        if name not in texts:
            raise UsageError(f"--label {name}={label}: the figure has no {name!r}; it has {', '.join(texts)}")
        texts[name].set_text(label)
    if not title:
        figure.suptitle("")
        for axes in figure.axes:
            if len(figure.axes) == 1:
                axes.set_title("")
    if width is None:
        return
    if not (math.isfinite(width) and 1 <= width <= 40):
        raise UsageError(f"--width is a width in inches from 1 to 40, got {width:g}")
    (old_width, old_height), height = figure.get_size_inches(), 0.0
    if legend is not None and width < _NARROW:
        columns = max(1, int(width // 1.3))
        _below(figure, legend, list(texts), columns)
        height = 0.16 * math.ceil(len(texts) / columns)
    figure.set_size_inches(width, max(width * old_height / old_width, 1.6) + height)
    for axes in figure.axes:
        axes.tick_params(which="both", labelsize=_POINTS)  # those that are made when it is drawn too
    for text in figure.findobj(Text):
        text.set_fontsize(_POINTS)


def _below(figure: "Figure", legend: Any, drawn: list[str], columns: int) -> None:
    """Put the legend under the axes; ``drawn`` are the names of what it is of, as it was drawn."""
    of_axes = {
        name: handle for axes in figure.axes for handle, name in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    handles = [of_axes.get(name, own) for name, own in zip(drawn, legend.legend_handles, strict=True)]
    names = [text.get_text() for text in legend.get_texts()]
    legend.remove()
    figure.legend(
        handles, names, loc="outside lower center", ncols=columns, frameon=False, fontsize=_POINTS, handlelength=1.5
    )
