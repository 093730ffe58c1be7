import copy
import json
import math
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console
from scipy import stats

from lopbench.core import spec as core_spec
from lopbench.core.errors import ResultsError, UsageError
from lopbench.core.spec import SCHEMA_VERSION, ComponentSpec, Numerics, RunSpec
from lopbench.results.compare import COLUMNS, compare, protocol_differences, render, to_csv
from lopbench.results.leaderboard import leaderboard
from lopbench.results.leaderboard import to_csv as leaderboard_to_csv
from lopbench.results.pairs import Entrant, mass_below
from lopbench.results.record import find_records
from lopbench.results.statistics import Sample, holm, interval, needed_seeds, unpaired_test
from lopbench.results.verdicts import not_worse

PUBLISHED = Path(__file__).parents[2] / "results" / "tinyimagenet40-lite-mlp"

NONE = [0.40, 0.47, 0.38, 0.52, 0.45]
GOOD = [0.61, 0.66, 0.60, 0.71, 0.69]


@pytest.fixture
def method(results):
    """Return a function that makes a method."""
    return lambda name, **changes: results.component("methods", name, track="boundary-free", **changes)


@pytest.fixture
def both(many_seeds, method):
    """Write five seeds of ``none`` and of a better method ``good``."""
    many_seeds(NONE)
    many_seeds(GOOD, method("good"))


def only(comparison):
    assert len(comparison.rows) == 1
    return comparison.rows.iloc[0]


def printed(comparison, width=160):
    console = Console(width=width, force_terminal=False)
    with console.capture() as capture:
        render(comparison, console)
    return capture.get()


def retentions(values):
    return [(value - 0.2) / 0.6 for value in values]  # chance 0.2, references at 0.8


# Pairs of runs


def test_one_row_by_hand(both, results):
    row = only(compare(results.root))
    differences = [b - a for a, b in zip(retentions(NONE), retentions(GOOD), strict=True)]
    assert tuple(row.index) == COLUMNS
    assert (row["baseline"], row["method"], row["pairing"], row["seeds"]) == ("none", "good", "seeds", 5)
    assert row["baseline_value"] == pytest.approx(np.mean(retentions(NONE)))
    assert row["value"] == pytest.approx(np.mean(retentions(GOOD)))
    assert row["difference"] == pytest.approx(np.mean(differences))
    assert (row["difference_low"], row["difference_high"]) == pytest.approx(interval(differences))
    assert row["p_value"] == pytest.approx(stats.ttest_rel(GOOD, NONE).pvalue)
    assert row["p_holm"] == row["p_value"]
    assert (row["improvement"], row["improvement_low"], row["improvement_high"]) == (1.0, 1.0, 1.0)
    assert row["verdict"] == "better"
    assert row["needed_seeds"] is pd.NA
    assert row["notes"] == ""
    assert row["protocol_id"] == results.spec().protocol_id


def test_the_other_way_round_is_the_mirror_image(both, results):
    there = only(compare(f"{results.root}:none", f"{results.root}:good"))
    back = only(compare(f"{results.root}:good", f"{results.root}:none"))
    assert back["verdict"] == "worse"
    assert back["difference"] == pytest.approx(-there["difference"])
    assert back["p_value"] == pytest.approx(there["p_value"])
    assert back["improvement"] == 1 - there["improvement"]


def test_runs_are_paired_by_seed_and_what_has_no_partner_is_told(results, many_seeds, method):
    many_seeds(NONE[:4])
    for seed, value in {3: 0.6, 1: 0.7, 2: 0.8, 7: 0.1}.items():
        results.add(results.spec(method("m"), seed=seed), value)
        results.add(results.spec(seed=seed).reference(), 0.8)
    row = only(compare(results.root))
    assert row["seeds"] == 3
    assert row["value"] == pytest.approx(np.mean(retentions([0.7, 0.8, 0.6])))
    assert row["p_value"] == pytest.approx(stats.ttest_rel([0.7, 0.8, 0.6], NONE[1:4]).pvalue)
    assert row["notes"] == "on one side only, left out: seeds 0, 7"


def test_improvement_counts_pairs_of_seed_and_late_task(results, method):
    # Seed 0 wins two of five late tasks and ties one, seed 1 wins all; early tasks do not count.
    tasks = dict.fromkeys(range(10), 0.5)
    for seed, late in enumerate([{5: 0.6, 6: 0.6, 7: 0.5, 8: 0.4, 9: 0.4}, dict.fromkeys(range(5, 10), 0.6)]):
        for spec, online in ((results.spec(seed=seed), tasks), (results.spec(method("m"), seed=seed), tasks | late)):
            results.add(spec, online)
            results.add(spec.reference(), 0.8)
    row = only(compare(results.root))
    assert row["improvement"] == pytest.approx((0.5 + 1.0) / 2)
    lifetime = only(compare(results.root, score="lifetime_online"))
    assert lifetime["improvement"] == pytest.approx(((2 + 0.5 + 5 * 0.5) / 10 + (5 + 5 * 0.5) / 10) / 2)
    assert lifetime["difference"] == pytest.approx((0.0 + 0.05) / 2)


