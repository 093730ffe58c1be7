"""Figures of the width of a column or a page."""

import itertools
from xml.etree import ElementTree

import pytest
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text

from lopbench.core.errors import UsageError
from lopbench.results.plots import save
from lopbench.results.sheet import PAGE, POINTS, dress, fit, text_width

SAID = "mean of 5 seeds, 95% confidence interval (bootstrap over seeds)"
LONG = "cbp:accumulate=false,utility=adaptable_contribution from 0.5"


def made(panels=1, names=("none", "cbp:maturity=7")):
    figure = Figure(layout="constrained")
    grid = figure.subplots(1, panels, squeeze=False, sharey=True).flat
    keys = [Line2D([], [], color="black", label=name) for name in names]
    for number, axes in enumerate(grid):
        axes.plot([0, 1], [0, 1])
        axes.set(title=f"step size {number}", xlabel="task")
    grid[0].set_ylabel("online error")
    dress(figure, f"bitflip lite, online_mlp:width=5, sgd:lr=0.01\n{SAID}", keys)
    return figure


def names(figure):
    (legend,) = figure.legends
    return [text.get_text() for text in legend.get_texts()]


def extents(figure):
    """Return the boxes of all that holds text or data: title, legend, and axes with what stands around them."""
    figure.draw_without_rendering()
    boxes = [axes.get_tightbbox() for axes in figure.axes] + [figure.legends[0].get_window_extent()]
    return [*boxes, *(text.get_window_extent() for text in figure.texts if text.get_text())]


@pytest.mark.parametrize("width", [2.5, 3.3, 5.0, 6.8])
@pytest.mark.parametrize("panels", [1, 2, 3])
@pytest.mark.parametrize(
    "shown",
    [
        ("none", "cbp"),
        ("none", "weight_clipping:kappa=1"),
        ("none", LONG, "fresh network", "best constant", "scored tasks"),
    ],
)
def test_nothing_covers_anything_or_leaves_the_sheet(width, panels, shown):
    figure = made(panels, shown)
    fit(figure, width=width)
    boxes = extents(figure)
    assert figure.get_size_inches()[0] == width
    assert {text.get_fontsize() for text in figure.findobj(Text)} == {POINTS}
    sheet = figure.bbox
    for box in boxes:
        beyond = sheet.x0 - box.x0, box.x1 - sheet.x1, sheet.y0 - box.y0, box.y1 - sheet.y1
        assert max(beyond) < 1, box
    for one, other in itertools.combinations(boxes, 2):
        over = min(one.x1, other.x1) - max(one.x0, other.x0), min(one.y1, other.y1) - max(one.y0, other.y0)
        assert min(over) < 1.5, (one, other)


def test_figures_are_a_page_wide_on_white_unless_told():
    figure = made()
    assert figure.get_size_inches()[0] == PAGE
    assert figure.get_facecolor() == (1.0, 1.0, 1.0, 1.0)


def test_panels_of_a_column_stand_below_each_other_and_say_all_that_they_share():
    figure = made(3)
    fit(figure, width=3.3)
    places = [axes.get_position() for axes in figure.axes]
    figure.draw_without_rendering()
    places = [axes.get_position() for axes in figure.axes]
    assert places[0].y0 > places[1].y1 > places[1].y0 > places[2].y1
    assert [axes.get_ylabel() for axes in figure.axes] == ["online error"] * 3


def test_names_are_broken_where_they_are_joined_and_can_be_replaced():
    figure = made(names=("none", LONG))
    fit(figure, width=3.3)
    assert names(figure) == ["none", "cbp:accumulate=false,\nutility=adaptable_contribution from 0.5"]
    fit(figure, labels={LONG: "CBP"})
    assert names(figure) == ["none", "CBP"]
    fit(figure, width=6.8)
    assert names(figure) == ["none", "CBP"]


def test_lines_are_about_equally_long_unless_a_name_would_be_broken():
    figure = made()
    figure.axes[0].set_ylabel("effective rank at the end")
    fit(figure, width=2.5)
    assert figure.axes[0].get_ylabel() == "effective rank\nat the end"


def test_a_title_can_be_left_out():
    figure = made()
    tall = figure.get_size_inches()[1]
    fit(figure, title=False)
    assert figure.get_suptitle() == ""
    assert figure.get_size_inches()[1] < tall


def test_text_is_as_wide_as_it_is_drawn():
    figure = Figure()
    drawn = figure.text(0, 0, "retention", fontsize=POINTS)
    figure.draw_without_rendering()
    assert text_width("retention") == pytest.approx(drawn.get_window_extent().width * 72 / figure.dpi, abs=2)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (r"$\foo{$", r"$\foo{$"),
        ("$5 and $6", "$5 and $6"),
        ("_hidden", "_hidden"),
        ("<b>&amp;</b>", "<b>&amp;</b>"),
        ("\x1b[31mred\x07", "?[31mred?"),
        ("\u202eright to left\udcff", "?right to left?"),
        ("two\n\nlines\ttab", "two lines?tab"),
    ],
)
def test_whatever_is_written_in_a_figure_is_text_and_nothing_else(tmp_path, text, shown):
    figure = made(names=("none", text))
    for axes in figure.axes:
        axes.set(title=text, xlabel=text, ylabel=text)
    fit(figure, labels={"none": text})
    assert names(figure) == [shown] * 2
    save(figure, tmp_path / "figure.svg")
    drawn = [each.text for each in ElementTree.parse(tmp_path / "figure.svg").iter("{http://www.w3.org/2000/svg}text")]
    assert drawn.count(shown) >= 2


def test_bad_requests_are_a_sentence():
    figure = made()
    with pytest.raises(UsageError, match=r"the figure has no 'cpb'; it has none, cbp:maturity=7"):
        fit(figure, labels={"cpb": "CBP"})
    for width in (0, -1, 100, float("nan")):
        with pytest.raises(UsageError, match="--width is a width"):
            fit(figure, width=width)
