import copy
import io
import json
import math
import os
import pickle
import re
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from lopbench.core.errors import ResultsError
from lopbench.core.manager import plugins
from lopbench.core.registry import Distribution, Registration
from lopbench.core.spec import NUMBERS, SCHEMA_VERSION, ComponentSpec, RunSpec
from lopbench.results import columns
from lopbench.results.compare import compare
from lopbench.results.leaderboard import (
    COLUMNS,
    ResultsWarning,
    board,
    latex,
    leaderboard,
    markdown,
    render,
    seed_ranges,
    to_csv,
)
from lopbench.results.pack import pack
from lopbench.results.pairs import Entrant
from lopbench.results.ranks import rank_ranges
from lopbench.results.record import write_record
from lopbench.results.statistics import interval
from lopbench.results.tables import html, rank_text
from lopbench_plugins.scenarios.bitflip import BitFlip


def only(frame):
    assert len(frame) == 1
    return frame.iloc[0]


def printed(frame, width=200):
    console = Console(width=width, force_terminal=False)
    with console.capture() as capture:
        render(frame, console)
    return capture.get()


def test_one_row_by_hand(results):
    online = dict.fromkeys(range(5), 0.9) | {5: 0.7, 6: 0.6, 7: 0.5, 8: 0.5, 9: 0.4}
    method = results.component("methods", "m", track="boundary-aware")
    spec = results.spec(method)
    results.add(spec, online, dict.fromkeys(range(10), 0.35))
    results.add(spec.reference(), {5: 0.8, 6: 0.8, 7: 0.8, 8: 0.8, 9: 0.7}, dict.fromkeys(range(5, 10), 0.5))
    results.add(spec.own_reference(), 0.74)
    row = only(leaderboard(results.root))
    assert row["retention"] == pytest.approx(1.7 / 2.9, rel=1e-12)  # sums above 0.2
    assert math.isnan(row["retention_low"])
    assert math.isnan(row["retention_high"])
    assert list(row[["headline", "reference"]]) == ["trainability", "fresh network"]
    assert row["trainability"] == row["retention"]
    assert row["generalisation"] == pytest.approx(0.15 / 0.3, rel=1e-12)
    assert row["self_retention"] == pytest.approx(1.7 / 2.7, rel=1e-12)
    assert row["fresh_retention"] == pytest.approx(2.7 / 2.9, rel=1e-12)
    assert row["ceiling"] == pytest.approx(4 / 2.9, rel=1e-12)
    assert row["lifetime_online"] == pytest.approx(7.2 / 10, rel=1e-12)
    assert row["late_early"] == pytest.approx(2.7 / 4.5, rel=1e-12)
    assert math.isnan(row["speed"])
    assert math.isnan(row["memory"])
    assert list(row[["seeds", "diverged", "failed", "unpaired"]]) == [1, 0, 0, 0]
    assert list(row[["scenario", "profile", "method", "track", "optimizer", "lr"]]) == [
        "toy",
        "lite",
        "m",
        "boundary-aware",
        "adam:lr=0.003",
        0.003,
    ]
    assert row["protocol_id"] == spec.protocol_id
    assert row["data"] == "toy-images@0123456789ab"
    assert row["schema_version"] == SCHEMA_VERSION
    assert row["entry_id"] == spec.entry_id
    assert row["ranked"]
    assert row["notes"] == ""


def test_columns_are_those_that_are_declared(many_seeds, results):
    many_seeds([0.5])
    frame = leaderboard(results.root)
    assert tuple(frame.columns) == COLUMNS
    assert set(COLUMNS) == {column.name for column in columns.COLUMNS}
    assert COLUMNS[:3] == ("method", "optimizer", "retention")
    assert len(set(COLUMNS)) == len(COLUMNS)
    assert all(column.meaning.endswith(".") for column in columns.COLUMNS)
    assert set(columns.SECONDARY) < set(COLUMNS)


def test_interval_is_over_the_retentions_of_the_seeds(many_seeds, results):
    values = [0.5, 0.62, 0.56, 0.8, 0.44]
    many_seeds(values)
    row = only(leaderboard(results.root))
    retentions = [(5 * value - 1.0) / 3.0 for value in values]
    assert row["retention"] == pytest.approx(np.mean(retentions), rel=1e-12)
    assert (row["retention_low"], row["retention_high"]) == pytest.approx(interval(retentions), rel=1e-9)
    assert row["seeds"] == 5


def test_each_seed_meets_its_own_reference(results):
    for seed, (learner, fresh) in enumerate([(0.4, 0.4), (0.8, 0.8)]):
        results.add(results.spec(seed=seed), learner)
        results.add(results.spec(seed=seed).reference(), fresh)
    row = only(leaderboard(results.root))
    assert (row["retention"], row["retention_low"], row["retention_high"]) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize("status", ["diverged", "failed"])
def test_diverged_and_failed_runs_count_at_the_floor(results, many_seeds, status):
    many_seeds([0.8])
    spec = results.spec(seed=1)
    results.add(spec, dict.fromkeys(range(7), 0.8), status=status, diverged_at=750 if status == "diverged" else None)
    results.add(spec.reference(), 0.8)
    row = only(leaderboard(results.root))
    # Seed 0 retains 1; seed 1 has 0.6 above chance in two of five late tasks.
    assert row["retention"] == pytest.approx((1 + 2 / 5) / 2, rel=1e-12)
    assert row["lifetime_online"] == pytest.approx((0.8 + (7 * 0.8 + 3 * 0.2) / 10) / 2, rel=1e-12)
    assert row[status] == 1
    assert row["unpaired"] == 0
    assert row["notes"] == f"{status}: seed 1"


def test_run_that_failed_at_once_scores_zero(results):
    spec = results.spec()
    results.add(spec, {}, status="failed", error="out of memory")
    results.add(spec.reference(), 0.8)
    row = only(leaderboard(results.root))
    assert row["retention"] == 0.0
    assert row["lifetime_online"] == pytest.approx(0.2, rel=1e-12)


def test_floor_is_the_chance_of_the_task(results):
    spec = results.spec()
    results.add(spec, dict.fromkeys(range(5), 0.8), status="diverged", chance=0.5)
    results.add(spec.reference(), 0.8, chance=0.25)
    assert only(leaderboard(results.root))["retention"] == 0.0


def test_seed_without_reference_is_unpaired_and_told(results, many_seeds):
    many_seeds([0.5, 0.5])
    results.add(results.spec(seed=2), 0.9)
    row = only(leaderboard(results.root))
    assert row["retention"] == pytest.approx(0.5, rel=1e-12)
    assert list(row[["seeds", "unpaired"]]) == [3, 1]
    assert row["notes"] == "no completed fresh reference: seed 2"


def test_diverged_reference_is_no_reference(results):
    spec = results.spec()
    results.add(spec, 0.8)
    results.add(spec.reference(), {5: 0.8}, status="diverged", diverged_at=10)
    row = only(leaderboard(results.root))
    assert math.isnan(row["retention"])
    assert row["unpaired"] == 1


def test_reference_at_chance_gives_a_reason_and_no_number(results):
    spec = results.spec()
    results.add(spec, 0.8)
    results.add(spec.reference(), 0.2)
    row = only(leaderboard(results.root))
    assert math.isnan(row["retention"])
    assert row["notes"] == "fresh reference not above chance: seed 0"


