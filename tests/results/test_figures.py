"""Figures that are data: what is read, what is computed, and what is drawn."""

import math

import pytest

from lopbench.core.errors import ResultsError, UsageError
from lopbench.results.claims import EntryName
from lopbench.results.figure_plot import draw
from lopbench.results.figures import drawn, frame, read_figure
from lopbench.results.leaderboard import board
from lopbench.results.looks import PLAIN
from lopbench.results.statistics import interval

BARS = {
    "kind": "bars",
    "label": "dead units",
    "metric": "dead_fraction",
    "of": "end",
    "across": "width",
    "marks": [
        {"series": "SGD", "entry": "none", "at": "8", "published": 0.5},
        {"series": "L2", "entry": "l2", "at": "8"},
    ],
}
CURVES = {
    "kind": "curves",
    "label": "online accuracy",
    "metric": "online_accuracy",
    "marks": [{"series": "SGD", "entry": "none", "published": [[0.0, 0.9], [1.0, 0.4]]}],
}
LAYER = {**CURVES, "metric": "dead_fraction", "marks": [{"series": "first", "entry": "none", "layer": 1}]}
SCATTER = {
    "kind": "scatter",
    "label": "duplicates",
    "metric": "duplicate_fraction",
    "against": "dead_fraction",
    "size": "online_accuracy",
    "across": "dead units",
    "marks": [{"series": "SGD", "entry": "none"}],
}
FIGURE = {"source": "Somebody 2024, Fig. 1", "minutes": 3, "panels": [BARS, CURVES]}


@pytest.fixture
def made(results):
    """Return a figure with what runs of three seeds come to."""
    for seed in range(3):
        for methods, dead in (((), 0.4), ((results.component("methods", "l2"),), 0.1)):
            spec = results.spec(*methods, seed=seed)
            values = dict.fromkeys(range(10), dead + 0.01 * seed)
            online = {task: 0.9 - 0.05 * task + 0.01 * seed for task in range(10)}
            duplicates = {task: 0.1 * task for task in range(10)}
            results.add(spec, online, metrics={"dead_fraction": values, "duplicate_fraction": duplicates})
    groups = {entry.row["method"]: entry.group for entry in board(results.root).entries}

    def make(*panels):
        data = read_figure({**FIGURE, "panels": list(panels)}, "figure.toml")
        named = {name: groups[name.method] for name in data.names}
        return data, [drawn(panel, named, {name: range(3) for name in named}) for panel in data.panels]

    return make


def test_bars_are_means_over_seeds_beside_what_was_published(made):
    data, panels = made(BARS, CURVES)
    rows = frame(data, panels)
    bars = rows[rows["panel"] == "dead units"]
    assert bars["series"].tolist() == ["SGD", "L2"]
    assert bars["at"].tolist() == ["8", "8"]
    assert bars["value"].tolist() == pytest.approx([0.41, 0.11])
    assert bars["published"].tolist()[0] == 0.5
    assert math.isnan(bars["published"].tolist()[1])
    assert (bars.iloc[0]["low"], bars.iloc[0]["high"]) == pytest.approx(interval([0.4, 0.41, 0.42]))
    assert rows["seeds"].tolist() == [3, 3, 3, 3]


def test_a_line_has_a_row_for_each_published_point(made):
    rows = frame(*made(CURVES))
    assert rows["at"].tolist() == ["0% of the stream", "100% of the stream"]
    assert rows["published"].tolist() == [0.9, 0.4]
    assert rows["value"].tolist() == pytest.approx([0.91, 0.46])  # at the end of the first task, and of the last


def test_a_line_of_many_tasks_is_of_windows(results):
    scenario = results.component("scenarios", "toy", tasks=250, steps_per_task=1, profile="lite")
    spec = results.spec(scenario=scenario)
    results.add(spec, {task: float(task % 2) for task in range(250)})
    data = read_figure({**FIGURE, "panels": [CURVES]}, "figure.toml")
    [entry] = board(results.root).entries
    [name] = data.names
    [line] = drawn(data.panels[0], {name: entry.group}, {name: [0]})
    assert len(line.points) == 100
    assert line.points[0][:2] == (0.01, 0.5)  # tasks 0 and 1
    assert line.points[-1][:2] == pytest.approx((1.0, 2 / 3))  # tasks 247 to 249


def test_a_layer_is_drawn_by_itself_and_one_that_is_not_there_is_told(made):
    _, [[line]] = made(LAYER)
    assert [point[1] for point in line.points] == pytest.approx([0.41] * 10)
    with pytest.raises(
        ResultsError, match=r"dead_fraction has no layer 2 in .*; its layers, counted from 1, are hidden"
    ):
        made({**LAYER, "marks": [{"series": "second", "entry": "none", "layer": 2}]})


def test_a_scatter_has_a_point_for_each_part_of_the_stream(made):
    data, panels = made(SCATTER)
    [[row]] = panels
    assert [point[1] for point in row.points] == pytest.approx([0.1 * task for task in range(10)])
    assert row.beside[0] == pytest.approx((0.41, 0.91))
    assert row.beside[-1] == pytest.approx((0.41, 0.46))
    rows = frame(data, panels)
    assert rows["at"].tolist() == ["10% of the stream, at 0.41", "100% of the stream, at 0.41"]
    assert rows["value"].tolist() == pytest.approx([0.0, 0.9])
    assert rows["published"].isna().all()
    [axes] = draw(data, panels).axes
    assert axes.get_xlabel() == "dead units"
    [points] = axes.collections
    assert points.get_offsets()[:, 1].tolist() == pytest.approx([0.1 * task for task in range(10)])
    sizes, shades = points.get_sizes().tolist(), points.get_facecolors()[:, 3].tolist()
    assert sizes == sorted(sizes, reverse=True)  # accuracy falls
    assert len(set(sizes)) == 10
    assert shades == sorted(shades)
    assert (shades[0], shades[-1]) == (0.25, 1.0)
    alike = draw(*made({key: value for key, value in SCATTER.items() if key != "size"}))
    assert len(set(alike.axes[0].collections[0].get_sizes().tolist())) == 1