def test_a_run_that_stopped_counts_at_the_floor_and_is_told(results, many_seeds, method):
    many_seeds([0.5, 0.5, 0.5])
    many_seeds([0.5, 0.5], method("m"))
    results.add(results.spec(method("m"), seed=2), dict.fromkeys(range(7), 0.5), status="diverged", diverged_at=7)
    row = only(compare(results.root))
    assert row["seeds"] == 3
    assert row["difference"] == pytest.approx(
        -(3 / 5) * 0.5 / 3
    )  # three of five tasks at chance, in one of three seeds
    assert row["improvement"] == pytest.approx((0.5 + 0.5 + 0.5 * 2 / 5) / 3)
    told, collapsed, untested = row["notes"].split("; ")
    assert told == f"m of {results.root}: diverged: seed 2"
    assert collapsed.startswith("seeds collapsed: the interval does not hold")
    assert untested == "a test needs at least 5 shared seeds"
    assert (math.isnan(row["p_value"]), row["verdict"]) == (True, "no evidence")


def test_a_seed_without_reference_has_no_score_and_the_reason_is_told(both, results, method):
    results.add(results.spec(seed=5), 0.5)
    results.add(results.spec(method("good"), seed=5), 0.5)
    row = only(compare(results.root))
    assert row["seeds"] == 5
    assert f"good of {results.root}: no retention, left out: seed 5 (no completed fresh reference)" in row["notes"]


def test_held_out_scores_are_compared_where_they_were_measured(results, method):
    for seed, (a, b) in enumerate([(0.3, 0.5), (0.35, 0.5), (0.3, 0.6)]):
        for spec, value in ((results.spec(seed=seed), a), (results.spec(method("m"), seed=seed), b)):
            results.add(spec, 0.5, dict.fromkeys(range(10), value))
        results.add(results.spec(seed=seed).reference(), 0.5, dict.fromkeys(range(5, 10), 0.6))
    row = only(compare(results.root, score="generalisation"))
    assert row["difference"] == pytest.approx((0.2 + 0.15 + 0.3) / 3 / 0.4)
    assert row["improvement"] == 1.0
    assert only(compare(results.root))["difference"] == 0.0


def test_a_score_that_was_not_measured_is_no_evidence(both, results):
    row = only(compare(results.root, score="generalisation"))
    assert row["verdict"] == "no evidence"
    assert row["seeds"] == 0
    assert "no generalisation, left out: seeds 0, 1, 2, 3, 4 (not measured)" in row["notes"]
    assert math.isnan(row["difference"])


def test_of_errors_the_lower_one_is_better(results, method):
    for seed, (a, b) in enumerate([(0.30, 0.20), (0.33, 0.22), (0.36, 0.25), (0.29, 0.20)]):
        for spec, value in ((results.spec(seed=seed), a), (results.spec(method("m"), seed=seed), b)):
            results.add(spec, value, score="error", chance=0.9)
        results.add(results.spec(seed=seed).reference(), 0.2, score="error", chance=0.9)
    for score, sign in (("retention", 1), ("lifetime_online", -1)):
        row = only(compare(results.root, score=score))
        assert np.sign(row["difference"]) == sign
        assert row["improvement"] == 1.0
        assert row["verdict"] == "better"


# Verdicts


def test_two_seeds_are_no_evidence_of_anything(results, many_seeds, method):
    many_seeds([0.4, 0.41])
    many_seeds([0.7, 0.71], method("m"))
    row = only(compare(results.root))
    assert row["verdict"] == "no evidence"
    assert math.isnan(row["p_value"])
    assert row["needed_seeds"] is pd.NA
    assert row["notes"] == "a test needs at least 3 shared seeds"


def test_no_evidence_says_how_many_seeds_would_tell(results, many_seeds, method):
    values = [0.43, 0.46, 0.40, 0.50, 0.47]
    many_seeds(NONE)
    many_seeds(values, method("m"))
    comparison = compare(results.root)
    row = only(comparison)
    differences = [b - a for a, b in zip(retentions(NONE), retentions(values), strict=True)]
    assert row["verdict"] == "no evidence"
    assert row["needed_seeds"] == needed_seeds(np.mean(differences), np.std(differences, ddof=1))
    assert f"no evidence, needs about {row['needed_seeds']} seeds" in printed(comparison)


