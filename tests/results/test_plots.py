import subprocess
import sys
from dataclasses import replace

import pytest

from lopbench.core.errors import ResultsError, UsageError
from lopbench.core.spec import NUMBERS, RunSpec
from lopbench.results.leaderboard import leaderboard, to_csv
from lopbench.results.looks import PLAIN
from lopbench.results.plots import RETENTION, curves, retention_vs_learning_rate, save
from lopbench.results.record import find_records, write_record
from lopbench.results.sheet import fit
from lopbench.results.statistics import interval
from lopbench.results.stream_plots import cloning_curves, error_curves, recovery_bars, recovery_curves

#: What stands behind the lines of accuracies, and of errors.
AGAINST = ["fresh network", "chance", "scored tasks"]
ERRORS = ["fresh network", "best constant", "scored tasks"]


def means(axes):
    """Return the lines of learners."""
    return [line for line in axes.lines if line.get_linestyle() == "-"]


def labels(figure):
    return [str(handle.get_label()) for handle in figure.legends[0].legend_handles]


@pytest.fixture
def sweep(many_seeds, results):
    m = results.component("methods", "m", track="boundary-free")
    for lr, value in ((1e-3, 0.7), (3e-3, 0.4)):
        many_seeds([value, value + 0.1], lr=lr)
        many_seeds([value + 0.2, value + 0.1], m, lr=lr)
    return leaderboard(results.root)


def test_learning_rate_figure_shows_every_row_with_its_interval(sweep):
    figure = retention_vs_learning_rate(sweep)
    axes = figure.axes[0]
    assert axes.get_xscale() == "log"
    assert labels(figure) == ["none", "m", "fresh network", "chance"]
    drawn = {container.get_label(): container for container in axes.containers}
    for method, rows in sweep.groupby("method"):
        line, _, (bars,) = drawn[method].lines
        rows = rows.sort_values("lr")
        assert line.get_ydata().tolist() == rows["retention"].tolist()
        assert line.get_xdata() == pytest.approx(rows["lr"].to_numpy(), rel=0.02)
        ends = [segment[:, 1] for segment in bars.get_segments()]
        assert ends == [pytest.approx(pair) for pair in rows[["retention_low", "retention_high"]].to_numpy()]
    assert "2 seeds" in figure.get_suptitle()


def test_single_seed_is_drawn_without_a_bar(many_seeds, results):
    many_seeds([0.5])
    bars = retention_vs_learning_rate(leaderboard(results.root)).axes[0].containers[0].lines[2][0]
    (segment,) = bars.get_segments()
    assert segment[0, 1] == segment[1, 1]


def test_methods_at_one_rate_stand_near_it(many_seeds, results):
    for method in ("a", "b", "c"):
        many_seeds([0.5, 0.6], results.component("methods", method), lr=1e-2)
    (axes,) = retention_vs_learning_rate(leaderboard(results.root)).axes
    low, high = axes.get_xlim()
    assert low < 1e-2 / 2
    assert high > 1e-2 * 2
    assert axes.get_xticks().tolist() == [1e-2]


def test_learning_rate_figure_refuses_other_protocols(many_seeds, results):
    many_seeds([0.5])
    many_seeds([0.5], data={"name": "other", "content_hash": "00"})
    with pytest.raises(ResultsError, match="they differ in data"):
        retention_vs_learning_rate(leaderboard(results.root))


def test_learning_rate_figure_refuses_two_rows_at_one_point(many_seeds, results):
    for version in (1, 2):
        many_seeds([0.5], results.component("methods", "m", track="boundary-free", version=version))
    with pytest.raises(ResultsError, match=r"more than once at learning rate 0\.003"):
        retention_vs_learning_rate(leaderboard(results.root))


def test_learning_rate_figure_needs_a_retention(results):
    results.add(results.spec(), 0.5)
    with pytest.raises(ResultsError, match="no completed fresh references"):
        retention_vs_learning_rate(leaderboard(results.root))


