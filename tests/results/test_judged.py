"""Claims against recorded runs: numbers with intervals, verdicts, and what is missing for one."""

import io
import math

import pytest
from rich.console import Console

from lopbench.results.cells import csv_text
from lopbench.results.claims import read_claims
from lopbench.results.judged import COLUMNS, Asked, frame, judge, render, to_json
from lopbench.results.leaderboard import board
from lopbench.results.statistics import interval

SAYS = {"text": "L2 keeps more", "source": "Somebody 2024"}
DIFFERENCE = {**SAYS, "test": "difference", "column": "retention", "entry": "l2", "than": "none", "at_least": 0}
L2 = [0.70, 0.72, 0.71, 0.73, 0.69]
NONE = [0.50, 0.49, 0.53, 0.50, 0.51]


@pytest.fixture
def claimed(results, many_seeds):
    """Return a function that judges a claim on runs with and without a method, references at .8 and chance at .2."""

    def judged(table, l2=L2, none=NONE, seeds=range(5)):
        if l2:
            many_seeds(l2, results.component("methods", "l2"))
        many_seeds(none)
        groups = {entry.row["method"]: entry.group for entry in board(results.root).entries}
        [claim] = read_claims([table], "study.toml")
        names = {name for link in claim.links for name in link.entries}
        return judge(claim, {name: Asked(groups.get(name.method), seeds) for name in names})

    return judged


def printed(judged):
    out = io.StringIO()
    render(judged, Console(file=out, width=160))
    return out.getvalue()


def test_a_difference_that_is_shown_agrees_with_its_interval(claimed):
    found = claimed(DIFFERENCE)
    [number] = found.numbers
    differences = [(a - b) / 0.6 for a, b in zip(L2, NONE, strict=True)]
    assert found.word == "agrees"
    assert found.needed_seeds is None
    assert number.finding.value == pytest.approx(sum(differences) / 5)
    assert (number.low, number.high) == pytest.approx(interval(differences))
    assert "none of 5 seeds collapsed. Up to 45% of all seeds may still do so" in printed([found])


def test_one_that_is_shown_to_be_otherwise_disagrees(claimed):
    assert claimed({**DIFFERENCE, "entry": "none", "than": "l2"}).word == "disagrees"
    assert claimed({**DIFFERENCE, "at_least": 0.9}).word == "disagrees"


def test_one_that_is_not_shown_cannot_be_told_and_says_how_many_seeds_would_tell(claimed):
    found = claimed(DIFFERENCE, l2=[0.52, 0.49, 0.50, 0.55, 0.51])
    assert found.word == "cannot tell"
    assert found.needed_seeds == found.numbers[0].finding.needed_seeds
    assert found.needed_seeds > 5
    assert str(found.needed_seeds) in printed([found])


def test_seeds_that_have_no_run_are_left_out_and_told(claimed):
    found = claimed(DIFFERENCE, none=NONE[:4], seeds=range(6))
    assert found.word == "agrees"
    assert found.numbers[0].finding.seeds == 4
    told = found.numbers[0].finding.note
    assert told == "l2: there is no record of seed 5; none: there is no record of seeds 4-5"


def test_seeds_of_others_are_not_counted(claimed):
    assert claimed(DIFFERENCE, seeds=range(3)).numbers[0].finding.seeds == 3


def test_an_entry_without_runs_cannot_be_judged(claimed):
    found = claimed(DIFFERENCE, l2=None)
    assert found.word == "cannot tell"
    assert math.isnan(found.numbers[0].finding.value)
    assert "l2: there is no record of seeds 0-4" in printed([found])


def test_what_stopped_is_not_flattered_by_the_others(claimed, results):
    spec = results.spec(seed=5)
    results.add(spec, dict.fromkeys(range(3), 0.5), status="diverged")
    late = {**SAYS, "test": "number", "metric": "online_accuracy", "entry": "none", "at_least": 0.3}
    found = claimed(late, seeds=range(6))
    assert found.word == "cannot tell"
    assert found.needed_seeds is None
    assert (
        "there is no value of seed 5, where a run stopped, lacks a reference or does not measure it"
        in found.numbers[0].finding.note
    )
    assert claimed(late, seeds=range(5)).word == "agrees"


def test_seeds_that_collapse_are_tested_as_the_leaderboard_does(claimed):
    found = claimed(
        {**SAYS, "test": "number", "column": "retention", "entry": "none", "at_least": 0.4}, none=[0.5] * 4 + [0.2]
    )
    assert found.word == "cannot tell"
    assert "seeds collapsed" in found.numbers[0].finding.note