def test_a_record_of_a_negative_error_is_left_out_and_named(results):
    spec = results.spec()
    results.add(spec, 0.5, score="error")
    results.add(spec.reference(), 0.1, score="error")
    path = results.add(results.spec(seed=1), dict.fromkeys(range(10), 0.5) | {9: -1.0}, score="error")
    made = board(results.root)
    assert only(made.rows)["coverage"] == "0"
    assert [str(problem) for problem in made.problems] == [
        f"The run record {path} is damaged: online_error of a task is -1, and an error is at least 0. "
        "Remove that directory and run its spec again."
    ]


def test_completed_run_with_a_missing_task_is_refused(results):
    spec = results.spec()
    path = results.add(spec, dict.fromkeys(range(9), 0.8))
    results.add(spec.reference(), 0.8)
    with pytest.raises(ResultsError, match=rf"{path.name} is incomplete.*no online_accuracy for task 9"):
        leaderboard(results.root)


def test_protocols_are_separate_rows(many_seeds, results):
    changes = [
        {},
        {"profile": "smoke"},
        {"data": {"name": "toy-images", "content_hash": "f" * 16}},
        {"data": {"name": "procedural", "content_hash": "0123456789abcdef"}},
        {"architecture": results.component("architectures", "net", width=16)},
        {"architecture": results.component("architectures", "net", version=2, width=8)},
        {"reference_optimizer": ComponentSpec.parse("optimizers", "adam:lr=2e-3")},
        {"numbers": NUMBERS + 1},
    ]
    for change in changes:
        many_seeds([0.5], **change)
    frame = leaderboard(results.root)
    assert len(frame) == len(changes)
    assert frame["protocol_id"].is_unique
    assert frame["entry_id"].nunique() == 1
    assert frame.set_index("profile")["ranked"].to_dict() == {"lite": True, "smoke": False}


def test_methods_of_one_protocol_with_other_code_are_not_pooled(many_seeds, results):
    for version in (1, 2):
        many_seeds([0.5], results.component("methods", "m", track="boundary-free", version=version))
    frame = leaderboard(results.root)
    assert frame["method"].tolist() == ["m", "m"]
    assert set(frame["notes"]) == {f"code: m version {version} of tests" for version in (1, 2)}


def test_entries_of_one_protocol_are_separate_rows(many_seeds, results):
    method = results.component("methods", "m", track="boundary-free")
    for methods, change in (((), {}), ((), {"lr": 1e-3}), ((method,), {}), ((method,), {"start": 0.5})):
        many_seeds([0.5], *methods, **change)
    frame = leaderboard(results.root)
    assert len(frame) == 4
    assert frame["protocol_id"].nunique() == 1
    assert frame["entry_id"].is_unique
    assert frame["method_id"].nunique() == 3  # the same methods, with any optimizer


def test_runs_pool_whatever_they_measured_and_whichever_release_made_them(results):
    for seed, metrics in enumerate([(), (results.component("metrics", "rank", tau=0.5),)]):
        spec = results.spec(seed=seed, metrics=metrics)
        results.add(spec, 0.5, environment={"versions": {"lopbench": f"{seed}.0"}, "code": f"{seed}"})
        results.add(spec.reference(), 0.8)
    row = only(leaderboard(results.root))
    assert list(row[["seeds", "coverage", "unpaired", "notes"]]) == [2, "0-1", 0, ""]


def test_a_seed_that_was_measured_twice_counts_once_however_it_ended(results):
    rank, dead = (results.component("metrics", name) for name in ("rank", "dead"))
    for value, metrics, status in ((0.6, (rank,), "completed"), (0.4, (rank, dead), "diverged"), (0.7, (), "failed")):
        results.add(results.spec(metrics=metrics), value, status=status)
    results.add(results.spec().reference(), 0.8)
    made = board(results.root)
    row = only(made.rows)
    assert row["seeds"] == 1
    assert row["retention"] == pytest.approx(0.2 / 0.6)  # that of most metrics
    assert row["notes"] == "diverged: seed 0; measured again with other metrics, counted once: seed 0"
    assert [len(record.spec.metrics) for record in made.records if record.spec.kind == "continual"] == [2]


def test_control_comes_last_after_others_by_falling_retention(many_seeds, results):
    for name, value in (("a", 0.3), ("b", 0.9), ("reset", 0.5)):
        many_seeds([value], results.component("methods", name, track="boundary-free"))
    results.add(results.spec(results.component("methods", "alone", track="replay"), seed=9), 0.9)
    assert leaderboard(results.root)["method"].tolist() == ["b", "a", "alone", "reset"]


@pytest.mark.parametrize(
    ("tracks", "expected"),
    [
        ([], "boundary-free"),
        (["boundary-free", "boundary-aware"], "boundary-aware"),
        (["replay", "boundary-free"], "replay"),
        (["boundary-free", None], "unknown"),
    ],
)
def test_composition_competes_in_the_last_track_of_its_parts(results, tracks, expected):
    methods = [results.component("methods", f"m{i}", track=track) for i, track in enumerate(tracks)]
    results.add(results.spec(*methods), 0.5)
    assert only(leaderboard(results.root))["track"] == expected


def test_cost_is_relative_to_none_on_the_same_hardware(results):
    cpu, gpu = {"device": "cpu", "threads": 2}, {"device": "cuda", "threads": 2}
    slow = results.component("methods", "slow", track="boundary-free")
    results.add(results.spec(), 0.5, environment=cpu, train_time_s=10.0)  # 100 steps/s
    results.add(results.spec(slow), 0.5, environment=cpu, train_time_s=40.0, state_bytes=3_000_000)
    results.add(results.spec(slow, seed=1), 0.5, environment=gpu, train_time_s=1.0)
    frame = leaderboard(results.root).set_index("method")
    assert frame.loc["slow", "speed"] == pytest.approx(0.25, rel=1e-12)
    assert frame.loc["slow", "memory"] == pytest.approx(3.0, rel=1e-12)
    assert frame.loc["none", "speed"] == 1.0


def test_copies_of_a_run_count_once(many_seeds, results, tmp_path):
    many_seeds([0.5, 0.6])
    shutil.copytree(results.root, tmp_path / "copy")
    pd.testing.assert_frame_equal(leaderboard(results.root, tmp_path / "copy"), leaderboard(results.root))


def test_one_run_with_two_results_is_refused(results, tmp_path):
    results.add(results.spec(), 0.5)
    results.add(results.spec(), 0.6, root=tmp_path / "other")
    with pytest.raises(ResultsError, match="the same run with different results"):
        leaderboard(results.root, tmp_path / "other")


def test_digest_covers_measurements_and_references(many_seeds, results, tmp_path):
    many_seeds([0.5])
    first = only(leaderboard(results.root))["inputs_digest"]
    assert only(leaderboard(results.root))["inputs_digest"] == first
    for name, (learner, fresh) in {"a": (0.51, 0.8), "b": (0.5, 0.81)}.items():
        results.add(results.spec(), learner, root=tmp_path / name)
        results.add(results.spec().reference(), fresh, root=tmp_path / name)
        assert only(leaderboard(tmp_path / name))["inputs_digest"] != first


def test_unused_references_make_no_rows_and_no_runs_is_an_error(results):
    results.add(results.spec().reference(), 0.8)
    with pytest.raises(ResultsError, match="There are no runs in"):
        leaderboard(results.root)


@pytest.mark.parametrize("tasks", [None, 0, -1, 2.5, 10**6 + 1, 2**63, 10**30])
@pytest.mark.parametrize("outcome", ["completed", "diverged"])
def test_scenario_without_tasks_that_can_be_cannot_be_scored(results, tasks, outcome):
    fields = {} if tasks is None else {"tasks": tasks}
    spec = results.spec(scenario=results.component("scenarios", "odd", profile="lite", **fields))
    results.add(spec, {0: 0.5}, status=outcome, error="nan" if outcome == "diverged" else None)
    with pytest.raises(ResultsError, match=re.escape(f"cannot be scored: its scenario has tasks={tasks}")):
        leaderboard(results.root)