def test_curves_of_the_retention_are_learner_over_fresh_network_by_task(results):
    for seed in range(2):
        spec = results.spec(seed=seed)
        results.add(spec, {task: 0.8 - 0.03 * task for task in range(10)})
        results.add(spec.reference(), dict.fromkeys((0, 3, 6, *range(7, 10)), 0.5))
    figure = curves(find_records(results.root), RETENTION)
    ours, fresh = (line for line in figure.axes[0].lines if line.get_linestyle() != ":")
    assert ours.get_xdata().tolist() == [0, 3, 6, 7, 8, 9]  # where there is a reference
    assert ours.get_ydata() == pytest.approx([(0.6 - 0.03 * task) / 0.3 for task in (0, 3, 6, 7, 8, 9)])
    assert fresh.get_ydata() == pytest.approx([1.0] * 6)
    assert "S/F" in figure.axes[0].get_ylabel()


def test_curves_of_the_retention_are_those_of_the_headline(results, monkeypatch):
    monkeypatch.setattr(RunSpec, "headline", "generalisation")
    spec, tasks = results.spec(), range(10)
    results.add(spec, 0.9, {task: 0.4 + 0.01 * task for task in tasks})
    results.add(spec.reference(), dict.fromkeys(tasks, 0.5), dict.fromkeys(tasks, 0.6))
    ours, _ = (
        line for line in curves(find_records(results.root), RETENTION).axes[0].lines if line.get_linestyle() != ":"
    )
    assert ours.get_ydata() == pytest.approx([(0.2 + 0.01 * task) / 0.4 for task in tasks])


def test_curves_are_drawn_from_the_ends_of_tasks(results):
    rows = results.fill(dict.fromkeys(range(10), 0.5))
    for task in range(10):
        for layer in ("a", "b"):
            rows.add(100 * task, task, "dead_fraction", 1.0, layer)
            rows.add(100 * task + 100, task, "dead_fraction", 0.1 if layer == "a" else 0.3, layer)
    spec = results.spec()
    write_record(results.root, spec.to_json(), spec.run_id, {"device": "cpu"}, results.status(), rows, None)
    (line,) = (
        each for each in curves(find_records(results.root), "dead_fraction").axes[0].lines if len(each.get_xdata())
    )
    assert line.get_ydata() == pytest.approx([0.2] * 10)


def test_curves_show_methods_and_the_reference(many_seeds, results):
    many_seeds([0.5, 0.6])
    many_seeds([0.7, 0.8], results.component("methods", "m", track="boundary-free"))
    figure = curves(find_records(results.root))
    assert labels(figure) == ["none", "m", "fresh network", "chance", "scored tasks"]
    lines = figure.axes[0].lines
    assert lines[0].get_ydata() == pytest.approx([0.55] * 10)
    assert lines[1].get_ydata() == pytest.approx([0.75] * 10)
    assert lines[2].get_xdata().tolist() == [5, 6, 7, 8, 9]
    assert (lines[3].get_linestyle(), set(lines[3].get_ydata())) == (":", {0.2})
    (scored,) = figure.axes[0].patches
    assert (scored.get_x(), scored.get_width()) == (4.5, 5.0)
    assert figure.axes[0].get_ylabel() == "online accuracy"


def test_curves_keep_a_diverged_run_at_the_floor(many_seeds, results):
    many_seeds([0.8])
    results.add(results.spec(seed=1), {0: 0.8, 1: 0.8}, status="diverged", diverged_at=250)
    line = curves(find_records(results.root)).axes[0].lines[0]
    assert line.get_ydata() == pytest.approx([0.8, 0.8] + [0.5] * 8)


def test_curves_refuse_several_protocols_and_unmeasured_metrics(many_seeds, results):
    many_seeds([0.5])
    with pytest.raises(ResultsError, match="No run measured 'dead_fraction'"):
        curves(find_records(results.root), "dead_fraction")
    learners = [record for record in find_records(results.root) if record.spec.kind == "continual"]
    with pytest.raises(ResultsError, match="no fresh networks beside them"):
        curves(learners, RETENTION)
    many_seeds([0.5], data=None)
    with pytest.raises(ResultsError, match="several protocols"):
        curves(find_records(results.root))


def test_curves_name_the_optimizer_where_it_tells_lines_apart(many_seeds, results):
    many_seeds([0.5])
    assert "adam:lr=0.003" in curves(find_records(results.root)).get_suptitle()
    many_seeds([0.6], lr=1e-3)
    figure = curves(find_records(results.root))
    assert labels(figure) == ["none, adam:lr=0.001", "none, adam:lr=0.003", *AGAINST]
    assert "adam" not in figure.get_suptitle()