def test_needed_seeds_make_up_for_the_number_of_tests(results, many_seeds, method):
    many_seeds(NONE)
    for name in ("a", "b", "c"):
        many_seeds([0.43, 0.46, 0.40, 0.50, 0.47], method(name))
    row = compare(results.root).rows.iloc[0]
    differences = [b - a for a, b in zip(retentions(NONE), retentions([0.43, 0.46, 0.40, 0.50, 0.47]), strict=True)]
    mean, deviation = np.mean(differences), np.std(differences, ddof=1)
    assert row["needed_seeds"] == needed_seeds(mean, deviation, 0.05 / 3) > needed_seeds(mean, deviation)


def test_equal_runs_are_no_evidence_and_rounding_is_none_either(results, many_seeds, method):
    many_seeds([0.5, 0.6, 0.7])
    many_seeds([0.5 + 1e-13, 0.6 + 1e-13, 0.7 + 1e-13], method("m"))
    row = only(compare(results.root))
    assert (row["difference"], row["p_value"], row["verdict"]) == (0.0, 1.0, "not worse")


def test_not_worse_takes_seeds_that_say_so_and_a_family_of_its_own(both, results, many_seeds, method):
    many_seeds([x + 0.003 * (-1) ** seed for seed, x in enumerate(NONE)], method("alike"))
    many_seeds([x + 0.05 * (-1) ** seed for seed, x in enumerate(NONE)], method("loose"))
    comparison = compare(results.root)
    rows = comparison.rows.set_index("method")
    assert rows["verdict"].to_dict() == {"good": "better", "alike": "not worse", "loose": "no evidence"}
    baseline = Entrant(dict(enumerate(retentions(NONE))))
    scores = compare(results.root).rows["method"].tolist()
    alone = [
        not_worse(baseline, Entrant(dict(enumerate(retentions(values)))))
        for values in (
            GOOD,
            [x + 0.05 * (-1) ** seed for seed, x in enumerate(NONE)],
            [x + 0.003 * (-1) ** seed for seed, x in enumerate(NONE)],
        )
    ]
    by_name = dict(zip(("good", "loose", "alike"), holm(alone), strict=True))
    assert [rows.loc[name, "p_not_worse"] for name in scores] == pytest.approx([by_name[name] for name in scores])
    assert "Not worse: the same test with a margin of 0.02" in printed(comparison)


def test_a_collapsed_seed_holds_the_verdict_back(results, many_seeds, method):
    many_seeds([0.5, 0.51, 0.21, 0.5, 0.49])
    many_seeds([0.7, 0.7, 0.71, 0.69, 0.7], method("m"))
    row = only(compare(results.root))
    assert row["verdict"] == "no evidence"
    a, b = (np.array(retentions(x)) for x in ([0.5, 0.51, 0.21, 0.5, 0.49], [0.7, 0.7, 0.71, 0.69, 0.7]))
    assert row["p_value"] == pytest.approx(2 * mass_below(np.array([[*(b - a), -a.max()]]))[0])
    assert row["notes"].startswith("seeds collapsed: the interval does not hold")
    assert row["needed_seeds"] is pd.NA


def test_rows_at_the_ceiling_are_not_called_different(results, many_seeds, method):
    many_seeds([0.97, 0.971, 0.969, 0.97, 0.972])
    many_seeds([0.99, 0.991, 0.989, 0.99, 0.992], method("m"))
    row = only(compare(results.root))
    assert row["p_holm"] < 0.05
    assert (row["verdict"], row["notes"]) == ("not worse", "both at the ceiling")
    assert only(compare(results.root, score="lifetime_online"))["verdict"] == "better"


def test_p_values_are_corrected_over_all_rows_and_better_rows_stand_first(both, results, many_seeds, method):
    many_seeds([0.42, 0.50, 0.40, 0.53, 0.48], method("slight"))
    many_seeds([0.33, 0.41, 0.33, 0.40, 0.36], method("bad"))
    rows = compare(results.root).rows
    assert rows["method"].tolist() == ["good", "slight", "bad"]
    assert rows["p_holm"].tolist() == pytest.approx(holm(rows["p_value"].tolist()))
    assert (rows["p_holm"] > rows["p_value"]).any()
    assert rows["verdict"].tolist() == ["better", "better", "worse"]


def test_the_very_same_runs_are_recognised(both, results, tmp_path):
    shutil.copytree(results.root, tmp_path / "copy")
    row = compare(results.root, tmp_path / "copy").rows.iloc[0]
    assert "the same runs on both sides" in row["notes"]
    assert row["verdict"] == "not worse"


def test_without_a_shared_seed_means_are_compared(results, method):
    sides = {"": ((), 0, NONE), "m": ((method("m"),), 100, GOOD)}
    for methods, first, values in sides.values():
        for seed, value in enumerate(values, start=first):
            results.add(results.spec(*methods, seed=seed), value)
            results.add(results.spec(seed=seed).reference(), 0.8)
    row = only(compare(results.root))
    low, high, p_value = unpaired_test(Sample.of(retentions(NONE)), Sample.of(retentions(GOOD)))
    assert (row["difference_low"], row["difference_high"], row["p_value"]) == pytest.approx((low, high, p_value))
    assert row["pairing"] == "none"
    assert math.isnan(row["improvement"])
    assert row["notes"] == "no shared seed: the means were compared, not paired"