def test_csv_keeps_every_digit(many_seeds, results, tmp_path):
    many_seeds([0.51, 0.63, 0.57])
    frame = leaderboard(results.root)
    to_csv(frame, tmp_path / "table.csv")
    again = pd.read_csv(tmp_path / "table.csv")
    for column in ("retention", "retention_low", "retention_high", "lifetime_online"):
        assert again[column].tolist() == frame[column].tolist()
    assert tuple(again.columns) == COLUMNS
    assert printed(again) == printed(frame)
    assert [p.name for p in tmp_path.iterdir() if p.suffix != ""] == ["table.csv"]


def test_csv_that_cannot_be_written_is_a_sentence(many_seeds, results, tmp_path):
    many_seeds([0.5])
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ResultsError, match="cannot be written to"):
        to_csv(leaderboard(results.root), tmp_path / "file" / "table.csv")


def test_rendered_table_says_what_it_shows(many_seeds, results):
    many_seeds([0.5, 0.62, 0.56, 0.8, 0.44])
    results.add(results.spec(results.component("methods", "m[bold]", track="boundary-aware")), {}, status="failed")
    text = printed(leaderboard(results.root))
    row = leaderboard(results.root).iloc[0]
    assert f"{row['retention']:.2f} [{row['retention_low']:.2f}, {row['retention_high']:.2f}]" in text
    assert "m[bold]" in text  # a name is text, not markup
    assert "m[bold]: seed 0; 1 of 1 seed collapsed; unranked: 1 seed with a retention, ranks take 5; failed:" in text
    assert "1 to 5 seeds" in text
    assert "95% confidence interval (bootstrap over seeds)" in text
    assert row["protocol_id"] in text
    assert "Unranked" not in text
    assert "rocedural" not in text


def test_rendered_table_warns_of_procedural_data_and_smoke(many_seeds, results):
    many_seeds([0.5], profile="smoke", data={"name": "procedural", "content_hash": "00"})
    text = printed(leaderboard(results.root))
    assert "Procedural images, not a real data set" in text
    assert "Unranked" in text


def test_numbers_fit_in_eighty_columns(many_seeds, results):
    many_seeds([0.5, 0.62], results.component("methods", "name_of_18_letters", track="boundary-aware"))
    text = printed(leaderboard(results.root), width=80)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80


def test_record_without_the_plugins_is_readable(results):
    path = results.add(results.spec(results.component("methods", "elsewhere", track="replay", rate=0.5)), 0.5)
    assert json.loads((path / "spec.json").read_text())["methods"][0]["origin"] == "tests"
    assert only(leaderboard(results.root))["method"] == "elsewhere:rate=0.5"


def test_tables_ask_no_component_what_the_record_says(results, monkeypatch):
    """Neither another default nor a plugin that is missing changes a table; a record without the facts asks."""
    for methods in (
        (),
        (ComponentSpec.parse("methods", "cbp:maturity=7"),),
        (ComponentSpec.parse("methods", "reset"),),
    ):
        spec = results.spec(*methods)
        results.add(spec, 0.5)
        results.add(spec.reference(), 0.8)
    before = leaderboard(results.root)
    assert set(before["method"]) == {"none", "cbp:maturity=7", "reset"}
    monkeypatch.setattr(ComponentSpec, "face", lambda *_: None)
    assert leaderboard(results.root).equals(before)
    for path in (results.root / "runs").iterdir():
        value = json.loads((path / "spec.json").read_text())
        del value["shown"]
        (path / "spec.json").write_text(json.dumps(value))
    assert any(method.startswith("cbp:accumulate=") for method in leaderboard(results.root)["method"])


# -- errors


@pytest.fixture
def errors(results):
    """Return a function that writes a run of an error scenario and its references."""

    def write(spec, online, fresh=0.5, own=None, **options):
        results.add(spec, online, score="error", chance=2.5, **options)
        if fresh is not None:
            results.add(spec.reference(), fresh, score="error", chance=2.5)
        if own is not None:
            results.add(spec.own_reference(), own, score="error", chance=2.5)

    return write


def test_one_row_of_errors_by_hand(results):
    spec = results.spec(results.component("methods", "m", track="boundary-free"))
    online = dict.fromkeys(range(5), 0.5) | {5: 0.5, 6: 1.0, 7: 1.0, 8: 2.0, 9: 9.0}
    results.add(spec, online, dict.fromkeys(range(10), 0.8), score="error", chance=2.5)
    results.add(spec.reference(), 0.5, dict.fromkeys(range(5, 10), 0.4), score="error", chance=2.5)
    results.add(spec.own_reference(), 0.25, score="error", chance=2.5)
    row = only(leaderboard(results.root))
    assert row["score"] == "error"
    assert row["retention"] == pytest.approx(5.5 / 10, rel=1e-12)  # 2, 1.5, 1.5, .5 and 0 below the best constant
    assert row["generalisation"] == pytest.approx(1.7 / 2.1, rel=1e-12)
    assert row["self_retention"] == pytest.approx(5.5 / 11.25, rel=1e-12)
    assert row["fresh_retention"] == pytest.approx(11.25 / 10, rel=1e-12)
    assert row["ceiling"] == pytest.approx(2.5 / 2, rel=1e-12)
    assert row["lifetime_online"] == pytest.approx(16.0 / 10, rel=1e-12)
    assert row["late_early"] == pytest.approx(2.5 / 13.5, rel=1e-12)
    assert row["error_above_fresh"] == pytest.approx(13.5 / 5 - 2.5 / 5, rel=1e-12)
    assert list(row[["seeds", "unpaired", "notes"]]) == [1, 0, ""]


def test_error_above_fresh_pairs_learner_and_fresh_networks_of_a_seed(errors, results):
    for seed, (learner, fresh) in enumerate([(0.75, 0.5), (1.25, 0.75), (1.75, 1.0)]):  # .25, .5 and .75 above
        spec = results.spec(results.component("methods", "m", track="boundary-free"), seed=seed)
        errors(spec, dict.fromkeys(range(5), 2.0) | dict.fromkeys(range(5, 10), learner), fresh)
    row = only(leaderboard(results.root))
    assert row["error_above_fresh"] == 0.5
    # With three seeds the tails of the interval are thinner than the 1 / 27 of the resamples that are of one seed.
    assert (row["error_above_fresh_low"], row["error_above_fresh_high"]) == (0.25, 0.75)
    table = markdown(leaderboard(results.root))
    assert "| above fresh | error |" in table
    assert "| 0.500 [0.250, 0.750] |" in table
    narrow = Console(width=100, file=io.StringIO())
    render(leaderboard(results.root), narrow)
    assert "above fresh" not in narrow.file.getvalue()


def test_error_above_fresh_is_of_errors_with_a_fresh_network_alone(errors, many_seeds, results):
    many_seeds([0.5])
    assert "above fresh" not in markdown(leaderboard(results.root))
    errors(results.spec(scenario=results.component("scenarios", "flip", tasks=10, profile="lite")), 0.25, fresh=None)
    assert leaderboard(results.root)["error_above_fresh"].isna().all()