def test_a_run_that_was_measured_twice_is_drawn_once(many_seeds, results):
    many_seeds([0.5, 0.5])
    results.add(results.spec(metrics=(results.component("metrics", "rank"),)), 0.7)
    line = curves(find_records(results.root)).axes[0].lines[0]
    assert line.get_ydata() == pytest.approx([0.6] * 10)  # of seeds 0 and 1


def test_curves_tell_when_methods_turn_on(many_seeds, results):
    m = results.component("methods", "m", track="boundary-free")
    many_seeds([0.5], m)
    many_seeds([0.5], m, start=0.5)
    assert labels(curves(find_records(results.root))) == ["m", "m from 0.5", *AGAINST]


# -- errors over the stream


@pytest.fixture
def stream(results):
    """Return a function that writes runs of one error for each seed and phase, with a rank and duplicates."""
    m = results.component("methods", "m", track="boundary-free")

    def write(before, after, *, start=0.5, methods=(m,), width=8, **changes):
        for seed, (first, second) in enumerate(zip(before, after, strict=True)):
            architecture = results.component("architectures", "net", width=width)
            spec = results.spec(*methods, seed=seed, start=start, **{"architecture": architecture, **changes})
            values = dict.fromkeys(range(5), first) | dict.fromkeys(range(5, 10), second)
            metrics = {
                "effective_rank": {task: 4 / value for task, value in values.items()},
                "duplicate_fraction": dict.fromkeys(values, 0.25),
            }
            results.add(spec, values, score="error", metrics=metrics)
            results.add(spec.reference(), 0.1, score="error")

    return write


@pytest.mark.parametrize(("low", "high"), [(1e-200, 1e150), (5e-324, 5e-324), (0.5, 0.5), (1e-3, 1e6)])
def test_errors_of_any_size_are_drawn(stream, results, tmp_path, low, high):
    stream([low], [high], start=0.0, methods=())
    save(error_curves(find_records(results.root)), tmp_path / "figure.svg")
    assert (tmp_path / "figure.svg").stat().st_size > 1000


def test_error_curves_show_means_and_bands_by_step_size(stream, results):
    stream([1.0, 1.5], [2.0, 3.0], lr=0.01, start=0.0, methods=())
    stream([1.0, 1.5], [0.5, 0.75], lr=0.01, start=0.0)
    stream([0.5, 0.5], [0.25, 0.25], lr=0.001, start=0.0)
    figure = error_curves(find_records(results.root))
    assert labels(figure) == ["none", "m", *ERRORS]
    assert [axes.get_title() for axes in figure.axes] == ["step size 0.001", "step size 0.01"]
    assert figure.axes[0].get_ylabel() == "online error"
    slow, fast = figure.axes
    assert {axes.get_yscale() for axes in figure.axes} == {"log"}
    (line,) = means(slow)
    assert line.get_xdata().tolist() == list(range(100, 1100, 100))
    assert line.get_ydata() == pytest.approx([0.5] * 5 + [0.25] * 5)
    assert {tuple(line.get_ydata()) for line in means(fast)} == {(1.25,) * 5 + (2.5,) * 5, (1.25,) * 5 + (0.625,) * 5}
    ends = [set(band.get_paths()[0].vertices[:, 1]) for band in fast.collections]
    assert any(set(interval([2.0, 3.0])) <= found for found in ends)
    colours = {line.get_color() for line in (*means(slow), *means(fast))}
    assert len(colours) == 2
    assert "2 seeds" in figure.get_suptitle()
    assert "stopped" not in figure.get_suptitle()


def test_error_curves_have_a_panel_for_each_width(stream, results):
    for width in (100, 5):
        stream([1.0], [0.5], width=width)
    figure = error_curves(find_records(results.root), "width")
    assert [axes.get_title() for axes in figure.axes] == ["width 5", "width 100"]
    assert labels(figure) == ["m from 0.5", "none until 0.5", *ERRORS]


def test_error_curves_name_architectures_that_stand_together(stream, results):
    stream([1.0], [2.0], start=0.0, methods=())
    stream([0.9], [0.9], start=0.0, methods=(), architecture=results.component("architectures", "linear"))
    figure = error_curves(find_records(results.root))
    fresh = ["fresh network, linear", "fresh network, net:width=8"]
    assert labels(figure) == ["none, linear", "none, net:width=8", *fresh, *ERRORS[1:]]
    assert len(means(figure.axes[0])) == 2


