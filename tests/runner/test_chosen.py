"""Which runs the tuned entries of a study have, by the logs of their tuning."""

import json
import re
import shutil
from dataclasses import replace

import pytest

from lopbench.core.errors import ResultsError, UsageError
from lopbench.core.spec import RunSpec
from lopbench.results.claims import EntryName, read_claims
from lopbench.results.factors import cross, crossing_tables
from lopbench.results.leaderboard import board
from lopbench.results.record import find_records, record_path, scan_records
from lopbench.results.suite import Cell, Suite, members, suite_frame, suite_table
from lopbench.results.tuned import UNCHECKED
from lopbench.runner import study
from lopbench.runner.chosen import Chosen
from lopbench.runner.claimed import Rows, judged, lacking, meant, missing, recorded_tables, resolved

REQUEST = {
    "scenario": "bitflip:samples=400,m=8,f=5,T=100,steps_per_task=100",
    "architecture": "online_mlp:width=4",
    "methods": ["none", "l2"],
    "seeds": (0, 1, 2),
    "metrics": ["dead_fraction"],
    "tune": "k=0.25,budget=4,seeds=1",
}
#: Two tables: one tuned, one not.
REQUESTS = [REQUEST, {**REQUEST, "methods": ["none"], "tune": None}]
TABLE = {"text": "L2 does better", "source": "Somebody", "test": "difference", "column": "retention", "at_least": 0}
CLAIM = {**TABLE, "entry": "l2", "than": {"method": "none", "runs": 1}}


def planned(results, requests=REQUESTS):
    return study.plan_all(requests, results=results, device="cpu")


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chosen") / "results"
    assert study.execute_all(planned(folder)) == []
    return folder


@pytest.fixture
def folder(done, tmp_path):
    """Return the results in a folder of its own."""
    shutil.copytree(done, tmp_path / "results")
    return tmp_path / "results"


def tables_of(folder):
    return [each.asked for each in planned(folder)]


def verdict(folder, claim=CLAIM):
    records, problems = scan_records(folder)
    tables = recorded_tables(REQUESTS, records)
    claims = read_claims([claim], "study.toml")
    (found,) = judged(claims, resolved(claims, tables), Rows(records, tables, problems))
    return found


def test_an_entry_is_named_as_it_was_asked_for_and_means_what_its_tuning_chose(folder):
    tables = tables_of(folder)
    assert [[*table] for table in tables] == recorded_tables(REQUESTS, find_records(folder))
    asked = meant(EntryName("l2"), tables, "claim 1").specs[0]
    assert asked.tuning.configurations == ()
    found = Chosen(find_records(folder)).of(asked)
    (settled,) = [spec for spec in planned(folder)[0].specs if spec.methods and spec.seed == 0]
    assert found == settled
    assert found.tuning.configurations
    untuned = meant(EntryName("none", runs=2), tables, "claim 1").specs[0]
    assert Chosen([]).of(untuned) is untuned
    with pytest.raises(UsageError, match=r"'none' matches more than one entry: .*; add runs to its name"):
        meant(EntryName("none"), tables, "claim 1")


def test_a_claim_is_judged_by_the_runs_that_tuning_chose(folder):
    found = verdict(folder)
    (number,) = found.numbers
    assert number.finding.seeds == 3
    assert UNCHECKED not in number.finding.note
    rows = Rows(find_records(folder), tables_of(folder))
    first, second = (meant(name, tables_of(folder), "") for name in (EntryName("l2"), EntryName("none", runs=1)))
    values = [sum(rows.group(each, "").retentions.values()) / 3 for each in (first, second)]
    assert number.finding.value == pytest.approx(values[0] - values[1])