@pytest.mark.parametrize(("score", "sign"), [("accuracy", 1), ("error", -1)])
def test_forgetting_is_what_the_next_task_takes_by_hand(results, score, sign):
    metric = results.component("metrics", "former_score")
    held_out = dict.fromkeys(range(4), 0.1) | {4: 0.75, 5: 0.75, 6: 1.0, 7: 0.5, 8: 0.5, 9: 0.25}
    for seed, all_former in enumerate((0.5, 0.25, 0.0)):
        # Of the late tasks, 5 to 9, the ones before have .75, .75, 1, .5 and .5 at their own ends, .7 in the mean.
        spec = results.spec(seed=seed, metrics=(metric,))
        rows = results.fill(dict.fromkeys(range(10), 0.5), held_out, 2.0, score=score)
        for task in range(1, 10):
            rows.add(100 * task, task, "former_score", 0.125)  # at its start, which is no end of a task
            rows.add(100 * (task + 1), task, "former_score", all_former)
        write_record(results.root, spec.recorded(), spec.run_id, {"device": "cpu"}, results.status(), rows, None)
    row = only(leaderboard(results.root))
    assert row["forgetting"] == pytest.approx(sign * 0.45, rel=1e-12)
    ends = sorted((sign * 0.2, sign * 0.7))
    assert list(row[["forgetting_low", "forgetting_high"]]) == pytest.approx(ends, rel=1e-12)
    table = markdown(leaderboard(results.root))
    assert "| forgetting |" in table
    assert ("| 0.45 [0.20, 0.70] |" if sign == 1 else "| -0.450 [-0.700, -0.200] |") in table


def test_forgetting_is_of_what_was_measured_and_of_runs_that_did_not_stop(many_seeds, results):
    many_seeds([0.5])
    assert leaderboard(results.root)["forgetting"].isna().all()
    assert "forgetting" not in markdown(leaderboard(results.root))
    metric = results.component("metrics", "former_score")
    stopped = {"former_score": dict.fromkeys(range(1, 7), 0.25)}
    held_out = dict.fromkeys(range(7), 0.5)
    results.add(results.spec(seed=1, metrics=(metric,)), held_out, held_out, status="diverged", whole=stopped)
    assert leaderboard(results.root)["forgetting"].isna().all()


def test_score_is_named_for_accuracies_too(many_seeds, results):
    many_seeds([0.5])
    assert only(leaderboard(results.root))["score"] == "accuracy"


def test_less_error_is_more_in_every_column(errors, results):
    better, worse = (results.component("methods", name, track="boundary-free") for name in ("z", "a"))
    errors(results.spec(better), 0.5, own=0.5)
    errors(results.spec(worse), dict.fromkeys(range(5), 0.5) | dict.fromkeys(range(5, 10), 0.9), own=0.5)
    frame = leaderboard(results.root)
    assert frame["method"].tolist() == ["z", "a"]
    for column in ("retention", "self_retention", "late_early"):
        assert frame[column][0] == 1.0 > frame[column][1]
    assert frame["lifetime_online"][0] < frame["lifetime_online"][1]


@pytest.mark.parametrize("status", ["diverged", "failed"])
@pytest.mark.parametrize(("finished", "retained"), [(0, 0.0), (7, 2 / 5)])
def test_stopped_run_has_infinite_errors(errors, results, status, finished, retained):
    errors(results.spec(seed=0), 0.5)
    errors(results.spec(seed=1), dict.fromkeys(range(finished), 0.5), status=status)
    row = only(leaderboard(results.root))
    assert (row["retention"], row["late_early"], row["lifetime_online"]) == ((1 + retained) / 2, 0.5, math.inf)
    assert row["error_above_fresh"] == math.inf
    assert row[["error_above_fresh_low", "error_above_fresh_high"]].isna().all()
    assert 0 <= row["retention_low"] <= row["retention"] <= row["retention_high"] <= 1
    assert list(row[["seeds", status, "unpaired", "notes"]]) == [2, 1, 0, f"{status}: seed 1"]


def test_run_that_failed_at_once_is_scored_as_the_others_of_its_scenario(errors, results):
    errors(results.spec(results.component("methods", "m", track="boundary-free")), {}, status="failed")
    row = only(leaderboard(results.root))  # its reference alone tells the score
    assert list(row[["score", "retention", "late_early", "lifetime_online"]]) == ["error", 0.0, 0.0, math.inf]


def test_errors_without_reference_are_still_described(errors, results):
    errors(results.spec(), 0.5, fresh=None)
    row = only(leaderboard(results.root))
    assert math.isnan(row["retention"])
    assert (row["lifetime_online"], row["late_early"]) == (0.5, 1.0)
    assert row["notes"] == "no completed fresh reference: seed 0"


def test_incomplete_errors_of_a_completed_run_are_refused(errors, results):
    errors(results.spec(), dict.fromkeys(range(9), 0.5))
    with pytest.raises(ResultsError, match="no online_error for task 9"):
        leaderboard(results.root)


def test_scenarios_of_both_scores_stand_in_one_file(errors, many_seeds, results, tmp_path):
    many_seeds([0.5])
    errors(results.spec(scenario=results.component("scenarios", "flip", tasks=10, profile="lite")), 0.25)
    frame = leaderboard(results.root)
    assert dict(zip(frame["scenario"], frame["score"], strict=True)) == {"toy": "accuracy", "flip": "error"}
    assert dict(zip(frame["scenario"], frame["retention"], strict=True)) == pytest.approx({"toy": 0.5, "flip": 1.125})
    to_csv(frame, tmp_path / "table.csv")
    assert printed(pd.read_csv(tmp_path / "table.csv")) == printed(frame)


def test_table_of_errors_says_so(errors, results):
    errors(results.spec(seed=0), 0.0625)
    errors(results.spec(results.component("methods", "big", track="boundary-free")), 1234.5)
    errors(results.spec(results.component("methods", "gone", track="boundary-free")), {}, status="diverged")
    text = markdown(leaderboard(results.root))
    header = text.partition("none")[0]
    assert "| error | early/late |" in header
    assert "online" not in header
    assert "before" not in header
    for cell in (" 0.062 ", " 1.2e+03 ", " inf "):
        assert cell in text
    assert "Trainability: 1 is a fresh network, 0 is chance." in text


# -- methods that start later


def test_later_method_has_a_before_and_an_after(errors, results):
    spec = results.spec(results.component("methods", "m", track="boundary-free"), start=0.5)
    errors(spec, dict.fromkeys(range(5), 1.5) | dict.fromkeys(range(5, 10), 0.5))
    errors(replace(spec, seed=1), dict.fromkeys(range(5), 2.0) | dict.fromkeys(range(5, 10), 1.5))
    row = only(leaderboard(results.root))
    assert row["method"] == "m from 0.5"
    assert row["retention_before"] == pytest.approx((1 / 2 + 1 / 4) / 2, rel=1e-12)
    assert row["retention"] == pytest.approx((1 + 1 / 2) / 2, rel=1e-12)
    assert row["notes"] == ""


def test_later_method_is_a_row_of_its_own_in_the_same_protocol(many_seeds, results):
    m = results.component("methods", "m", track="boundary-free")
    many_seeds([0.5, 0.6])
    many_seeds([0.5, 0.6], m)
    many_seeds([0.7, 0.8], m, start=0.5)
    many_seeds([0.7, 0.8], m, start=0.25)
    frame = leaderboard(results.root)
    assert frame["protocol_id"].nunique() == 1
    assert set(frame["method"]) == {"none", "m", "m from 0.5", "m from 0.25"}
    before = frame.set_index("method")["retention_before"]
    assert before[["none", "m"]].isna().all()
    assert before["m from 0.5"] == pytest.approx((0.5 + 0.6) / 0.6 / 2)  # above chance 0.2, references 0.6 above
    assert (frame["speed"] == 1.0).all()