def test_a_line_ends_where_its_first_run_stopped(stream, results):
    stream([1.0, 1.0], [1.0, 1.0], start=0.0, methods=())
    results.add(results.spec(seed=2), dict.fromkeys(range(4), 9.0), score="error", status="diverged")
    figure = error_curves(find_records(results.root))
    (line,) = means(figure.axes[0])
    assert line.get_ydata() == pytest.approx([(1 + 1 + 9) / 3] * 4)
    assert "1 of 3 runs stopped early" in figure.get_suptitle()


def test_a_recipe_of_which_a_run_failed_at_once_has_no_line(stream, results):
    stream([1.0, 1.0], [1.0, 1.0], start=0.0)
    stream([1.0], [1.0], start=0.0, methods=())
    results.add(results.spec(seed=1), {}, score="error", status="failed")
    figure = error_curves(find_records(results.root))
    assert sorted(len(line.get_xdata()) for line in means(figure.axes[0])) == [0, 10]
    assert labels(figure) == ["none", "m", *ERRORS]


@pytest.mark.parametrize(
    ("changes", "panels", "named"),
    [
        ({"lr": 0.1}, "width", "optimizer"),
        ({"width": 9, "numbers": NUMBERS + 1}, "width", "numbers"),
        ({"data": {"name": "other", "content_hash": "00"}}, "step size", "data"),
        ({"architecture": ("net", 2)}, "step size", "the code of net:width=8"),
        ({"architecture": ("other", 1)}, "width", "architecture"),
    ],
)
def test_error_curves_refuse_runs_that_differ_in_more(stream, results, changes, panels, named):
    if isinstance(changes.get("architecture"), tuple):
        name, version = changes["architecture"]
        changes = {"architecture": results.component("architectures", name, version=version, width=8)}
    stream([1.0], [1.0])
    stream([1.0], [1.0], **changes)
    with pytest.raises(ResultsError, match=f"they differ in {named}\\. Select"):
        error_curves(find_records(results.root), panels)


@pytest.mark.parametrize("metric", ["accuracy", "heldout"])
def test_curves_of_accuracies_of_runs_that_score_errors_name_the_errors(stream, results, metric):
    stream([1.0, 1.5], [2.0, 3.0], start=0.0)
    asked = {"accuracy": "online_accuracy", "heldout": "heldout_accuracy"}[metric]
    other = asked.replace("accuracy", "error")
    with pytest.raises(ResultsError, match=f"These runs score errors, and have no {asked}; draw .*--metric {other}"):
        curves(find_records(results.root), asked)


def test_figures_of_errors_need_runs_that_measured_them(many_seeds, results):
    with pytest.raises(ResultsError, match="no run of a learner"):
        error_curves([])
    many_seeds([0.5], architecture=results.component("architectures", "round"))
    records = find_records(results.root)
    for draw in (error_curves, recovery_curves):
        with pytest.raises(ResultsError, match="scored by accuracy, and this figure is of errors"):
            draw(records)
    with pytest.raises(ResultsError, match="round has no width"):
        recovery_bars(records)


# -- recovery


def test_recovery_stacks_error_and_rank_with_the_switch(stream, results):
    stream([1.0, 2.0], [0.5, 0.5])
    stream([1.0, 2.0], [2.0, 4.0], start=0.0, methods=())
    figure = recovery_curves(find_records(results.root))
    assert labels(figure) == ["none", "m from 0.5", "method on", *ERRORS]
    assert [axes.get_ylabel() for axes in figure.axes] == ["online error", "effective rank"]
    for axes in figure.axes:
        (switch,) = [line for line in axes.lines if line.get_linestyle() == "-."]
        assert list(switch.get_xdata()) == [500, 500]
    rank = {tuple(line.get_ydata()) for line in means(figure.axes[1])}
    assert rank == {(3.0,) + (8.0,) * 5, (3.0,) * 5 + (1.5,) * 5}  # what was before is drawn once


def test_recovery_without_a_switch_has_no_line_for_it(stream, results):
    stream([1.0], [1.0], start=0.0, methods=())
    assert labels(recovery_curves(find_records(results.root))) == ["none", *ERRORS]


