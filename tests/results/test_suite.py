"""Suites: means, ranks over scenarios and profiles by hand, and how often a best one is called falsely."""

import numpy as np
import pytest

from lopbench.core.errors import ResultsError
from lopbench.results.leaderboard import board
from lopbench.results.looks import looks
from lopbench.results.plots import save
from lopbench.results.statistics import interval
from lopbench.results.suite import (
    FEWEST_SCENARIOS,
    SHOWN,
    Cell,
    Suite,
    mean_band,
    members,
    profile,
    rank_ranges,
    suite_frame,
    suite_table,
)
from lopbench.results.suite_plots import suite_scores

NAMES = tuple(f"toy{number}" for number in range(FEWEST_SCENARIOS))


def suite(names=NAMES, seeds=range(5)):
    return Suite("toys", tuple(Cell(name, "lite", frozenset(seeds)) for name in names), "")


@pytest.fixture
def toys(results, many_seeds):
    """Return a function that writes five seeds of a method in each scenario, with these retentions."""

    def write(method, *retentions, names=NAMES, seeds=5):
        methods = (results.component("methods", method, track="boundary-free"),) if method != "none" else ()
        for name, retention in zip(names, retentions, strict=False):
            scenario = results.component("scenarios", name, tasks=10, steps_per_task=100, profile="lite")
            many_seeds([0.2 + 0.6 * retention] * seeds, *methods, scenario=scenario)

    return write


def made(results, asked=None):
    asked = asked or suite()
    found = members(asked, board(results.root).entries)
    return suite_frame(asked, found), suite_table(asked, suite_frame(asked, found), wide=True)


def test_means_are_of_clipped_retentions_and_the_worst_has_a_name(results, toys):
    toys("none", 0.5, 0.5, 0.5, 0.5, 0.5, 0.5)
    toys("m", 1.3, 1.0, 1.0, 1.0, 1.0, 0.2)
    frame, table = made(results)
    assert [*frame["method"]] == ["m", "none"]
    row = frame.iloc[0]
    assert row["mean"] == pytest.approx((1.2 + 4 * 1.0 + 0.2) / 6)
    assert (row["worst"], row["worst_scenario"]) == (pytest.approx(0.2), "toy5")
    for end in ("", "_low", "_high"):  # all seeds are alike
        assert [row[f"at_least_{tau:g}{end}"] for tau in SHOWN] == pytest.approx([5 / 6, 5 / 6, 5 / 6])
    assert "83% [83%, 83%]" in table.rows[0]
    assert frame["rank_low"].isna().all()
    assert "#: there are no ranks; they take 3 methods with all cells, and 2 have them." in table.notes


def test_ranks_are_of_methods_with_all_cells(results, toys):
    toys("none", 0.50, 0.52, 0.48, 0.51, 0.49, 0.50)
    toys("good", 1.00, 1.02, 0.98, 1.01, 0.99, 1.00)
    toys("bad", 0.10, 0.12, 0.08, 0.11, 0.09, 0.10)
    toys("part", 1.1, 1.1, 1.1)
    frame, table = made(results)
    assert [*frame["method"]] == ["good", "none", "bad", "part"]
    assert [*frame["rank_low"]][:3] == [*frame["rank_high"]][:3] == [1, 2, 3]
    assert frame.iloc[3][["rank_low", "mean"]].isna().all()
    assert "part: no, or too few, seeds in toy3, toy4, toy5" in table.notes
    assert table.rows[3][-1] == "3/6"


def test_a_seed_that_is_missing_is_a_cell_that_is_missing(results, toys):
    toys("none", *[0.5] * 6)
    toys("m", *[0.6] * 6, seeds=4)
    frame, _ = made(results)
    assert frame.set_index("method").loc["m", "missing"] == ", ".join(NAMES)
    frame, _ = made(results, suite(seeds=range(4)))
    assert (frame["missing"] == "").all()