def test_start_within_the_late_tasks_is_noted(many_seeds, results):
    m = results.component("methods", "m", track="boundary-free")
    many_seeds([0.5], m, start=0.6)
    assert only(leaderboard(results.root))["notes"] == "on in a part of the late tasks only"


def test_a_method_that_changed_nothing_is_noted(many_seeds, results):
    """A run that diverged does not count, nor does a record of an older lopbench."""
    method = results.component("methods", "shrink_and_perturb", "boundary-aware")
    idle = [["boundary"], [None], ["boundary"]]
    for seed, each in enumerate(idle):
        results.add(results.spec(method, seed=seed), 0.5, idle=each)
    results.add(results.spec(method, seed=3), {0: 0.5}, status="diverged", idle=None)
    results.add(results.spec(method, seed=4), 0.5)
    row = only(leaderboard(results.root))
    assert "changed nothing in 2 of 3 runs: its boundary never came" in row["notes"].split("; ")
    shown = printed(leaderboard(results.root))
    assert "changed nothing in 2 of 3 runs: its boundary never came" in shown


def test_of_methods_composed_those_are_named_that_changed_nothing(results):
    parts = [results.component("methods", name, strength=0.0) for name in ("one", "two", "three")]
    results.add(results.spec(*parts), 0.5, idle=["zero", None, "off"])
    notes = only(leaderboard(results.root))["notes"].split("; ")
    assert "one:strength=0 changed nothing in 1 of 1 run: it is at strength zero" in notes
    assert "three:strength=0 changed nothing in 1 of 1 run: it never turned on" in notes
    assert not any("two" in note for note in notes)


def test_an_unpublished_optimizer_is_noted(many_seeds, results):
    rule = ComponentSpec("optimizers", "mine", 1, "unpublished mine.py+0123456789ab", {"lr": 0.1})
    many_seeds([0.5], optimizer=rule)
    row = only(leaderboard(results.root))
    assert row["notes"] == "unpublished: mine.py+0123456789ab"
    assert row["optimizer"] == "mine:lr=0.1"


def test_before_the_first_task_is_over_there_is_no_before(many_seeds, results):
    many_seeds([0.5], results.component("methods", "m", track="boundary-free"), start=0.05)
    assert math.isnan(only(leaderboard(results.root))["retention_before"])


def test_table_shows_before_and_fits_in_eighty_columns(errors, results):
    m = results.component("methods", "shrink_and_perturb", track="boundary-aware")
    for seed in range(5):
        errors(results.spec(m, seed=seed, start=0.5), 0.4 + 0.3 * seed, own=0.3)
        errors(results.spec(seed=seed), 1.5 + 0.1 * seed)
    text = printed(leaderboard(results.root), width=80)
    assert re.search(r"aware 0\.75 \[0\.48, 1\.02\] +\+ 0\.00 \N{UPWARDS ARROW} ", text)
    assert "To none: + is shown to be better, \N{MINUS SIGN} worse, ? neither." in text
    assert "before" in text.partition("from 0.5")[0]
    assert "Before: the retention in the last tasks before the method turned on." in text
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80


# -- Markdown


def test_markdown_has_a_table_for_each_protocol(errors, many_seeds, results):
    many_seeds([0.5, 0.6])
    errors(results.spec(scenario=results.component("scenarios", "flip", tasks=10, profile="lite")), 0.25)
    text = markdown(leaderboard(results.root))
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert len(tables) == 2
    for table in tables:
        assert len({line.count("|") for line in table}) == 1
        assert set(table[1]) == {"|", "-"}
    heads = {table[0] for table in tables}
    assert any("| online | late/early |" in head for head in heads)
    assert any("| error | early/late |" in head for head in heads)
    assert sum("| `none` | boundary-free | 1.12 |" in line for table in tables for line in table) == 1
    assert "- Protocol toy@1+" in text


def test_markdown_warns_of_procedural_data(many_seeds, results):
    many_seeds([0.5], data={"name": "procedural", "content_hash": "00"})
    assert "- **Procedural images, not a real data set" in markdown(leaderboard(results.root))


# -- optimizers


@pytest.fixture
def of_two_optimizers(many_seeds, results):
    """Write plain learning and a method with two learning rates each, the second better for plain learning."""
    method = results.component("methods", "m", track="boundary-free")
    for lr, plain, better in ((3e-3, 0.4, 0.5), (1e-3, 0.6, 0.7)):
        many_seeds(around(plain), lr=lr)
        many_seeds(around(better), method, lr=lr)


@pytest.mark.usefixtures("of_two_optimizers")
def test_optimizers_of_a_protocol_stand_in_one_table_and_have_to_beat_the_best_plain_learning(results):
    frame = leaderboard(results.root).set_index(["method", "lr"])
    assert frame.index.tolist() == [("m", 0.001), ("none", 0.001), ("m", 0.003), ("none", 0.003)]
    assert frame["verdict"].tolist() == ["better", "", "worse", "worse"]
    assert frame["rank_low"].tolist() == frame["rank_high"].tolist() == [1, 2, 3, 4]


def test_the_baseline_of_several_optimizers_is_first_of_all_one_with_most_seeds(many_seeds, results):
    many_seeds(around(0.4))
    many_seeds([0.6, 0.61, 0.6], lr=1e-3)
    many_seeds(around(0.5), results.component("methods", "m", track="boundary-free"))
    frame = leaderboard(results.root)
    verdicts = {(row["method"], row["lr"]): row["verdict"] for row in frame.to_dict("records")}
    assert verdicts == {("none", 1e-3): "", ("none", 3e-3): "", ("m", 3e-3): "better"}
    assert (
        "To none: none with adam:lr=0.003, the best of those with most seeds (with adam:lr=0.001 it has 0.67 over 3)."
        in printed(frame)
    )


@pytest.mark.usefixtures("of_two_optimizers")
def test_the_optimizer_is_a_column_where_it_tells_rows_apart_and_in_the_title_elsewhere(results, many_seeds):
    frame = leaderboard(results.root)
    text = printed(frame)
    title, heads = text.splitlines()[0], text.partition("Protocol")[0]
    assert title.rstrip() == "toy lite, net:width=8, adam, data toy-images@0123456789ab"
    assert " lr " in heads
    assert heads.count(" 0.003 ") == heads.count(" 0.001 ") == 2
    assert "To none: none with adam:lr=0.001, the best of those with most seeds." in text
    assert "Speed" not in text  # for which there is no room
    assert "speed and memory: multiples of those of none with the same optimizer" in markdown(frame)
    narrow = printed(frame, width=80)
    assert max(map(len, narrow.splitlines())) <= 80
    assert "| `m` | `adam:lr=0.003` | boundary-free |" in markdown(frame)
    assert "m & adam:lr=0.003 & boundary-free &" in latex(frame)
    alone = printed(frame[frame["lr"] == 0.003])
    assert alone.splitlines()[0].rstrip() == "toy lite, net:width=8, adam:lr=0.003, data toy-images@0123456789ab"
    assert "optimizer" not in alone.partition("Protocol")[0]


