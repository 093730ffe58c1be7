"""Numbers of entries by seed: those behind the leaderboard's means, and diagnostics over parts of the stream."""

import math

import pytest

from lopbench.core.errors import ResultsError
from lopbench.results.leaderboard import board
from lopbench.results.per_seed import COLUMNS, RETENTIONS, Quantity, over
from lopbench.results.statistics import interval, t_interval


def test_a_column_is_the_mean_of_its_numbers(results):
    for seed, value in enumerate([0.6, 0.7, 0.8]):
        spec = results.spec(seed=seed)
        results.add(spec, {task: value - 0.01 * task for task in range(10)}, dict.fromkeys(range(10), 0.5))
        for reference in (spec.reference(), spec.own_reference()):
            tasks = range(10)
            results.add(reference, dict.fromkeys(tasks, 0.8), dict.fromkeys(tasks, 0.6))
    [entry] = board(results.root).entries
    for name in COLUMNS:
        values = Quantity(name).values(entry.group)
        if values:
            assert entry.row[name] == pytest.approx(sum(values.values()) / len(values)), name
        else:
            assert math.isnan(entry.row[name]), name
    assert set(Quantity("retention").values(entry.group)) == {0, 1, 2}


def test_those_that_can_collapse_are_the_retentions():
    assert sorted(COLUMNS.keys() - RETENTIONS) == [
        "error_above_fresh",
        "forgetting",
        "late_early",
        "lifetime_online",
        "trend",
    ]
    assert Quantity("retention").is_retention
    assert not Quantity("retention", "late").is_retention  # a metric of that name


def test_a_metric_is_taken_over_parts_of_the_stream():
    known = {task: 2.0 * task for task in range(100)}
    assert over(known, 100, "late") == pytest.approx(2 * 89.5)
    assert over(known, 100, "early") == pytest.approx(2 * 9.5)
    assert over(known, 100, "change") == pytest.approx(160)
    assert over(known, 100, "end") == pytest.approx(197)
    assert over(known, 100, "mean") == pytest.approx(99)
    assert over(known, 100, "trend") == pytest.approx(20)  # ten tasks are a tenth of the stream
    warm_up = {**known, **dict.fromkeys(range(20), 1000.0)}
    assert over(warm_up, 100, "trend") == pytest.approx(20)
    assert math.isnan(over({}, 100, "late"))
    assert math.isnan(over({98: 1.0, 99: 2.0}, 100, "trend"))


def test_a_run_that_stopped_has_no_metric_and_layers_are_averaged(results):
    for seed, status in enumerate(["completed", "diverged"]):
        spec = results.spec(seed=seed)
        results.add(spec, 0.5, metrics={"dead_fraction": dict.fromkeys(range(10), 0.25)}, status=status)
    [entry] = board(results.root).entries
    assert Quantity("dead_fraction", "late").values(entry.group) == {0: 0.25}


def test_a_metric_of_one_layer_is_no_mean(results):
    spec = results.spec()
    results.add(spec, 0.5, metrics={"dead_fraction": dict.fromkeys(range(10), 0.25)})
    [entry] = board(results.root).entries
    assert Quantity("dead_fraction", "late", 1).values(entry.group) == {0: 0.25}
    with pytest.raises(
        ResultsError, match=r"dead_fraction has no layer 2 in .*; its layers, counted from 1, are hidden"
    ):
        Quantity("dead_fraction", "late", 2).values(entry.group)


def test_slopes_have_students_interval_as_the_column_has():
    values = [0.1, 0.2, 0.4]
    assert Quantity("trend").interval(values) == t_interval(values)
    assert Quantity("dead_fraction", "trend").interval(values) == t_interval(values)
    assert Quantity("dead_fraction", "late").interval(values) == interval(values)