def test_what_is_still_to_be_tuned_or_run_is_lacking(folder, tmp_path):
    tables = tables_of(folder)
    records = find_records(folder)
    assert not lacking(records, tables)
    assert missing(records, tables) == 0
    assert lacking([], tables)
    assert missing([], tables) == 9
    # A run of what was chosen, and a fresh network that it is measured against.
    final = next(record for record in records if record.spec.tuning is not None)
    fresh = next(record for record in records if record.spec.kind == "fresh")
    for gone, count in ((final, 1), (fresh, 0)):
        left = [record for record in records if record is not gone]
        assert lacking(left, tables)
        assert missing(left, tables) == count
    development = [record for record in records if record.spec.kind != "development"]
    assert not lacking(development, tables)  # the log says what they chose


def test_a_claim_on_an_entry_without_a_log_is_refused(folder):
    for record in find_records(folder):
        if record.spec.tuning is not None and record.spec.methods:
            shutil.rmtree(record.path)
    with pytest.raises(ResultsError) as raised:
        verdict(folder)
    assert str(raised.value) == (
        "study.toml, claim 1: l2 cannot be judged: no log of its tuning by k=0.25,budget=4,seeds=1 is here; "
        "run the study, which tunes it"
    )
    first, second = ({"method": "none", "runs": number} for number in (1, 2))
    assert verdict(folder, {**CLAIM, "entry": first, "than": second}).numbers[0].finding.seeds == 3


def test_a_log_that_was_edited_is_refused_by_the_hash_of_its_record(folder):
    for record in find_records(folder):
        if record.spec.tuning is not None and record.spec.methods:
            text = (record.path / "spec.json").read_text()
            (record.path / "spec.json").write_text(text.replace('"steps": 400', '"steps": 4'))
    with pytest.raises(ResultsError, match=r"claim 1: l2 cannot be judged: no log .* 3 records cannot be used: .*spec"):
        verdict(folder)


def forged(folder, change):
    """Change the logs of l2, and the names of the directories with them, as a careful forger would."""
    for record in find_records(folder):
        if record.spec.tuning is not None and record.spec.methods:
            value = json.loads((record.path / "spec.json").read_text())
            change(value["tuning"])
            shown = value.pop("shown")
            (record.path / "spec.json").write_text(json.dumps({**value, "shown": shown}))
            record.path.rename(record_path(folder, RunSpec.from_json(value)))


def flattered(log):
    log["configurations"][log["chosen"]]["scores"] = [0.0]


def test_a_log_that_does_not_follow_from_its_development_runs_is_refused(folder):
    forged(folder, flattered)
    with pytest.raises(ResultsError, match=r"the log of its tuning has the score 0.0 for optimizer\.lr=.* has \d"):
        verdict(folder)
    with pytest.raises(ResultsError, match=r"the log of its tuning has the score 0\.0"):
        lacking(find_records(folder), tables_of(folder))


def cheaper(log):
    log["steps"] = 4


def invented(log):
    for each in log["configurations"]:
        if each is not log["configurations"][log["chosen"]]:
            each["values"]["l2.strength"] *= 77


def relabelled(log):
    log["k"] = 0.2


def rows_of(folder):
    made = board(folder)
    return {entry.spec.family.method_label: entry for entry in made.entries if entry.spec.tuning}, made


def test_a_log_whose_cost_is_not_that_of_its_development_runs_is_refused(folder):
    forged(folder, cheaper)
    rows, made = rows_of(folder)
    assert {*rows} == {"none"}
    assert {str(each).partition(": ")[2] for each in made.problems} == {
        "the log of its tuning has a cost of 4 steps, and its development runs 400."
    }