def test_cost_is_relative_to_none_with_the_same_optimizer(results):
    method = results.component("methods", "m", track="boundary-free")
    for lr, plain, other in ((3e-3, 10.0, 20.0), (1e-3, 40.0, 160.0)):
        results.add(results.spec(lr=lr), 0.5, train_time_s=plain)
        results.add(results.spec(method, lr=lr), 0.5, train_time_s=other)
    results.add(results.spec(method, lr=1.0), 0.5)
    frame = leaderboard(results.root).set_index(["method", "lr"])
    assert frame.loc[("m", 3e-3), "speed"] == 0.5
    assert frame.loc[("m", 1e-3), "speed"] == 0.25
    assert math.isnan(frame.loc[("m", 1.0), "speed"])


# -- ranks and coverage


FIVE = (0.0, 0.01, -0.01, 0.005, -0.005)


def around(value, *changes):
    return [value + change for change in (changes or FIVE)]


def standings(frame):
    """Return rank range and verdict of each method."""
    frame = frame.set_index("method")
    return {method: (rank_text(row["rank_low"], row["rank_high"]), row["verdict"]) for method, row in frame.iterrows()}


def test_rows_share_ranks_where_the_seeds_cannot_tell(many_seeds, results):
    values = {"a": around(0.7), "b": around(0.7, 0.01, 0.0, 0.0, -0.01, 0.0), "c": around(0.3)}
    for name, scores in values.items():
        many_seeds(scores, results.component("methods", name, track="boundary-free"))
    frame = leaderboard(results.root)
    assert standings(frame) == {"a": ("1-2", ""), "b": ("1-2", ""), "c": ("3", "")}
    entrants = [Entrant({seed: (x - 0.2) / 0.6 for seed, x in enumerate(scores)}) for scores in values.values()]
    assert [str(each) for each in rank_ranges(entrants, range(5))] == ["1-2", "1-2", "3"]


def test_each_track_has_its_ranks_and_the_control_has_none(many_seeds, results):
    for name, value, track in (
        ("reset", 0.8, "boundary-aware"),
        ("told", 0.7, "boundary-aware"),
        ("free", 0.5, "boundary-free"),
    ):
        many_seeds(around(value), results.component("methods", name, track=track))
    assert standings(leaderboard(results.root)) == {"reset": ("-", ""), "told": ("1", ""), "free": ("1", "")}


def test_verdicts_are_against_none_in_every_track(many_seeds, results):
    many_seeds(around(0.5))
    for name, value, track in (("told", 0.7, "boundary-aware"), ("worse", 0.3, "boundary-free")):
        many_seeds(around(value, *reversed(FIVE)), results.component("methods", name, track=track))
    many_seeds(around(0.5, *reversed(FIVE)), results.component("methods", "same", track="boundary-free"))
    assert standings(leaderboard(results.root)) == {
        "told": ("1", "better"),
        "none": ("1-2", ""),
        "same": ("1-2", "not shown"),
        "worse": ("3", "worse"),
    }


def test_rows_without_all_seeds_of_none_are_listed_with_the_reason_and_change_nothing(many_seeds, results):
    many_seeds(around(0.5))
    many_seeds(around(0.4), results.component("methods", "low", track="boundary-free"))
    before = standings(leaderboard(results.root))
    many_seeds([0.9, 0.91, 0.9], results.component("methods", "few", track="boundary-free"))
    frame = leaderboard(results.root)
    assert standings(frame) == {**before, "few": ("-", "")}
    notes = frame.set_index("method")["rank_note"]
    assert notes.to_dict() == {"few": "unranked: 3 seeds with a retention, ranks take 5", "none": "", "low": ""}
    assert "few: seeds 0-2; unranked: 3 seeds with a retention, ranks take 5" in printed(frame, width=200)


def test_three_seeds_have_no_ranks_and_the_table_says_so_once(many_seeds, results):
    many_seeds([0.5, 0.51, 0.52])
    text = printed(leaderboard(results.root), width=200)
    assert "No ranks and no verdicts: they take 5 seeds." in text
    assert "unranked:" not in text
    assert "collapse" not in text


def test_collapsed_seeds_are_counted_and_hold_the_verdict_back(many_seeds, results):
    many_seeds(around(0.5, 0.0, 0.01, -0.01, -0.29, 0.0))  # one seed near chance
    for name in ("good", "fine"):
        many_seeds(around(0.7), results.component("methods", name, track="boundary-free"))
    frame = leaderboard(results.root)
    assert frame.set_index("method")["collapsed"].to_dict() == {"fine": 0, "good": 0, "none": 1}
    words = {name: word for name, (_, word) in standings(frame).items()}
    assert words == {"fine": "not shown", "good": "not shown", "none": ""}
    text = printed(frame, width=200)
    assert "fine, good: seeds of the baseline collapsed: the verdict is of a test of bounded differences" in text
    assert "none: 1 of 5 seeds collapsed" in text


def test_rows_at_the_ceiling_are_marked_and_not_told_apart(many_seeds, results):
    # References at .8, chance .2: the ceiling is .8 / .6.
    many_seeds(around(0.98))
    many_seeds(around(0.995), results.component("methods", "best", track="boundary-free"))
    many_seeds(around(0.9), results.component("methods", "good", track="boundary-free"))
    frame = leaderboard(results.root)
    assert frame["ceiling"].tolist() == pytest.approx([4 / 3] * 3)
    assert frame.set_index("method")["at_ceiling"].to_dict() == {"best": True, "none": True, "good": False}
    assert standings(frame) == {"best": ("1-2", "not shown"), "none": ("1-2", ""), "good": ("3", "worse")}
    text = printed(frame, width=200)
    assert "ceiling 1.33." in text
    assert "best: at the ceiling; both at the ceiling" in text


@pytest.mark.parametrize(("seeds", "profile"), [(4, "lite"), (5, "smoke")])
def test_few_seeds_and_unranked_profiles_have_no_rank(many_seeds, results, seeds, profile):
    many_seeds(around(0.5)[:seeds], profile=profile)
    frame = leaderboard(results.root)
    assert frame[["rank_low", "rank_high"]].isna().all(axis=None)
    assert "ranks that are possible" not in printed(frame)


def test_a_scenario_says_which_of_its_profiles_are_unranked(many_seeds, results, monkeypatch):
    """Another name than smoke; and what it does not declare is ranked, whatever it is called."""

    class Declaring(BitFlip):
        name = "declaring"
        unranked = frozenset({"trial"})

    registration = Registration("scenarios", "declaring", Declaring, "", Distribution("tests", "1"))
    monkeypatch.setitem(plugins().registry._entries["scenarios"], "declaring", registration)
    fields = {"tasks": 10, "steps_per_task": 100}
    for profile in ("trial", "trial+custom", "smoke", "lite"):
        scenario = results.component("scenarios", "declaring", profile=profile, **fields)
        many_seeds([0.5, 0.6, 0.55], scenario=scenario)
    ranked = leaderboard(results.root).set_index("profile")["ranked"].to_dict()
    assert ranked == {"trial": False, "trial+custom": False, "smoke": True, "lite": True}


def test_rule_of_the_ranks_and_coverage_of_the_intervals_stand_under_the_table(many_seeds, results):
    many_seeds(around(0.5))
    many_seeds(around(0.4), results.component("methods", "m", track="boundary-free"))
    text = " ".join(printed(leaderboard(results.root)).split())
    assert "#: ranks that are possible within the track: from 1 + the number of methods shown to be better" in text
    assert "Verdict to none: paired t-test over seeds against the baseline, Holm's correction for the verdicts" in text
    assert "For roughly normal scores, intervals cover the mean in about 77% of cases at 3 seeds, 91% at 5" in text
    assert "Where none of 5 seeds collapsed, up to 45% of all seeds still may;" in text


