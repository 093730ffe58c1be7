import json
import math
import shutil

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from lopbench.core.errors import ResultsError
from lopbench.core.spec import OptimizerSpec
from lopbench.results.leaderboard import COLUMNS, leaderboard, render, to_csv
from lopbench.results.statistics import interval


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
    assert row["heldout_retention"] == pytest.approx(0.15 / 0.3, rel=1e-12)
    assert row["self_retention"] == pytest.approx(1.7 / 2.7, rel=1e-12)
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
    assert row["schema_version"] == 1
    assert row["ranked"]
    assert row["notes"] == ""


def test_columns_are_those_that_are_documented(many_seeds, results):
    many_seeds([0.5])
    frame = leaderboard(results.root)
    assert tuple(frame.columns) == COLUMNS
    for column in COLUMNS[1:]:
        documented = column in leaderboard.__doc__ or column in ("scenario", "profile", "architecture", "optimizer")
        assert documented or column in ("method", "schema_version"), column


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


def test_completed_run_with_a_missing_task_is_refused(results):
    spec = results.spec()
    path = results.add(spec, dict.fromkeys(range(9), 0.8))
    results.add(spec.reference(), 0.8)
    with pytest.raises(ResultsError, match=rf"{path.name} is incomplete.*no online_accuracy for task 9"):
        leaderboard(results.root)


def test_protocols_are_separate_rows(many_seeds, results):
    changes = [
        {},
        {"lr": 1e-3},
        {"profile": "smoke"},
        {"data": {"name": "toy-images", "content_hash": "f" * 16}},
        {"data": {"name": "procedural", "content_hash": "0123456789abcdef"}},
        {"architecture": results.component("architectures", "net", width=16)},
        {"architecture": results.component("architectures", "net", version=2, width=8)},
        {"reference_optimizer": OptimizerSpec(kind="adam", lr=2e-3)},
        {"core": "0.2.0"},
    ]
    for change in changes:
        many_seeds([0.5], **change)
    frame = leaderboard(results.root)
    assert len(frame) == len(changes)
    assert frame["protocol_id"].is_unique
    assert frame["family"].nunique() == len(changes) - 1  # the learning rate alone stays in the family
    assert frame.set_index("profile")["ranked"].to_dict() == {"lite": True, "smoke": False}


def test_methods_of_one_protocol_with_other_code_are_not_pooled(many_seeds, results):
    for version in (1, 2):
        many_seeds([0.5], results.component("methods", "m", track="boundary-free", version=version))
    frame = leaderboard(results.root)
    assert frame["method"].tolist() == ["m", "m"]
    assert set(frame["notes"]) == {f"code: m version {version} of tests 1" for version in (1, 2)}


def test_control_first_then_by_falling_retention(many_seeds, results):
    for name, value in (("a", 0.3), ("b", 0.9), ("reset", 0.5)):
        many_seeds([value], results.component("methods", name, track="boundary-free"))
    results.add(results.spec(results.component("methods", "alone", track="replay"), seed=9), 0.9)
    assert leaderboard(results.root)["method"].tolist() == ["reset", "b", "a", "alone"]


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


def test_scenario_without_tasks_cannot_be_scored(results):
    results.add(results.spec(scenario=results.component("scenarios", "odd", profile="lite")), 0.5)
    with pytest.raises(ResultsError, match="cannot be scored: its scenario has tasks=None"):
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
    assert "m[bold]: failed: seed 0" in text
    assert "1 to 5 seeds" in text
    assert "expanded percentile bootstrap" in text
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
    assert json.loads((path / "spec.json").read_text())["methods"][0]["origin"] == "tests 1"
    assert only(leaderboard(results.root))["method"] == "elsewhere:rate=0.5"