def test_what_was_before_several_methods_is_drawn_once_and_in_grey(stream, results):
    stream([1.0, 2.0], [0.5, 0.5])
    stream([1.0, 2.0], [0.25, 0.25], methods=(results.component("methods", "other", track="boundary-free"),))
    figure = recovery_curves(find_records(results.root))
    assert labels(figure)[:3] == ["m from 0.5", "other from 0.5", "none until 0.5"]
    error = means(figure.axes[0])
    assert sorted(len(line.get_xdata()) for line in error) == [5, 6, 6]
    assert [line.get_color() for line in error if len(line.get_xdata()) == 5] == [PLAIN]


def test_recovery_refuses_several_protocols_and_unmeasured_metrics(stream, results):
    stream([1.0], [1.0])
    with pytest.raises(ResultsError, match="No run measured 'dead_fraction'"):
        recovery_curves(find_records(results.root), "dead_fraction")
    stream([1.0], [1.0], width=9)
    with pytest.raises(ResultsError, match="they differ in architecture"):
        recovery_curves(find_records(results.root))


def heights(axes):
    return {round(bar.get_x() + bar.get_width() / 2, 3): bar.get_height() for bar in axes.patches}


def test_recovery_bars_show_both_phases_by_width(stream, results):
    stream([1.0, 2.0], [0.5, 0.25], width=5)
    stream([4.0, 4.0], [1.0, 1.0], width=100)
    figure = recovery_bars(find_records(results.root))
    assert labels(figure) == ["none until 0.5", "m from 0.5"]
    assert [axes.get_title() for axes in figure.axes] == ["duplicate fraction", "effective rank", "online error"]
    duplicates, rank, error = figure.axes
    assert heights(error) == pytest.approx({-0.2: 1.5, 0.2: 0.375, 0.8: 4.0, 1.2: 1.0})
    assert heights(rank) == pytest.approx({-0.2: 3.0, 0.2: 12.0, 0.8: 1.0, 1.2: 4.0})
    assert set(heights(duplicates).values()) == {0.25}
    assert [text.get_text() for text in error.get_xticklabels()] == ["5", "100"]
    ends = {tuple(segment[:, 1]) for bars in error.containers for segment in bar_ends(bars)}
    assert interval([1.0, 2.0]) in {tuple(map(float, end)) for end in ends}


def bar_ends(container):
    return container.errorbar.lines[2][0].get_segments() if container.__class__.__name__ == "BarContainer" else []


def test_recovery_bars_take_the_last_task_before_each_moment(results):
    spec = results.spec(results.component("methods", "m", track="boundary-free"), start=0.5)
    results.add(spec, {task: float(task) for task in range(10)}, score="error")
    figure = recovery_bars(find_records(results.root), ["online_error"])
    assert sorted(heights(figure.axes[0]).values()) == [4.0, 9.0]


def test_recovery_bars_of_several_methods_share_what_was_before(stream, results):
    other = results.component("methods", "other", track="boundary-free")
    stream([1.0, 2.0], [0.5, 0.5])
    stream([1.0, 2.0], [0.25, 0.25], methods=(other,))
    stream([1.0, 2.0], [3.0, 3.0], methods=(), start=0.0)
    figure = recovery_bars(find_records(results.root), ["online_error"])
    assert labels(figure) == ["none", "none until 0.5", "m from 0.5", "other from 0.5"]
    assert [height for _, height in sorted(heights(figure.axes[0]).items())] == [3.0, 1.5, 0.5, 0.25]


def test_no_bar_where_a_run_had_stopped(stream, results):
    stream([1.0, 1.0], [0.5, 0.5])
    m = results.component("methods", "m", track="boundary-free")
    stopped = replace(results.spec(m, start=0.5), seed=2)
    results.add(stopped, dict.fromkeys(range(7), 1.0), score="error", status="diverged")
    figure = recovery_bars(find_records(results.root), ["online_error"])
    drawn = [height for height in heights(figure.axes[0]).values() if height == height]
    assert drawn == [1.0]
    assert "1 of 3 runs stopped early" in figure.get_suptitle()


def test_figures_of_streams_are_the_same_bytes_for_the_same_runs(stream, results, tmp_path):
    stream([1.0, 2.0], [0.5, 0.25])
    records = find_records(results.root)
    for draw in (error_curves, recovery_curves, recovery_bars):
        for name, order in (("a", records), ("b", records[::-1])):
            save(draw(order), tmp_path / f"{name}.svg")
        assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