def test_coverage_says_which_seeds(many_seeds, results):
    many_seeds([0.5, 0.6, 0.7])
    many_seeds([0.5], results.component("methods", "m", track="boundary-free"))
    results.add(results.spec(seed=7), {}, status="failed")
    frame = leaderboard(results.root)
    assert frame.set_index("method")["coverage"].to_dict() == {"none": "0-2,7", "m": "0"}
    text = printed(frame)
    assert "m: seed 0" in text or "none: seeds 0-2,7; failed: seed 7" in text


@given(st.lists(st.integers(0, 30), min_size=1))
def test_seed_ranges_name_all_seeds(seeds):
    named = set()
    for part in seed_ranges(seeds).split(","):
        first, _, last = part.partition("-")
        named |= set(range(int(first), int(last or first) + 1))
    assert named == set(seeds)


# -- what is left out


def damage(path, how):
    file = path / "measurements.parquet"
    if how == "truncated":
        file.write_bytes(file.read_bytes()[:100])
    elif how == "pickle":
        file.write_bytes(pickle.dumps(Bomb()))
    elif how == "incomplete":
        file.unlink()
        shutil.copy(path.parent / "incomplete.parquet", file)
    elif how == "spec":
        value = json.loads((path / "spec.json").read_text())
        (path / "spec.json").write_text(json.dumps({**value, "seed": 9}))


class Bomb:
    def __reduce__(self):
        return (os._exit, (1,))


@pytest.mark.parametrize("how", ["truncated", "pickle", "spec"])
def test_one_damaged_record_leaves_the_others_standing(many_seeds, results, how):
    many_seeds([0.5, 0.6, 0.7])
    many_seeds([0.4], results.component("methods", "m", track="boundary-free"))
    (path,) = (results.root / "runs").glob("toy-lite-net-none-s1-*")
    damage(path, how)
    made = board(results.root)
    assert [path.name in str(problem) for problem in made.problems] == [True]
    frame = made.rows.set_index("method")
    assert frame.loc["none", "coverage"] == "0,2"
    assert frame.loc["none", "notes"] == ("" if how == "spec" else "damaged, left out: seed 1")
    assert frame.loc["m", "retention"] == pytest.approx(1 / 3)
    with pytest.warns(ResultsWarning, match=path.name):
        pd.testing.assert_frame_equal(leaderboard(results.root), made.rows)


def test_incomplete_and_torn_runs_are_left_out_too(many_seeds, results, tmp_path):
    many_seeds([0.5, 0.6, 0.7])
    spec = results.spec(seed=3)
    results.add(spec, dict.fromkeys(range(9), 0.8))  # it says completed, and has nine of ten tasks
    results.add(results.spec(seed=0), 0.9, root=tmp_path / "other")
    made = board(results.root, tmp_path / "other")
    assert len(made.problems) == 2
    row = only(made.rows)
    assert (row["coverage"], row["notes"]) == ("1-2", "damaged, left out: seeds 0, 3")


def test_a_damaged_reference_is_none(many_seeds, results):
    many_seeds([0.5, 0.6])
    (path,) = (results.root / "runs").glob("*-fresh-none-s1-*")
    damage(path, "truncated")
    made = board(results.root)
    assert len(made.problems) == 1
    assert only(made.rows)["notes"] == "no completed fresh reference: seed 1"


def test_where_nothing_is_left_the_first_reason_is_the_error(results):
    path = results.add(results.spec(), 0.5)
    damage(path, "truncated")
    with pytest.raises(ResultsError, match=path.name):
        board(results.root)


# -- what may stand together


def leaves(value, place=()):
    """Yield the places of all numbers, texts and empty things in JSON values."""
    if isinstance(value, (dict, list)) and value:
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(part, (*place, key))
    else:
        yield place


