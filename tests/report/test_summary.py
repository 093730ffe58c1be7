import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lopbench.core.errors import ResultsError
from lopbench.report import summary as module
from lopbench.report.page import render
from lopbench.report.summary import Bins, band, summarise
from lopbench.results.statistics import interval


def test_band_is_the_mean_and_the_interval_of_each_column():
    values = np.random.default_rng(0).lognormal(size=(7, 4))
    mean, low, high = band(values)
    assert mean == pytest.approx(values.mean(axis=0))
    for column, ends in zip(values.T, zip(low, high, strict=True), strict=True):
        error = column.std(ddof=1) / math.sqrt(7)
        assert ends == pytest.approx(interval(column.tolist()), abs=0.12 * error)  # of other draws


@given(st.lists(st.floats(-10, 10), min_size=3, max_size=3))
def test_band_of_three_seeds_ends_at_the_smallest_and_the_largest(values):
    # 1 in 27 resamples has one seed only, which is more than the tail.
    _, (low,), (high,) = band(np.array(values)[:, None])
    assert (low, high) == pytest.approx((min(values), max(values)))


def test_band_of_one_seed_has_no_interval_and_of_nan_is_nan():
    assert band(np.array([[1.0, 2.0]])).tolist() == [[1.0, 2.0]]
    made = band(np.array([[1.0, np.nan], [2.0, 1.0]]))
    assert np.isfinite(made[:, 0]).all()
    assert np.isnan(made[:, 1]).all()


@given(st.integers(1, 400), st.integers(1, 200))
def test_bins_cover_each_task_once_and_keep_to_the_number_of_points(tasks, points):
    parts = Bins(tasks, points).parts
    assert [task for part in parts for task in part] == list(range(tasks))
    assert len(parts) <= points


def test_bins_leave_out_tasks_that_a_seed_lacks():
    values = np.array([[1.0, 2.0, 3.0, 4.0, 5.0], [1.0, np.nan, 5.0, np.nan, np.nan]])
    assert Bins(5, 5).means(values)[0].tolist()[0] == 1.0
    # Points of two tasks: task 0 alone, task 2 alone, none.
    made = Bins(5, 3).means(values)
    assert made[:, :2].tolist() == [[1.0, 3.0], [1.0, 5.0]]
    assert np.isnan(made[:, 2]).all()


def test_rows_have_the_numbers_of_the_leaderboard(many_seeds, results):
    many_seeds([0.5, 0.6, 0.7])
    (table,) = summarise(results.root).tables
    (row,) = table.rows
    assert table.metrics[:2] == ("retention", "online_accuracy")
    assert row.curves["online_accuracy"][0] == pytest.approx([0.6] * 10)
    retention = row.curves["retention"]
    assert np.isnan(retention[:, :5]).all()
    # (0.6 - 0.2) / (0.8 - 0.2); at three seeds the interval is from the smallest to the largest
    assert retention[:, 5:] == pytest.approx(np.repeat([[2 / 3], [0.5], [5 / 6]], 5, axis=1))
    assert retention[0, -1] == pytest.approx(row.line["retention"])
    assert table.fresh["online_accuracy"][0, 5:] == pytest.approx([0.8] * 5)
    assert table.references == 3


def test_errors_have_retentions_of_errors(results):
    spec = results.spec()
    results.add(spec, 0.4, score="error", chance=0.5)
    results.add(spec.reference(), 0.1, score="error", chance=0.5)
    (table,) = summarise(results.root).tables
    assert table.metrics[:2] == ("retention", "online_error")
    assert table.rows[0].curves["retention"][0, 5:] == pytest.approx([0.25] * 5)