def test_seeds_that_would_decide_are_unknown_where_one_number_collapsed(claimed):
    none = [0.8] * 4 + [0.2]
    l2 = [0.55, 0.68, 0.52, 0.73, 0.66]
    table = {**SAYS, "test": "number", "column": "retention", "entries": ["l2", "none"], "at_least": 0.6}
    alone = claimed({**table, "entries": ["l2"]}, l2=l2, none=none)
    assert alone.needed_seeds is not None
    found = claimed(table, l2=l2, none=none)
    assert (found.word, found.needed_seeds) == ("cannot tell", None)


def test_a_claim_with_a_seed_that_collapsed_does_not_say_that_none_did(claimed):
    table = {**SAYS, "test": "number", "column": "retention", "entries": ["l2", "none"], "at_most": 0.95}
    found = claimed(table, none=[0.3] * 4 + [0.2])
    assert found.word == "agrees"
    assert "seeds collapsed" in printed([found])
    assert "seeds collapsed. Up to" not in printed([found])


def test_rows_at_the_ceiling_are_not_told_apart(claimed):
    found = claimed(DIFFERENCE, l2=[0.99, 0.995, 0.992, 0.991, 0.993], none=[0.98, 0.985, 0.982, 0.981, 0.984])
    assert found.word == "cannot tell"
    assert "both at the ceiling" in found.numbers[0].finding.note


def test_a_correlation_is_one_number_for_each_seed(results):
    for method, online, heldout in (
        ("a", 0.5, 0.7),
        ("b", 0.55, 0.65),
        ("c", 0.6, 0.6),
        ("d", 0.65, 0.55),
        ("e", 0.7, 0.5),
    ):
        for seed in range(4):
            spec = results.spec(results.component("methods", method), seed=seed)
            results.add(spec, online + 0.001 * seed, dict.fromkeys(range(10), heldout))
            results.add(spec.reference(), 0.8, dict.fromkeys(range(10), 0.8))
    groups = {entry.row["method"]: entry.group for entry in board(results.root).entries}
    table = {**SAYS, "test": "correlation", "columns": ["trainability", "generalisation"], "entries": [*"abcde"]}
    [claim] = read_claims([{**table, "at_most": 0.5}], "study.toml")
    found = judge(claim, {name: Asked(groups[name.method], range(4)) for name in claim.links[0].entries})
    assert found.numbers[0].finding.value == pytest.approx(-1)
    assert found.word == "agrees"


def test_a_seed_without_a_correlation_is_told_and_not_left_out(results):
    for method, online in (("a", 0.5), ("b", 0.55), ("c", 0.6), ("d", 0.65), ("e", 0.7)):
        for seed in range(5):
            spec = results.spec(results.component("methods", method), seed=seed)
            results.add(spec, online, dict.fromkeys(range(10), 1.2 - online if seed < 4 else 0.6))
            results.add(spec.reference(), 0.8, dict.fromkeys(range(10), 0.8))
    groups = {entry.row["method"]: entry.group for entry in board(results.root).entries}
    table = {**SAYS, "test": "correlation", "columns": ["trainability", "generalisation"], "entries": [*"abcde"]}
    [claim] = read_claims([{**table, "at_most": 0.5}], "study.toml")
    found = judge(claim, {name: Asked(groups[name.method], range(5)) for name in claim.links[0].entries})
    assert found.word == "cannot tell"
    assert "no correlation of seed 4, where a column is the same for all entries" in found.numbers[0].finding.note


def test_all_formats_say_the_same(claimed):
    found = [claimed(DIFFERENCE), claimed({**DIFFERENCE, "at_least": 0.9, "deviation": "Fewer tasks"})]
    rows = frame(found)
    assert tuple(rows.columns) == COLUMNS
    assert rows["verdict"].tolist() == ["agrees", "disagrees"]
    assert csv_text(rows).count("\n") == 3
    as_json = to_json(found)
    assert [each["verdict"] for each in as_json] == ["agrees", "disagrees"]
    assert as_json[0]["numbers"][0]["value"] == pytest.approx(found[0].numbers[0].finding.value)
    assert as_json[1]["deviation"] == "Fewer tasks"
    shown = printed(found)
    assert "retention of l2 minus that of none" in shown
    assert "2: different from the source: Fewer tasks" in shown
    assert "agrees" in shown
    assert "at least 0.9" in shown


def test_a_claim_of_several_numbers_has_a_line_for_each(claimed):
    table = {**SAYS, "test": "number", "column": "retention", "entries": ["l2", "none"], "at_least": 0.6}
    found = claimed(table)
    assert found.word == "disagrees"
    assert len(frame([found])) == 2
    assert [each["number"] for each in to_json([found])[0]["numbers"]] == ["retention of l2", "retention of none"]