def other(value):
    """Return a value of the same kind that is another."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + 1 if value >= 1 else value / 2 + 0.2501  # within [0, 1)
    return f"{value}x"


WHOLE = RunSpec.from_json(
    {
        "schema_version": SCHEMA_VERSION,
        "kind": "continual",
        "scenario": {
            "name": "toy",
            "version": 1,
            "origin": "tests",
            "fields": {"tasks": 10, "steps_per_task": 100, "profile": "lite", "augment": True, "resolution": 32},
        },
        "architecture": {"name": "net", "version": 1, "origin": "tests", "fields": {"width": 8}},
        "cloner": {"name": "tile", "version": 1, "origin": "tests", "fields": {"noise": 0.5}},
        "methods": [],
        "start": 0.0,
        "optimizer": {
            "name": "sgd",
            "version": 1,
            "origin": "lopbench",
            "fields": {"lr": 0.1, "momentum": 0.5, "weight_decay": 0.25},
        },
        "reference_optimizer": {
            "name": "adam",
            "version": 1,
            "origin": "lopbench",
            "fields": {"lr": 0.1, "betas": [0.5, 0.75], "eps": 0.5},
        },
        "seed": 0,
        "metrics": [{"name": "rank", "version": 1, "origin": "lopbench-x 2+abc", "fields": {"tau": 0.25}}],
        "numerics": {"dtype": "float32", "tf32": False, "deterministic": True},
        "data": {"name": "toy-images", "content_hash": "0123456789abcdef"},
        "numbers": 1,
    }
).to_json()
#: Places in the protocol; the version of the score is no part of a spec.
FIELDS = [place for place in leaves(RunSpec.from_json(WHOLE).protocol()) if place != ("score",)]
#: Places in the entry that are not in a list.
ANSWERS = [place for place in leaves(RunSpec.from_json(WHOLE).entry()) if place not in [("methods",)]]


def write_both(results, roots, places):
    """Write a run of `WHOLE` and one that differs in ``places``; return the table of both."""
    value = copy.deepcopy(WHOLE)
    for place in places:
        part = value
        for key in place[:-1]:
            part = part[key]
        known = {("numerics", "dtype"): "float64"}
        part[place[-1]] = known.get(place, other(part[place[-1]]))
    for root, spec in zip(roots, (WHOLE, value), strict=True):
        results.add(RunSpec.from_json(spec), 0.5, root=root)
    return leaderboard(*roots)


def check_apart(results, roots, places):
    """Check that a run that differs from `WHOLE` in ``places`` stands apart, and that it is said why."""
    frame = write_both(results, roots, places)
    assert len(frame) == frame["protocol_id"].nunique() == 2
    with pytest.raises(ResultsError, match="Nothing compares") as raised:
        compare(*roots)
    for place in places:
        named = (place[0], "name")
        if named in places and place != named:
            continue  # of another component the name is told alone
        assert ".".join(key for key in place if isinstance(key, str)) in str(raised.value)  # betas are named whole


@pytest.mark.parametrize("place", FIELDS, ids=lambda place: ".".join(map(str, place)))
def test_rows_that_differ_in_a_field_of_the_protocol_stand_apart(tmp_path, results, place):
    check_apart(results, [tmp_path / "a", tmp_path / "b"], [place])


def test_the_fields_of_the_protocol_are_there():
    parts = {place[0] for place in FIELDS}
    assert parts == {"scenario", "architecture", "cloner", "data", "reference_optimizer", "numerics", "numbers"}
    assert len(FIELDS) > 25


@pytest.mark.parametrize("place", ANSWERS, ids=lambda place: ".".join(map(str, place)))
def test_rows_that_differ_in_the_answer_stand_together_and_compare(tmp_path, results, place):
    roots = [tmp_path / "a", tmp_path / "b"]
    frame = write_both(results, roots, [place])
    assert frame["protocol_id"].nunique() == 1
    assert len(frame) == frame["entry_id"].nunique() == 2
    assert len(compare(*roots).rows) == 1


@pytest.mark.parametrize("place", list(leaves(WHOLE["metrics"])), ids=lambda place: str(place[-1]))
def test_what_is_measured_besides_tells_no_rows_apart(tmp_path, results, place):
    frame = write_both(results, [tmp_path / "a", tmp_path / "b"], [("metrics", *place)])
    assert "measured again with other metrics, counted once: seed 0" in only(frame)["notes"]


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(places=st.lists(st.sampled_from(FIELDS), min_size=2, max_size=5, unique=True))
def test_rows_that_differ_in_several_fields_name_them_all(tmp_path_factory, results, places):
    check_apart(results, [tmp_path_factory.mktemp("results") for _ in range(2)], places)


# -- files


def test_texts_of_a_record_cannot_become_formulas(results, tmp_path):
    data = {"name": "=cmd|' /C calc'!A0", "content_hash": "00"}
    results.add(results.spec(results.component("methods", "@SUM(1)", track="replay"), data=data), 0.5)
    frame = leaderboard(results.root)
    to_csv(frame, tmp_path / "table.csv")
    again = pd.read_csv(tmp_path / "table.csv")
    assert again.loc[0, "method"] == "'@SUM(1)"
    assert again.loc[0, "data"].startswith("'=cmd")
    assert frame.loc[0, "method"] == "@SUM(1)"
    assert compare(str(tmp_path / "table.csv") + ":@SUM(1)", results.root).rows["method"].tolist() == ["@SUM(1)"]


def test_latex_is_a_table_of_text(many_seeds, results):
    many_seeds(around(0.5), results.component("methods", "a_b&c%~^\\{", track="boundary-free"))
    text = latex(leaderboard(results.root))
    (body,) = [line for line in text.splitlines() if line.startswith("1 & ")]
    assert r"a\_b\&c\%\textasciitilde{}\textasciicircum{}\textbackslash{}\{" in body
    assert body.replace(r"\&", "").count("&") == text.partition("tabular}{")[2].partition("}")[0].__len__() - 1
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 1
    assert r"\toprule" in text


def test_html_is_a_table_of_text(many_seeds, results):
    many_seeds([0.5], results.component("methods", "a<b&c"))
    shown = html(leaderboard(results.root))
    assert "<td><code>a&lt;b&amp;c</code></td>" in shown
    assert shown.count("<table>") == shown.count("</table>") == 1


def test_markdown_shows_names_as_they_are(many_seeds, results):
    many_seeds([0.5], results.component("methods", "a|b`c<b>", track="boundary-free"))
    text = markdown(leaderboard(results.root))
    (line,) = [line for line in text.splitlines() if "boundary-free" in line]
    assert "`` a\\|b`c<b> ``" in line


# -- several scenarios


@pytest.fixture
def scenarios(many_seeds, results):
    """Return a function that writes five seeds of a method in the named scenarios."""

    def write(name, **values):
        method = [] if name == "none" else [results.component("methods", name, track="boundary-free")]
        for scenario, value in values.items():
            spec = results.component("scenarios", scenario, tasks=10, steps_per_task=100, profile="lite")
            many_seeds(around(value), *method, scenario=spec)

    return write


def test_methods_over_scenarios_by_hand(scenarios, results):
    scenarios("none", one=0.5, two=0.8)  # retentions 0.5 and 1
    scenarios("m", one=0.65, two=1.4)  # 0.75 and 2, which is clipped to 1.2
    scenarios("part", one=0.75)
    frame = board(results.root).overall
    assert frame["method"].tolist() == ["m", "none", "part"]
    assert frame["mean"].tolist()[:2] == pytest.approx([(0.75 + 1.2) / 2, 0.75])
    assert math.isnan(frame["mean"][2])
    assert frame["worst"].tolist() == pytest.approx([0.75, 0.5, 11 / 12])
    assert frame["worst_scenario"].tolist() == ["one"] * 3
    assert frame["scenarios"].tolist() == [2, 2, 1]
    assert frame["missing"].tolist() == ["", "", "two"]
    assert standings(frame) == {"m": ("1", "better"), "none": ("2", ""), "part": ("-", "")}


def test_a_collapse_in_one_scenario_is_not_hidden_by_the_mean_over_scenarios(scenarios, results, many_seeds):
    scenarios("none", one=0.5, two=0.5)
    scenarios("m", one=0.7, two=0.7)
    assert standings(board(results.root).overall)["m"] == ("1", "better")
    for name, last in (("one", 0.7), ("two", 0.21)):  # as good on average in four seeds, one collapses in one scenario
        spec = results.component("scenarios", name, tasks=10, steps_per_task=100, profile="lite")
        method = results.component("methods", "risky", track="boundary-free")
        many_seeds([0.75, 0.76, 0.74, 0.75, last], method, scenario=spec)
    frame = board(results.root).overall.set_index("method")
    assert frame.loc["risky", "verdict"] == "not shown"
    assert frame.loc["risky", "rank_note"].startswith("seeds collapsed")


def test_the_table_over_scenarios_is_in_every_format(scenarios, results):
    scenarios("none", one=0.5, two=0.8)
    scenarios("m", one=0.6, two=0.8)
    scenarios("part", one=0.7)
    made = board(results.root)
    console = Console(width=80, force_terminal=False)
    with console.capture() as capture:
        render(made.rows, console, made.overall)
    for text in (capture.get(), markdown(made.rows, made.overall), latex(made.rows, made.overall)):
        assert "All scenarios, lite" in text
        assert "part: unranked, no retention in two" in " ".join(text.split())
    assert max(map(len, capture.get().splitlines())) <= 80


def test_one_complete_method_makes_no_table_over_scenarios(scenarios, results):
    scenarios("none", one=0.5, two=0.8)
    scenarios("part", one=0.7)
    assert board(results.root).overall.empty


def test_one_scenario_or_another_profile_makes_no_table_over_scenarios(scenarios, many_seeds, results):
    scenarios("none", one=0.5)
    two = results.component("scenarios", "two", tasks=10, steps_per_task=100, profile="full")
    many_seeds([0.5], scenario=two)
    smoke = results.component("scenarios", "three", tasks=10, steps_per_task=100, profile="smoke")
    many_seeds([0.5], scenario=smoke)
    assert board(results.root).overall.empty


def test_the_protocol_of_most_methods_speaks_for_a_scenario(scenarios, many_seeds, results):
    scenarios("none", one=0.5, two=0.8)
    scenarios("m", one=0.6, two=0.8)
    one = results.component("scenarios", "one", tasks=10, steps_per_task=100, profile="lite")
    many_seeds([0.79, 0.8, 0.81], scenario=one, lr=1e-4)  # a sweep of the learning rate
    frame = board(results.root).overall.set_index("method")
    assert frame.loc["none", "mean"] == pytest.approx(0.75)


def test_folders_of_results_folders_are_told_apart_from_empty_ones(results, tmp_path):
    results.add(results.spec(), 0.5, root=tmp_path / "all" / "one")
    pack(tmp_path / "all" / "one", output=tmp_path / "all" / "two.lopbench")
    (tmp_path / "all" / "two").mkdir()
    (tmp_path / "all" / "two.lopbench").rename(tmp_path / "all" / "two" / "set.lopbench")
    (tmp_path / "all" / "three").mkdir()
    with pytest.raises(ResultsError, match=r"There are no runs in \S+/all; name \S+/all/one or \S+/all/two\.$"):
        leaderboard(tmp_path / "all")