def test_an_accuracy_goes_on_at_chance_where_a_run_stopped_and_all_else_ends(many_seeds, results):
    many_seeds([0.8, 0.8])
    metrics = {"effective_rank": {0: 4.0, 1: 5.0}}
    results.add(results.spec(seed=2), {0: 0.8, 1: 0.8}, status="diverged", metrics=metrics)
    for seed in (0, 1):
        spec = results.spec(results.component("methods", "m", track="boundary-free"), seed=seed)
        ranks = {"effective_rank": dict.fromkeys(range(10) if seed == 0 else range(3), 4.0)}
        results.add(spec, 0.5, metrics=ranks, status="completed")
    (table,) = summarise(results.root).tables
    none, m = sorted(table.rows, key=lambda row: row.line["method"], reverse=True)
    assert none.curves["online_accuracy"][0] == pytest.approx([0.8, 0.8] + [0.6] * 8)
    assert "effective_rank" not in none.curves  # two of three seeds have none
    assert np.isfinite(m.curves["effective_rank"][0]).tolist() == [True] * 3 + [False] * 7


def test_layers_stand_in_the_order_of_the_network_and_are_means_over_probes(filled):
    table = max(summarise(filled.root).tables, key=lambda table: len(table.rows))
    assert table.layers["dead_fraction"] == ("in", "out")
    row = next(row for row in table.rows if row.line["method"] == "m")
    assert row.layers["dead_fraction"]["out"] == pytest.approx([0.11 + 0.01 * task for task in range(10)])
    assert row.curves["dead_fraction"][0] == pytest.approx([0.06 + 0.01 * task for task in range(10)])


def test_failures_of_one_reason_stand_together_and_references_count(many_seeds, results):
    many_seeds([0.5])
    for seed in (1, 3):
        spec = results.spec(seed=seed)
        results.add(spec, {0: 0.5}, status="failed", error="boom")
        results.add(spec.reference(), {5: 0.5}, status="diverged", diverged_at=7)
    reference, run = sorted(summarise(results.root).failures, key=lambda failure: failure.outcome)
    assert (run.what, run.reason, [seed for seed, _ in run.runs]) == ("none", "boom", [1, 3])
    assert (reference.what, reference.reason) == ("fresh networks, the reference", "no longer finite")


def test_methods_of_one_label_but_other_code_are_rows_of_their_own(many_seeds, results):
    for version, value in ((1, 0.5), (2, 0.7)):
        many_seeds([value], results.component("methods", "m", track="boundary-free", version=version))
    (table,) = summarise(results.root).tables
    shown = {row.spec.methods[0].version: row.curves["online_accuracy"][0, 0] for row in table.rows}
    assert shown == pytest.approx({1: 0.5, 2: 0.7})


def test_curves_get_coarser_where_there_are_many(many_seeds, results, monkeypatch):
    many_seeds([0.5])
    assert summarise(results.root).tables[0].bins.span == 1
    monkeypatch.setattr(module, "BUDGET", 15)
    monkeypatch.setattr(module, "POINTS", (10, 5, 2))
    # One curve, its seed, and the chance that is counted with them.
    assert summarise(results.root).tables[0].bins.span == 2


def test_damaged_records_are_left_out_and_named(many_seeds, results):
    many_seeds([0.5, 0.6])
    damaged = results.add(replace(results.spec(), seed=2), 0.5)
    (damaged / "measurements.parquet").write_bytes(b"no")
    made = summarise(results.root)
    assert (made.runs, made.references) == (2, 2)
    (problem,) = made.problems
    assert damaged.name in str(problem)


def test_no_runs_is_an_error(tmp_path):
    with pytest.raises(ResultsError, match="There are no runs"):
        summarise(tmp_path)


def test_where_there_are_too_many_runs_layers_go_and_the_page_says_so(filled, monkeypatch):
    whole = summarise(filled.root)
    assert whole.layered
    assert all(table.layers for table in whole.tables)
    monkeypatch.setattr(module, "BUDGET", 1)
    thin = summarise(filled.root)
    assert not thin.layered
    assert [table.layers for table in thin.tables] == [{}, {}]
    assert thin.tables[0].bins.points == module.POINTS[-1]
    assert "leave no room for numbers of layers" in render(thin, "thin")
    assert "leave no room" not in render(whole, "whole")