# What is compared with what


def test_with_one_source_every_method_meets_the_baseline(both, results, many_seeds, method):
    many_seeds(GOOD, method("other"))
    assert set(compare(results.root).rows["method"]) == {"good", "other"}
    rows = compare(f"{results.root}:good").rows
    assert set(rows["method"]) == {"none", "other"}
    assert set(rows["baseline"]) == {"good"}


def test_several_sources_meet_method_by_method(both, results, method, tmp_path):
    theirs = tmp_path / "theirs"
    for seed, value in enumerate(NONE):
        for methods in ((), (method("good"),), (method("new"),)):
            results.add(results.spec(*methods, seed=seed), value, root=theirs)
        results.add(results.spec(seed=seed).reference(), 0.8, root=theirs)
    comparison = compare(results.root, theirs)
    rows = comparison.rows.set_index("method")
    assert set(rows.index) == {"none", "good"}
    assert rows["baseline"].to_dict() == {"none": "none", "good": "good"}
    assert rows.loc["good", "verdict"] == "worse"
    assert [(x.row, x.refused) for x in comparison.left_out] == [(f"new of {theirs}", False)]
    assert f"has no counterpart: {results.root} has no new" in comparison.left_out[0].reason


def test_a_first_source_of_one_method_is_the_baseline_of_all(results, many_seeds, method, tmp_path):
    for seed, value in enumerate(NONE):
        results.add(results.spec(method("old"), seed=seed), value, root=tmp_path / "a")
        results.add(results.spec(seed=seed).reference(), 0.8, root=tmp_path / "a")
        results.add(results.spec(method("new"), seed=seed), value + 0.1, root=tmp_path / "b")
        results.add(results.spec(seed=seed).reference(), 0.8, root=tmp_path / "b")
    row = only(compare(tmp_path / "a", tmp_path / "b"))
    assert (row["baseline"], row["method"]) == ("old", "new")
    assert (row["baseline_source"], row["source"]) == (str(tmp_path / "a"), str(tmp_path / "b"))


def test_a_path_may_hold_a_colon(results, many_seeds, method, tmp_path):
    for seed, value in enumerate(NONE):
        for methods in ((), (method("m"),)):
            results.add(results.spec(*methods, seed=seed), value, root=tmp_path / "a:b")
    assert only(compare(f"{tmp_path}/a:b:none", f"{tmp_path}/a:b:m"))["method"] == "m"


def test_a_method_may_be_written_in_full(published_part):
    runs = published_part("runs", none=[0.003], cbp=[0.003])
    installed = next(record.spec for record in find_records(runs) if "-cbp-s0-" in record.path.name)
    assert installed.method_label == "cbp"
    rows = compare(f"{runs}:none", f"{runs}:cbp:maturity=100,replacement_rate=1e-4").rows
    assert rows["method"].tolist() == ["cbp"]


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        (["{root}:god"], r"has no method 'god'\. Did you mean 'good'\? Its methods: good, none\."),
        (["{root}:"], r"names no method; write .*:none, or leave out the colon"),
        (["{root}/nothing", "{root}"], "nothing does not exist; give a results folder"),
        ([], "There is nothing to compare"),
    ],
)
def test_a_source_that_is_none_is_one_sentence(both, results, sources, message):
    with pytest.raises(UsageError, match=message):
        compare(*(source.format(root=results.root) for source in sources))


def test_one_row_alone_compares_with_nothing(many_seeds, results, tmp_path):
    many_seeds(NONE)
    with pytest.raises(ResultsError, match="give no two rows to compare"):
        compare(results.root)
    with pytest.raises(ResultsError, match="There are no runs in"):
        compare(tmp_path)


def test_a_label_that_stands_for_two_codes_is_refused(many_seeds, results, method):
    many_seeds(NONE)
    for version in (1, 2):
        many_seeds(GOOD, method("m", version=version))
    with pytest.raises(ResultsError, match=r"m in .* stands for two versions of its code"):
        compare(results.root)


def test_one_run_with_two_results_is_refused(both, results, tmp_path):
    (tmp_path / "all" / "runs").mkdir(parents=True)
    for name, value in (("x", 0.5), ("y", 0.6)):
        path = results.add(results.spec(), value, root=tmp_path / name)
        path.rename(tmp_path / "all" / "runs" / f"{name}-{path.name}")
    with pytest.raises(ResultsError, match="the same run with different results"):
        compare(tmp_path / "all", results.root)


