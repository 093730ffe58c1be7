"""What is drawn of each method, and figures of the width of a column."""

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from lopbench.core.errors import UsageError
from lopbench.core.manager import plugins
from lopbench.results.looks import PLAIN, fit, looks


def test_plain_learning_is_grey_and_a_method_looks_the_same_in_all_figures():
    assert looks(["none", "cbp"])["none"] == (PLAIN, "o")
    alone = {name: looks([name])[name] for name in plugins().registry.names("methods")}
    for name, look in alone.items():
        assert looks(["none", name])[name] == look
        assert looks([f"{name}:field=1"])[f"{name}:field=1"] == look
        assert look.colour != PLAIN


def test_no_two_methods_of_a_figure_share_a_look_while_there_are_some_left():
    names = ["none", *plugins().registry.names("methods")[:9]]
    found = looks(names)
    assert len({look.colour for look in found.values()}) == 10
    assert len({look.marker for look in found.values()}) == 10
    many = [f"cbp:maturity={number}" for number in range(12)]
    assert set(looks(many)) == set(many)
    assert looks(reversed(many)) == looks(many)


@pytest.fixture
def figure():
    made = Figure(figsize=(7.2, 3.8), layout="constrained")
    axes = made.subplots()
    for name in ("none", "cbp:maturity=7"):
        axes.plot([0, 1], [0, 1], label=name)
    axes.set_title("a title")
    axes.set_xlabel("task")
    made.legend(*axes.get_legend_handles_labels(), loc="outside right upper")
    return made


@pytest.mark.parametrize("width", [3.3, 6.8])
def test_a_figure_has_the_width_and_text_of_eight_points(figure, width):
    fit(figure, width=width, labels={"cbp:maturity=7": "CBP"})
    figure.draw_without_rendering()
    assert figure.get_size_inches()[0] == width
    assert {text.get_fontsize() for text in figure.findobj(Text)} == {8}
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["none", "CBP"]
    box, axes = legend.get_window_extent(), figure.axes[0].get_window_extent()
    assert (box.y1 <= axes.y0) == (width < 5), "a narrow figure has it below"


def test_a_title_can_be_left_out(figure):
    fit(figure, title=False)
    assert figure.axes[0].get_title() == ""
    assert figure.get_size_inches().tolist() == [7.2, 3.8]


def test_bad_requests_are_a_sentence(figure):
    with pytest.raises(UsageError, match=r"the figure has no 'cpb'; it has none, cbp:maturity=7"):
        fit(figure, labels={"cpb": "CBP"})
    for width in (0, -1, 100, float("nan")):
        with pytest.raises(UsageError, match="--width is a width"):
            fit(figure, width=width)