def test_it_is_drawn_on_white_without_titles_with_plain_learning_in_grey(made):
    figure = draw(*made(BARS, CURVES))
    assert figure.get_facecolor() == (1.0, 1.0, 1.0, 1.0)
    first, second = figure.axes
    assert [axes.get_title() for axes in figure.axes] == ["", ""]
    assert (first.get_ylabel(), first.get_xlabel()) == ("dead units", "width")
    assert second.get_xlabel() == "share of the stream"
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["SGD", "L2", "read off the published figure"]
    from matplotlib.colors import to_rgba

    assert first.patches[0].get_facecolor() == to_rgba(PLAIN)
    assert first.patches[1].get_facecolor() != to_rgba(PLAIN)
    assert second.lines[0].get_color() == PLAIN


def test_series_of_plain_learning_alone_have_colours(made):
    marks = [{"series": f"layer {place}", "entry": "none", "at": "8"} for place in (1, 2)]
    figure = draw(*made({**BARS, "marks": marks}))
    colours = [patch.get_facecolor() for patch in figure.axes[0].patches]
    assert len(set(colours)) == 2
    from matplotlib.colors import to_rgba

    assert to_rgba(PLAIN) not in colours


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (3, "'figure' must be a table, begun by a line [figure]"),
        ({**FIGURE, "panel": []}, "unknown key 'panel'. Did you mean 'panels'?"),
        ({**FIGURE, "panels": []}, "each begun by a line [[figure.panels]]"),
        ({**FIGURE, "minutes": 0}, "'minutes' must be above 0, got 0"),
        ({key: FIGURE[key] for key in ("source", "panels")}, "'minutes' is missing"),
        ({**FIGURE, "panels": [{**BARS, "kind": "bar"}]}, "panel 1: 'kind' is 'bar'. Did you mean 'bars'?"),
        ({**FIGURE, "panels": [{**BARS, "marks": []}]}, "'marks' must be a list of tables, each a bar or a line"),
        ({**FIGURE, "panels": [BARS, {**CURVES, "metric": 3}]}, "panel 2: 'metric' must be a text"),
        (
            {**FIGURE, "panels": [{"kind": "curves", "label": "x", "column": "retention", "marks": CURVES["marks"]}]},
            "curves show a 'metric', and 'retention' is one number for the whole stream",
        ),
        *(
            (
                {**FIGURE, "panels": [{**CURVES, "marks": [{"series": "a", "entry": "none", "published": points}]}]},
                "'published' of a line must be a list of points",
            )
            for points in ([[2, 1]], [[1]], [[1, math.nan]], [[1, 1e308]], [[1, 10**400]], [[1, True]], {})
        ),
        (
            {**FIGURE, "panels": [{**BARS, "marks": [{"series": "a", "entry": "none", "at": "8", "published": "x"}]}]},
            "'published' must be a number",
        ),
        ({**FIGURE, "panels": [{**BARS, "marks": [{"series": "a", "entry": "none"}]}]}, "'at' is missing"),
        ({**FIGURE, "panels": [{**SCATTER, "against": 3}]}, "'against' must be a text"),
        ({**FIGURE, "panels": [{**SCATTER, "of": "end"}]}, "unknown key 'of'"),
        ({**FIGURE, "panels": [{**BARS, "size": "online_loss"}]}, "unknown key 'size'"),
        (
            {**FIGURE, "panels": [{**SCATTER, "marks": [{"series": "a", "entry": "none", "published": 1}]}]},
            "unknown key 'published'",
        ),
        (
            {
                **FIGURE,
                "panels": [
                    {
                        "kind": "bars",
                        "label": "x",
                        "column": "retention",
                        "marks": [{"series": "a", "entry": "none", "at": "8", "layer": 1}],
                    }
                ],
            },
            "'layer' is for a 'metric', and 'retention' is a column",
        ),
    ],
)
def test_what_is_wrong_with_a_figure_is_one_sentence(value, told):
    with pytest.raises(UsageError) as raised:
        read_figure(value, "figure.toml")
    assert told in str(raised.value)
    assert "figure.toml" in str(raised.value)


def test_a_figure_names_its_entries_once():
    assert list(read_figure(FIGURE, "figure.toml").names) == [EntryName("none"), EntryName("l2")]


def test_numbered_series_are_a_ramp_and_what_lines_share_is_drawn_once(made):
    layers = [{"series": f"layer {number}", "entry": "l2", "layer": 1} for number in (1, 2, 3)]
    figure = draw(*made({**CURVES, "metric": "dead_fraction", "marks": layers}))
    darkness = [
        sum(int(line.get_color()[place : place + 2], 16) for place in (1, 3, 5)) for line in figure.axes[0].lines
    ]
    assert darkness == sorted(darkness, reverse=True)
    assert len(set(darkness)) == 3
    assert [len(line.get_xdata()) for line in figure.axes[0].lines] == [10, 1, 1]  # all are the same line here


def test_errors_are_on_a_logarithmic_axis(results):
    spec = results.spec()
    results.add(spec, {task: 10.0**-task for task in range(10)}, score="error")
    data = read_figure({**FIGURE, "panels": [{**CURVES, "metric": "online_error"}]}, "figure.toml")
    [entry] = board(results.root).entries
    [name] = data.names
    figure = draw(data, [drawn(data.panels[0], {name: entry.group}, {name: [0]})])
    assert figure.axes[0].get_yscale() == "log"