@pytest.mark.parametrize("suffix", ["svg", "pdf", "png"])
def test_saved_figures_are_the_same_bytes_for_the_same_runs(sweep, tmp_path, suffix):
    for name in "ab":
        save(retention_vs_learning_rate(sweep), tmp_path / f"{name}.{suffix}")
    content = (tmp_path / f"a.{suffix}").read_bytes()
    assert len(content) > 1000
    assert content == (tmp_path / f"b.{suffix}").read_bytes()


def test_save_refuses_other_formats_and_bad_places(sweep, tmp_path):
    figure = retention_vs_learning_rate(sweep)
    with pytest.raises(UsageError, match=r"not as 'figure\.jpg'"):
        save(figure, tmp_path / "figure.jpg")
    with pytest.raises(ResultsError, match="cannot be written"):
        save(figure, tmp_path / "absent" / "figure.svg")


def test_a_figure_that_is_interrupted_leaves_the_old_one(sweep, tmp_path, monkeypatch):
    figure = retention_vs_learning_rate(sweep)
    path = tmp_path / "figures" / "figure.svg"
    path.parent.mkdir()
    path.write_text("old")

    def interrupted(target, **_):
        target.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(figure, "savefig", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save(figure, path)
    assert path.read_text() == "old"
    assert [*path.parent.iterdir()] == [path]


def test_characters_that_the_font_does_not_have_are_told(sweep, tmp_path):
    figure = retention_vs_learning_rate(sweep)
    assert save(figure, tmp_path / "figure.svg") == ""
    fit(figure, labels={"m": "\u4e2d\u6587\u4e2d"})
    assert save(figure, tmp_path / "figure.svg") == "\u4e2d\u6587"


def test_a_figure_without_room_is_a_sentence_and_no_file(sweep, tmp_path):
    figure = retention_vs_learning_rate(sweep)
    figure.set_size_inches(0.3, 0.3)
    with pytest.raises(ResultsError, match="has no room for its panels; give it a larger --width"):
        save(figure, tmp_path / "figure.svg")
    figure.set_size_inches(4, 220)
    with pytest.raises(ResultsError, match="would be too high for a PNG"):
        save(figure, tmp_path / "figure.png")
    assert [*tmp_path.glob("*figure*")] == []


def test_figure_from_the_csv_is_the_figure_of_the_frame(sweep, tmp_path):
    import pandas as pd

    to_csv(sweep, tmp_path / "table.csv")
    save(retention_vs_learning_rate(sweep), tmp_path / "a.svg")
    save(retention_vs_learning_rate(pd.read_csv(tmp_path / "table.csv")), tmp_path / "b.svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_importing_results_loads_no_heavy_library():
    code = (
        "import sys, lopbench.results.leaderboard, lopbench.results.plots, lopbench.results.record;"
        "print(sorted({'matplotlib', 'seaborn', 'scipy', 'pandas', 'pyarrow', 'torch'} & set(sys.modules)))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed == "[]\n"


# -- clones beside their bases

CLONED_AT = 4


@pytest.fixture
def clones(results):
    """Return a function that writes runs that were cloned before task 4, of a loss and R2 for each seed."""

    def write(found, *methods, base=0.9, **changes):
        for seed, (loss, r2) in enumerate(found):
            late = range(CLONED_AT, 10)
            results.add(
                results.spec(*methods, seed=seed, **changes),
                0.5,
                metrics={
                    "online_loss": {task: base if task < CLONED_AT else loss for task in range(10)},
                    "base_online_loss": dict.fromkeys(late, base),
                    "effective_rank": {task: 5.0 if task < CLONED_AT else 8.0 for task in range(10)},
                    "base_effective_rank": dict.fromkeys(late, 6.0),
                    "cloning_r2_forward": dict.fromkeys(late, r2),
                    "cloning_r2_backward": dict.fromkeys(late, r2 + 0.2),
                },
            )

    return write


def drawn(axes):
    """Return place, values and style of each line that has any."""
    return [
        (line.get_xdata().tolist(), line.get_ydata().tolist(), line.get_linestyle(), line.get_color())
        for line in axes.lines
        if len(line.get_xdata()) and line.get_linestyle() in "--"
    ]


def test_cloning_figure_shows_the_clone_and_the_base_before_and_beside_it(clones, results):
    clones([(0.5, 0.6), (0.7, 0.8)], results.component("methods", "m", track="boundary-free"))
    figure = cloning_curves(find_records(results.root))
    r2, loss, rank = figure.axes
    assert [axes.get_title() for axes in figure.axes] == ["cloning R2", "online loss", "effective rank"]
    assert labels(figure) == ["m", "clone", "base", "cloning"]
    after, whole = [5.0, 6.0, 7.0, 8.0, 9.0, 10.0], [float(epoch) for epoch in range(1, 11)]
    ((places, found, style, colour),) = drawn(r2)
    assert (places, style) == (after, "-")
    assert found == pytest.approx([0.8] * 6)  # of both directions and both seeds
    clone, base = drawn(loss)
    assert clone == (after, pytest.approx([0.6] * 6), "-", colour)
    assert base == (whole, pytest.approx([0.9] * 10), "--", colour)
    assert drawn(rank)[1][1] == [5.0] * 4 + [6.0] * 6
    for axes in figure.axes:
        assert [line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == "-."] == [CLONED_AT]


def test_cloning_figure_draws_a_base_that_clones_share_once_and_in_grey(clones, results):
    clones([(0.8, 0.8)])
    clones([(0.5, 0.6)], results.component("methods", "m", track="boundary-free"))
    clones([(0.7, 0.7)], results.component("methods", "dropout", track="boundary-free"), base=1.1)
    _, loss, _ = cloning_curves(find_records(results.root)).axes
    bases = [(values[0], colour) for _, values, style, colour in drawn(loss) if style == "--"]
    clones_ = {values[0]: colour for _, values, style, colour in drawn(loss) if style == "-"}
    assert sorted(bases, key=str) == [(0.9, "0.2"), (1.1, clones_[0.7])]


def test_cloning_figure_of_optimizers_names_them_and_refuses_several_methods(clones, results):
    clones([(0.8, 0.8)], lr=1e-3)
    clones([(0.7, 0.9)], lr=1e-2)
    records = find_records(results.root)
    with pytest.raises(ResultsError, match=r"optimizer\. Select one optimizer: adam:lr=0\.001, adam:lr=0\.01\."):
        cloning_curves(records)
    assert labels(cloning_curves(records, "optimizer"))[:2] == ["adam:lr=0.001", "adam:lr=0.01"]
    clones([(0.7, 0.9)], results.component("methods", "m", track="boundary-free"), lr=1e-2)
    with pytest.raises(ResultsError, match="holds one method, got m, none"):
        cloning_curves(find_records(results.root), "optimizer")


def test_cloning_figure_needs_clones_and_can_show_another_r2(clones, results, many_seeds):
    many_seeds([0.5], data={"name": "other", "content_hash": "00"})
    with pytest.raises(ResultsError, match="No run has measured a base beside its clone"):
        cloning_curves(find_records(results.root))
    clones([(0.8, 0.7)])
    records = [record for record in find_records(results.root) if record.spec.data["name"] != "other"]
    ((_, found, _, _),) = drawn(cloning_curves(records, r2=("cloning_r2_forward",)).axes[0])
    assert found == pytest.approx([0.7] * 6)
    with pytest.raises(ResultsError, match="No run measured 'cloning_r2_authors'"):
        cloning_curves(records, r2=("cloning_r2_authors",))


def test_cloning_figure_is_the_same_file_every_time(clones, results, tmp_path):
    clones([(0.8, 0.8), (0.7, 0.9)])
    for name in ("one.svg", "two.svg"):
        save(cloning_curves(find_records(results.root)), tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()


def test_curves_of_clones_name_what_they_are_measured_against(results):
    for seed in range(2):
        spec = results.spec(seed=seed)
        beside = {"base_online_accuracy": dict.fromkeys(range(CLONED_AT, 10), 0.6)}
        results.add(spec, 0.7, whole=beside)
        results.add(spec.reference(), 0.8)
    records = find_records(results.root)
    for metric, label, name in (
        (RETENTION, "learner over base, S/F", "base"),
        ("online_accuracy", "online accuracy", "fresh network as wide"),
    ):
        figure = curves(records, metric)
        assert figure.axes[0].get_ylabel() == label
        assert labels(figure) == ["none", name, "chance", "scored tasks"]
    assert labels(retention_vs_learning_rate(leaderboard(results.root))) == ["none", "base", "chance"]