def test_of_another_component_the_name_is_told_alone():
    kept = {"name": "kept", "version": 1}
    a = {"scenario": {"name": "x", "fields": {"tasks": 5}}, "cloner": None, "metrics": [{"name": "m", "n": 1}, kept]}
    b = {"scenario": {"name": "y", "version": 2}, "cloner": {"name": "tile", "version": 1}, "metrics": [kept]}
    assert protocol_differences(a, b) == {
        "scenario.name": ('"x"', '"y"'),
        "cloner.name": ("(none)", '"tile"'),
        "metrics.m.name": ('"m"', "(none)"),
    }


def test_damaged_records_are_left_out_and_named(both, results, method):
    whole = only(compare(results.root))
    runs = sorted(results.root.glob("runs/*good*"))
    torn, foreign = runs[0], runs[1]
    data = (torn / "measurements.parquet").read_bytes()
    (torn / "measurements.parquet").write_bytes(data[: len(data) // 2])
    (foreign / "spec.json").write_text("{}")
    found = compare(results.root)
    assert (whole["seeds"], only(found)["seeds"]) == (5, 3)
    assert len(found.problems) == 2
    shown = " ".join(printed(found, width=1000).split())
    for path in (torn, foreign):
        (told,) = (str(problem) for problem in found.problems if str(path) in str(problem))
        assert f"Left out: {told}" in shown
    assert found.to_json()["problems"] == list(map(str, found.problems))


# What differs


def test_versions_and_hardware_that_differ_are_named(both, results, method, tmp_path):
    environments = [
        {"device": "cpu", "threads": 1, "versions": {"torch": "2.6", "numpy": "2.0"}},
        {"device": "gpu", "threads": 1, "versions": {"torch": "2.7", "numpy": "2.0"}},
    ]
    for name, environment, version in zip("ab", environments, (1, 2), strict=True):
        for seed, value in enumerate(NONE):
            spec = results.spec(method("m", version=version), seed=seed)
            results.add(spec, value, environment=environment, root=tmp_path / name)
            results.add(spec.reference(), 0.8, environment=environment, root=tmp_path / name)
    found = {each.field: dict(each.values) for each in compare(tmp_path / "a", tmp_path / "b").differences}
    a, b = (f"m of {tmp_path / name}" for name in "ab")
    assert found == {
        "device": {"cpu": (a,), "gpu": (b,)},
        "versions.torch": {"2.6": (a,), "2.7": (b,)},
        "m.version": {"1": (a,), "2": (b,)},
    }
    text = printed(compare(tmp_path / "a", tmp_path / "b"), width=1000)
    assert f"Differs: versions.torch: 2.6 ({a}); 2.7 ({b})" in text


def test_nothing_that_differs_is_said_too(both, results):
    assert compare(results.root).differences == ()
    assert "Differs: nothing that was recorded, except the methods." in printed(compare(results.root))


def test_different_tracks_are_told(results, many_seeds):
    many_seeds(NONE)
    many_seeds(GOOD, results.component("methods", "m", track="replay"))
    assert only(compare(results.root))["notes"] == "of different tracks: replay against boundary-free"


# Protocols do not mix


def rich_spec(results, **changes):
    cloner = results.component("cloners", "twice", noise=0.0)
    return results.spec(**{"cloner": cloner, "numerics": Numerics(), **changes})


def leaves(value, path=(), name=""):
    """Yield path and dotted name of every leaf of a protocol, its components' names and versions included."""
    dot = f"{name}." if name else ""
    if value == {}:
        yield (*path, "new"), f"{dot}new"
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from leaves(part, (*path, key), f"{dot}{key}")
    elif name != "score":  # which is no part of a spec
        yield path, name


def changed(spec, path):
    """Return the spec with the leaf at ``path`` changed to another value of its type."""
    value = copy.deepcopy(spec.to_json())
    place = value
    for key in path[:-1]:
        place = place[key]
    old = place.get(path[-1], 0)
    others = {"float32": "float64"}
    if isinstance(old, str):
        place[path[-1]] = others.get(old, f"{old}x")
    elif isinstance(old, bool):
        place[path[-1]] = not old
    elif isinstance(old, int | float):
        place[path[-1]] = old + 1 if isinstance(old, int) else old / 2 + 0.125
    elif isinstance(old, list):
        place[path[-1]] = [part / 2 for part in old]
    else:
        raise AssertionError(f"{path} holds {old!r}")
    return RunSpec.from_json(value)


def test_every_field_of_a_protocol_in_turn_is_named(results):
    spec = rich_spec(results)
    found = list(leaves(spec.protocol()))
    assert len(found) > 25
    for path, name in found:
        other = changed(spec, path)
        assert other.protocol_id != spec.protocol_id
        named = protocol_differences(spec.protocol(), other.protocol())
        assert list(named) == [name], name


def test_the_version_of_the_score_is_named(results, monkeypatch):
    here = results.spec().protocol()
    monkeypatch.setattr(core_spec, "SCORE", core_spec.SCORE + 1)
    now = core_spec.SCORE
    assert protocol_differences(here, results.spec().protocol()) == {"score": (str(now - 1), str(now))}


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_runs_of_which_one_field_of_the_protocol_differs_do_not_compare(results, tmp_path, data):
    spec = rich_spec(results)
    path, name = data.draw(st.sampled_from(list(leaves(spec.protocol()))))
    other = changed(spec, path)
    a, b = (tmp_path / each.run_id for each in (spec, other))
    results.add(spec, 0.5, root=a)
    results.add(other, 0.5, root=b)
    with pytest.raises(ResultsError) as refused:
        compare(a, b)
    assert "differs in its protocol" in str(refused.value)
    assert f" {name} is " in str(refused.value)
    assert spec.protocol_id in str(refused.value)
    assert other.protocol_id in str(refused.value)


def test_no_data_or_no_cloner_is_named(results):
    spec = rich_spec(results)
    named = protocol_differences(spec.protocol(), rich_spec(results, data=None).protocol())
    assert named["data.name"] == ('"toy-images"', "(none)")
    named = protocol_differences(spec.protocol(), rich_spec(results, cloner=None).protocol())
    assert named == {"cloner.name": ('"twice"', "(none)")}


def test_the_nearest_row_is_named_and_the_others_are_compared(both, results, many_seeds, method):
    reference = ComponentSpec.parse("optimizers", "adam:lr=2e-3")
    many_seeds(GOOD, method("good"), reference_optimizer=reference)
    comparison = compare(results.root)
    assert only(comparison)["verdict"] == "better"
    (left_out,) = comparison.left_out
    assert left_out.refused
    assert left_out.row.startswith(f"good of {results.root} under toy@1+")
    assert left_out.reason.endswith(
        "differs in its protocol: reference_optimizer.fields.lr is 0.002 here and 0.001 there"
    )
    assert "Not compared: good" in printed(comparison)


# Optimizers of one protocol


def test_a_row_meets_that_of_the_same_optimizer(both, results, many_seeds, method):
    many_seeds([value + 0.1 for value in NONE], lr=1e-3)
    many_seeds(NONE, method("good"), lr=1e-3)
    comparison = compare(results.root)
    rows = comparison.rows.set_index("optimizer")
    assert rows["baseline_optimizer"].tolist() == rows.index.tolist() == ["adam:lr=0.003", "adam:lr=0.001"]
    assert rows["verdict"].tolist() == ["better", "worse"]
    assert rows["method"].tolist() == ["good", "good"]
    assert comparison.left_out == ()
    assert "good with adam:lr=0.001" in printed(comparison)
    assert "against none with the same optimizer" in printed(comparison)


def test_a_row_without_one_of_its_optimizer_meets_the_only_one_and_it_is_told(both, results, many_seeds, method):
    many_seeds(NONE, method("tuned"), lr=1e-3)
    row = compare(results.root).rows.set_index("method").loc["tuned"]
    assert (row["baseline"], row["baseline_optimizer"], row["optimizer"]) == ("none", "adam:lr=0.003", "adam:lr=0.001")
    assert row["notes"] == "of different optimizers: adam:lr=0.001 against adam:lr=0.003"


def test_of_several_other_optimizers_none_is_chosen(both, results, many_seeds, method):
    many_seeds(NONE, lr=1e-3)
    many_seeds(NONE, method("tuned"), lr=1e-2)
    comparison = compare(results.root)
    assert only(comparison)["optimizer"] == "adam:lr=0.003"
    (left_out,) = comparison.left_out
    assert left_out.refused
    assert left_out.row.startswith(f"tuned of {results.root} under toy@1+")
    assert "has adam:lr=0.01, and" in left_out.reason
    assert left_out.reason.endswith("has none with adam:lr=0.001, adam:lr=0.003: keep the runs of one of them")


def test_a_csv_of_several_optimizers_compares_like_the_runs(both, results, many_seeds, method, tmp_path):
    many_seeds([value + 0.1 for value in NONE], lr=1e-3)
    many_seeds(NONE, method("good"), lr=1e-3)
    leaderboard_to_csv(leaderboard(results.root), tmp_path / "board.csv")
    names = ["method", "optimizer", "baseline_optimizer"]
    from_csv = compare(tmp_path / "board.csv").rows[names].sort_values(names).to_numpy().tolist()
    assert from_csv == compare(results.root).rows[names].sort_values(names).to_numpy().tolist()


# CSVs


@pytest.fixture
def board(both, results, tmp_path):
    """Return the path of the leaderboard of ``both``."""
    leaderboard_to_csv(leaderboard(results.root), tmp_path / "board.csv")
    return tmp_path / "board.csv"


def rewrite(path, name, **changes):
    """Write the CSV again under another name with columns changed, and return its path."""
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    for column, value in changes.items():
        frame[column] = value
    frame.to_csv(path.with_name(name), index=False)
    return path.with_name(name)


def test_a_csv_supports_a_test_of_means_and_says_so(board):
    comparison = compare(board)
    row = only(comparison)
    samples = [Sample.from_interval(np.mean(x), *interval(x), 5) for x in (retentions(NONE), retentions(GOOD))]
    expected = unpaired_test(*samples)
    assert (row["difference_low"], row["difference_high"], row["p_value"]) == pytest.approx(expected)
    assert (row["pairing"], row["seeds"], row["verdict"]) == ("none", 5, "better")
    assert math.isnan(row["improvement"])
    assert "seeds cannot be paired" in printed(comparison)
    assert f"Differs: versions, hardware: not known ({board})" in printed(comparison, width=1000)


def test_a_csv_shows_less_than_the_runs_behind_it(board, results):
    paired, unpaired, mixed = compare(results.root), compare(board), compare(f"{results.root}:none", f"{board}:good")
    assert only(paired)["p_value"] < only(unpaired)["p_value"]
    assert only(mixed)["pairing"] == "none"
    assert only(mixed)["difference"] == pytest.approx(only(paired)["difference"])


def test_fewer_than_five_seeds_in_a_csv_are_no_evidence(results, many_seeds, method, tmp_path):
    many_seeds(NONE[:4])
    many_seeds(GOOD[:4], method("good"))
    leaderboard_to_csv(leaderboard(results.root), tmp_path / "board.csv")
    row = only(compare(tmp_path / "board.csv"))
    assert row["verdict"] == "no evidence"
    assert row["notes"] == "a test of means of a CSV needs at least 5 seeds on each side"


def test_seeds_of_a_csv_that_had_no_reference_do_not_count(board):
    row = only(compare(rewrite(board, "other.csv", seeds="9", unpaired="5")))
    assert (row["seeds"], row["verdict"]) == (4, "no evidence")


@pytest.mark.parametrize("column", ["scenario", "profile", "architecture", "data"])
def test_csvs_of_other_protocols_do_not_compare_and_the_column_is_named(board, column):
    other = rewrite(board, "other.csv", **{"protocol_id": "toy@1+ffffffffffff", column: "another"})
    with pytest.raises(ResultsError, match=rf"differs in its protocol: {column} is another here and .* there\."):
        compare(board, other)


def test_csvs_of_other_protocols_for_no_visible_reason_do_not_compare(board):
    other = rewrite(board, "other.csv", protocol_id="toy@1+ffffffffffff")
    with pytest.raises(ResultsError, match="protocol: protocol_id; a CSV does not say"):
        compare(board, other)


def test_joined_csvs_are_read_once(board):
    text = board.read_text()
    board.with_name("joined.csv").write_text(text + text)
    assert only(compare(board.with_name("joined.csv")))["difference"] == only(compare(board))["difference"]


def test_a_csv_with_two_versions_of_a_row_is_refused(board):
    other = rewrite(board, "other.csv", inputs_digest="0" * 64)
    board.with_name("joined.csv").write_text(board.read_text() + other.read_text())
    with pytest.raises(ResultsError, match="twice, from different runs"):
        compare(board.with_name("joined.csv"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: "", "is no leaderboard: it has no column 'protocol_id'"),
        (lambda text: text.replace("retention_low", "low"), "it has no column 'retention_low'"),
        (lambda text: text.splitlines()[0], "has no rows"),
        (lambda text: text.rstrip()[:-80], "line 3 ends before the column"),
        (lambda text: text.replace(",5,", ",five,"), "line 2: seeds is 'five', not a number"),
        (lambda text: text.replace(",5,", ",-5,"), "line 2: seeds is '-5', which it cannot be"),
        (lambda text: text.replace(",5,", ",inf,"), "line 2: seeds is 'inf', which it cannot be"),
        (
            lambda text: text.replace(f",{SCHEMA_VERSION},", ",999,"),
            "line 2 has schema version 999, .* upgrade lopbench",
        ),
        (lambda text: text + "\0", "cannot be read as a CSV|ends before the column"),
    ],
)
def test_a_damaged_csv_is_one_sentence(board, change, message):
    board.write_text(change(board.read_text()))
    with pytest.raises(ResultsError, match=message):
        compare(board)


def test_a_leaderboard_of_an_earlier_edition_is_refused_in_a_sentence(board):
    pd.read_csv(board).rename(columns={"entry_id": "family"}).to_csv(board, index=False)
    with pytest.raises(ResultsError, match=f"^{board} is a leaderboard of an earlier edition, .* makes it anew.$"):
        compare(board)


def test_an_interval_that_is_none_is_refused(board):
    with pytest.raises(ResultsError, match=r"line 2: .* is no mean with its interval"):
        compare(rewrite(board, "other.csv", retention_low="9"))


def test_a_file_that_is_no_text_is_one_sentence(tmp_path):
    (tmp_path / "x.csv").write_bytes(b"\x80\x04\x95pickle\xff")
    with pytest.raises(ResultsError, match="cannot be read as a CSV file"):
        compare(tmp_path / "x.csv")


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")], ids=["pipe", "device"])
def test_what_is_no_file_is_one_sentence(tmp_path, make):
    make(tmp_path / "x.csv")
    with pytest.raises(ResultsError, match="cannot be read as a CSV file: it is no file, but a folder, pipe or device"):
        compare(tmp_path / "x.csv")


def test_a_csv_has_no_other_score(board):
    with pytest.raises(UsageError, match="has intervals of the retention only"):
        compare(board, score="lifetime_online")


# Output


def test_no_cell_of_the_csv_is_a_formula_and_numbers_stay_numbers(results, many_seeds, method, tmp_path):
    many_seeds(GOOD)
    many_seeds(NONE, method("=HYPERLINK(1)"))
    to_csv(compare(results.root).rows, tmp_path / "x.csv")
    again = pd.read_csv(tmp_path / "x.csv")
    assert again["method"].tolist() == ["'=HYPERLINK(1)"]
    assert again["difference"].item() == compare(results.root).rows["difference"].item() < 0
    assert tuple(again.columns) == COLUMNS
    # A leaderboard that was written this way is read as what it stands for.
    leaderboard_to_csv(leaderboard(results.root), tmp_path / "board.csv")
    text = (tmp_path / "board.csv").read_text()
    (tmp_path / "board.csv").write_text(text.replace(",=HYPER", ",'=HYPER"))
    assert compare(tmp_path / "board.csv").rows["method"].tolist() == ["=HYPERLINK(1)"]


def test_a_csv_that_cannot_be_written_is_a_sentence(both, results, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ResultsError, match="The comparison cannot be written to"):
        to_csv(compare(results.root).rows, tmp_path / "file" / "x.csv")


def test_json_holds_everything_and_no_nan(both, results, many_seeds, method):
    many_seeds([0.5, 0.6], method("few"))
    many_seeds(GOOD, method("good"), data=None)
    value = json.loads(json.dumps(compare(results.root).to_json(), allow_nan=False))
    assert [row["verdict"] for row in value["rows"]] == ["better", "no evidence"]
    assert value["rows"][1]["p_value"] is None
    assert value["left_out"][0]["refused"] is True
    assert value["differences"] == []
    assert any("Holm" in note for note in value["notes"])


def test_names_are_text_in_the_table(results, many_seeds, method):
    many_seeds(NONE)
    many_seeds(GOOD, method("m[bold]"))
    assert "m[bold]" in printed(compare(results.root))


def test_one_baseline_stands_in_the_title_and_several_in_a_column(both, results, tmp_path):
    assert re.search(r"^toy lite, retention, against none *$", printed(compare(results.root)), re.MULTILINE)
    shutil.copytree(results.root, tmp_path / "copy")
    text = printed(compare(results.root, tmp_path / "copy"), width=1000)
    for name in ("none", "good"):
        assert re.search(rf"^{name} of {tmp_path / 'copy'} +{name} of {results.root} ", text, re.MULTILINE)


def test_few_seeds_are_told_what_they_cannot_show(results, many_seeds, method):
    many_seeds(NONE[:3])
    many_seeds(GOOD[:3], method("m"))
    # t(0.975, 2) = 4.302653, over sqrt(3)
    assert "With 3 seeds a difference has to be up to 2.5 times" in printed(compare(results.root), width=1000)


def test_the_published_set_compares_with_its_own_leaderboard(published_part):
    rows = compare(PUBLISHED).rows
    board = pd.read_csv(PUBLISHED / "leaderboard.csv")
    assert len(rows) == len(board) - (board["method"] == "none").sum()
    values = board.set_index(["protocol_id", "method", "optimizer"])["retention"]
    for row in rows.to_dict("records"):
        found = values[row["protocol_id"], row["method"], row["optimizer"]]
        assert row["value"] == pytest.approx(found, rel=1e-12)
        plain = values[row["protocol_id"], "none", row["baseline_optimizer"]]
        assert row["baseline_value"] == pytest.approx(plain, rel=1e-12)
    rows = compare(published_part("runs", none=[0.001], layernorm=[0.003], dropout=[0.003])).rows
    verdicts = rows[rows["seeds"] == 5].set_index("method")["verdict"]
    assert verdicts["layernorm"] == "better"
    assert verdicts["dropout"] == "worse"
