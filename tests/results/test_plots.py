import subprocess
import sys

import pytest

from lopbench.core.errors import ResultsError
from lopbench.results.leaderboard import leaderboard, to_csv
from lopbench.results.plots import curves, retention_vs_learning_rate, save
from lopbench.results.record import find_records


def labels(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


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
    assert labels(figure) == ["fresh network", "none", "m"]
    drawn = {container.get_label(): container for container in axes.containers}
    for method, rows in sweep.groupby("method"):
        line, _, (bars,) = drawn[method].lines
        rows = rows.sort_values("lr")
        assert line.get_ydata().tolist() == rows["retention"].tolist()
        assert line.get_xdata() == pytest.approx(rows["lr"].to_numpy(), rel=0.02)
        ends = [segment[:, 1] for segment in bars.get_segments()]
        assert ends == [pytest.approx(pair) for pair in rows[["retention_low", "retention_high"]].to_numpy()]
    assert "2 seeds" in axes.get_title()


def test_single_seed_is_drawn_without_a_bar(many_seeds, results):
    many_seeds([0.5])
    bars = retention_vs_learning_rate(leaderboard(results.root)).axes[0].containers[0].lines[2][0]
    (segment,) = bars.get_segments()
    assert segment[0, 1] == segment[1, 1]


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


def test_curves_show_methods_and_the_reference(many_seeds, results):
    many_seeds([0.5, 0.6])
    many_seeds([0.7, 0.8], results.component("methods", "m", track="boundary-free"))
    figure = curves(find_records(results.root))
    assert labels(figure) == ["none", "m", "fresh network"]
    lines = [line for line in figure.axes[0].lines if len(line.get_xdata())]
    assert lines[0].get_ydata() == pytest.approx([0.55] * 10)
    assert lines[1].get_ydata() == pytest.approx([0.75] * 10)
    assert lines[2].get_xdata().tolist() == [5, 6, 7, 8, 9]
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
    many_seeds([0.5], lr=1e-3)
    with pytest.raises(ResultsError, match="several protocols"):
        curves(find_records(results.root))


@pytest.mark.parametrize("suffix", ["svg", "pdf", "png"])
def test_saved_figures_are_the_same_bytes_for_the_same_runs(sweep, tmp_path, suffix):
    for name in "ab":
        save(retention_vs_learning_rate(sweep), tmp_path / f"{name}.{suffix}")
    content = (tmp_path / f"a.{suffix}").read_bytes()
    assert len(content) > 1000
    assert content == (tmp_path / f"b.{suffix}").read_bytes()


def test_save_refuses_other_formats_and_bad_places(sweep, tmp_path):
    figure = retention_vs_learning_rate(sweep)
    with pytest.raises(ResultsError, match=r"not as 'figure\.jpg'"):
        save(figure, tmp_path / "figure.jpg")
    with pytest.raises(ResultsError, match="cannot be written"):
        save(figure, tmp_path / "absent" / "figure.svg")


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