@pytest.mark.parametrize("change", [invented, relabelled])
def test_an_entry_whose_log_cannot_be_checked_is_compared_with_nothing(folder, change):
    forged(folder, change)
    rows, made = rows_of(folder)
    assert not made.problems
    assert rows["none"].group.is_checked
    assert not rows["l2"].group.is_checked
    assert not rows["l2"].competes
    assert rows["l2"].row["rank_note"] == "unranked: its tuning log is not checked"
    assert f"{UNCHECKED}: seeds 0, 1, 2" in rows["l2"].row["notes"]
    (cells,) = (each for each in cross(made.entries, "method", "scenario") if ("l2", "bitflip") in each.cells)
    (told,) = crossing_tables([cells], wide=True)
    unchecked = sum(not entry.group.is_checked for entry in cells.cells.values())
    assert f"Of {unchecked} of {len(cells.cells)} cells: {UNCHECKED}." in told.notes
    asked = rows["l2"].row
    suite = Suite("bits", (Cell("bitflip", asked["profile"], frozenset(range(3))),), asked["tuning"])
    found = {each.entry.spec.family.method_label: each for each in members(suite, made.entries)}
    assert (found["l2"].is_whole, found["l2"].scores, found["l2"].unchecked) == (False, {}, ("bitflip",))
    frame = suite_frame(suite, [*found.values()])
    assert f"l2: {UNCHECKED}: in bitflip" in suite_table(suite, frame, wide=True).notes


def test_a_table_has_no_entry_that_was_tuned_twice(done, folder, tmp_path):
    shutil.copytree(done, tmp_path / "other")
    for path in tmp_path.glob("*/runs/*-dev-l2-*"):
        shutil.rmtree(path)  # else these would say which of the two it is
    forged(folder, flattered)
    made = board(tmp_path / "other", folder)
    assert [entry.spec.family.method_label for entry in made.entries if entry.spec.tuning] == ["none"]
    (problem,) = made.problems
    assert str(problem).startswith("l2 with sgd was tuned by k=0.25,budget=4,seeds=1 more than once, with logs that ")


def test_a_table_has_no_entry_that_was_tuned_over_other_rates(done, tmp_path):
    around = {**REQUEST, "methods": ["l2"], "optimizers": ["sgd:lr=0.07"]}
    assert study.execute_all(planned(tmp_path / "other", [around])) == []
    alone = board(tmp_path / "other")
    assert [entry.spec.family.method_label for entry in alone.entries] == ["l2"]
    for record in find_records(done):
        if record.spec.methods == () and record.spec.tuning is not None:
            shutil.copytree(record.path, tmp_path / "other" / "runs" / record.path.name)
    made = board(tmp_path / "other")
    assert [entry.spec.family.method_label for entry in made.entries] == ["none"]
    (problem,) = made.problems
    assert re.match(
        r"l2 in .* was tuned over other learning rates than none in .*, and a table has one grid", str(problem)
    )


def test_no_entry_is_tuned_around_two_rates(tmp_path):
    request = {**REQUEST, "optimizers": ["adam:lr=1e-3", "adam:lr=3e-3"]}
    with pytest.raises(UsageError, match=r"none would be tuned twice, around adam:lr=0\.001 and around adam:lr=0\.003"):
        planned(tmp_path, [request])
    assert planned(tmp_path, [{**REQUEST, "optimizers": ["adam:lr=1e-3", "sgd:lr=1e-2"]}])


def test_a_log_that_cannot_be_checked_is_told(folder):
    for path in (folder / "runs").glob("*-dev-l2-*"):
        shutil.rmtree(path)
    assert f"l2: {UNCHECKED}" in verdict(folder).numbers[0].finding.note


def test_two_logs_of_one_tuning_are_refused(done, folder, tmp_path):
    for path in (folder / "runs").glob("*-dev-l2-*"):
        shutil.rmtree(path)  # else these would say which of the two it is
    forged(folder, flattered)
    both = [*find_records(folder), *(each for each in find_records(done) if each.spec.tuning is not None)]
    with pytest.raises(
        ResultsError, match=r"l2.* was tuned twice by k=0.25,budget=4,seeds=1, and the two logs have different scores"
    ):
        lacking(both, tables_of(folder))


def test_tuning_on_another_grid_is_another(folder):
    tables = tables_of(folder)
    (spec, *_) = meant(EntryName("l2"), tables, "").specs
    other = replace(spec, optimizer=spec.optimizer.changed("lr", "0.02"))
    assert Chosen(find_records(folder)).of(other) is None