def test_the_figure_has_a_dot_for_each_scenario_and_a_mean_of_all(results, toys, tmp_path):
    toys("none", *[0.5] * 6)
    toys("good", 1.3, 1.0, 1.0, 1.0, 1.0, 0.4)
    toys("part", 0.8, names=NAMES[1:])
    entries = board(results.root).entries
    figure = suite_scores(suite(), entries)
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["good", "none", "part"]
    dots = {line.get_color(): dict(zip(*line.get_data(), strict=True)) for line in axes.lines}
    looked = looks(NAMES)
    assert dots[looked["toy0"].colour] == pytest.approx({0: 1.2, 1: 0.5})
    assert dots[looked["toy1"].colour] == pytest.approx({0: 1.0, 1: 0.5, 2: 0.8})
    means = [bars.lines[0].get_ydata().item() for bars in axes.containers]
    assert means == pytest.approx([(1.2 + 4 + 0.4) / 6, 0.5])
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == [*looked, "mean of scenarios", "fresh network", "chance"]
    upright = figure.get_size_inches()[1]
    toys("of_a_very_long_name_indeed", *[0.5] * 6)
    assert suite_scores(suite(), board(results.root).entries).get_size_inches()[1] > upright
    for name in ("one.svg", "two.svg"):
        save(suite_scores(suite(), entries), tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()


def test_a_scenario_without_runs_is_not_in_the_figure(results, toys):
    toys("none", 0.5)
    figure = suite_scores(suite(), board(results.root).entries)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["toy0", "fresh network", "chance"]


def test_a_method_that_stands_twice_in_a_scenario_is_refused(results, toys, many_seeds):
    toys("none", *[0.5] * 6)
    scenario = results.component("scenarios", "toy0", tasks=10, steps_per_task=100, profile="lite")
    many_seeds([0.5], scenario=scenario, lr=1e-2)
    with pytest.raises(
        ResultsError, match=r"none has several rows in toy0, .* differ in optimizer \(adam:lr=0.003 and adam:lr=0.01\)"
    ):
        made(results)


def test_methods_of_other_networks_are_not_compared(results, toys, many_seeds):
    toys("none", *[0.5] * 6)
    scenario = results.component("scenarios", "toy0", tasks=10, steps_per_task=100, profile="lite")
    method = results.component("methods", "m", track="boundary-free")
    many_seeds([0.5] * 5, method, scenario=scenario, architecture=results.component("architectures", "wide"))
    with pytest.raises(ResultsError, match=r"are not of one table in toy0, .* differ in architecture \(.*wide.*\)"):
        made(results)


def test_one_seed_has_no_interval(results, toys):
    toys("none", *[0.5] * 6, seeds=1)
    frame, table = made(results, suite(seeds=range(1)))
    assert frame[["mean_low", "mean_high", "at_least_0.5_low"]].isna().all(axis=None)
    assert {"0.50", "100%"} <= {*table.rows[0]}


@pytest.mark.parametrize("scenarios", [2, 6, 8, 9, 30])
def test_the_ends_of_an_interval_are_on_both_sides_of_the_mean(scenarios):
    scores = {f"s{number}": dict.fromkeys(range(5), 0.1 * (number % 7)) for number in range(scenarios)}
    mean, low, high = mean_band(scores)
    assert low <= mean <= high
    assert high - low < 1e-12


def test_the_interval_of_one_scenario_is_that_of_its_seeds():
    values = [0.2, 0.5, 0.55, 0.7, 0.9]
    assert mean_band({"s": dict(enumerate(values))})[1:] == pytest.approx(interval(values), abs=0.03)


def test_a_suite_without_runs_says_how_to_make_them(results, many_seeds):
    many_seeds([0.5])
    with pytest.raises(ResultsError, match="no runs of the suite 'toys' here; 'lopbench run toys' makes them"):
        made(results)


def test_a_profile_is_the_share_of_cells_and_its_band_holds_it():
    scores = {"a": {0: 0.0, 1: 0.5, 2: 1.0, 3: 1.0}, "b": {0: 1.2, 1: 1.2}}
    share, low, high = profile(scores, (0.0, 0.5, 0.8, 1.1))
    assert share == pytest.approx([1.0, 7 / 8, 3 / 4, 1 / 2])
    assert (low <= share).all()
    assert (share <= high).all()
    assert low[2] < share[2] < high[2]


def test_ranks_by_hand():
    means = np.array([[0.9] * 7, [0.9] * 7, [0.5] * 7])
    assert list(map(str, rank_ranges(means))) == ["1-2", "1-2", "3"]


def test_few_scenarios_show_nothing():
    means = np.array([[0.9] * 5, [0.5] * 5, [0.1] * 5])
    assert {*map(str, rank_ranges(means))} == {"1-3"}


def test_the_order_of_methods_is_irrelevant():
    means = np.random.default_rng(0).normal(0.7, 0.1, (6, 8)) + np.linspace(0, 0.4, 6)[:, None]
    found = rank_ranges(means)
    order = [3, 0, 5, 1, 4, 2]
    assert rank_ranges(means[order]) == [found[place] for place in order]


def law(name, draws, shape):
    """Draw retentions of equal methods ``(methods, scenarios, seeds)``; scenarios differ in level and spread."""
    scenarios = shape[1]
    level, spread = draws.uniform(0.4, 1.1, (scenarios, 1)), draws.uniform(0.01, 0.2, (scenarios, 1))
    values = level + spread * draws.normal(size=shape)
    if name == "collapse":
        values = np.where(draws.random(shape) < 0.2, 0.0, values)
    return np.clip(values, 0.0, 1.2).mean(axis=2)


@pytest.mark.parametrize("name", ["clipped", "collapse"])
def test_twenty_equal_methods_are_falsely_told_apart_in_few_suites(name):
    draws = np.random.default_rng(16)
    best = apart = 0
    tables = 300
    for _ in range(tables):
        ranges = list(map(str, rank_ranges(law(name, draws, (20, 7, 5)))))
        best += "1" in ranges
        apart += {*ranges} != {"1-20"}
    assert best / tables <= 0.06
    assert apart / tables <= 0.09  # 5%, and three standard errors


def test_a_better_method_is_found():
    draws = np.random.default_rng(17)
    found = 0
    for _ in range(50):
        means = law("clipped", draws, (20, 7, 5)) * 0.7
        means[3] += 0.5
        found += str(rank_ranges(means)[3]) == "1"
    assert found >= 40
