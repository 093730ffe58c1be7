"""``lopbench verify``: claims are run for, judged and printed; what cannot be judged is told before anything runs."""

import csv
import io
import json
import shutil

import pandas as pd
import pytest

STUDY = """
title = "A tiny study"
scenario = "bitflip:samples=200,T=50,steps_per_task=20"
profile = "smoke"
methods = ["none", "l2:strength=0.5"]
seeds = "0-2"
metrics = ["dead_fraction"]
"""
CLAIM = """
[[claim]]
text = "L2 does better"
source = "Somebody 2024"
test = "difference"
column = "lifetime_online"
entry = "l2:strength=0.5"
than = "none"
at_least = 0
"""
#: A strength that is given is not tuned.
TUNED = STUDY.replace("l2:strength=0.5", "l2") + "[tune]\nk = 0.5\nbudget = 4\nseeds = 1\n"
TUNED_CLAIM = CLAIM.replace("l2:strength=0.5", "l2")


@pytest.fixture
def verify(lopbench, tmp_path, one_thread):
    """Return a function that verifies a study in the empty directory."""

    def run(text, *arguments):
        (tmp_path / "study.toml").write_text(text)
        return lopbench("verify", "study.toml", *arguments, "--device=cpu", "--threads=1")

    return run


def test_missing_runs_are_done_once_and_the_claim_is_judged(verify, runs):
    shown = verify(STUDY + CLAIM)
    assert shown.exit_code == 0, shown.output
    assert "L2 does better (Somebody 2024)" in shown.stdout
    assert any(word in shown.stdout for word in ("agrees", "disagrees", "cannot tell"))
    done = runs()
    assert sum("fresh" not in name for name in done) == 6
    again = verify(STUDY + CLAIM, "--no-run", "--format=json")
    assert runs() == done
    value = json.loads(again.stdout)
    assert value["study"] == "A tiny study"
    [claim] = value["claims"]
    assert claim["verdict"] in ("agrees", "disagrees", "cannot tell")
    assert claim["numbers"][0]["seeds"] == 3
    rows = list(csv.DictReader(io.StringIO(verify(STUDY + CLAIM, "--no-run", "--format=csv").stdout)))
    assert float(rows[0]["value"]) == pytest.approx(claim["numbers"][0]["value"])


def test_without_runs_nothing_can_be_told(verify, runs):
    shown = verify(STUDY + CLAIM, "--no-run")
    assert shown.exit_code == 0, shown.output
    assert "cannot tell" in shown.stdout
    assert "none: there is no record of seeds 0-2" in shown.stdout
    assert runs() == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (STUDY, "study.toml has no claims: add a table [[claim]], as 'lopbench verify --help' shows"),
        (
            STUDY + CLAIM.replace("lifetime_online", "lifetime_onlin"),
            "claim 1: 'lifetime_onlin' is no column with a number for each seed. Did you mean 'lifetime_online'",
        ),
        (
            STUDY + CLAIM.replace('entry = "l2:strength=0.5"', 'entry = "l2:strength=0.4"'),
            "claim 1: no run of the study has the method 'l2:strength=0.4'. Did you mean 'l2:strength=0.5'",
        ),
        (
            STUDY + CLAIM.replace('"none"', '{ method = "none", runs = 2 }'),
            "claim 1: an entry has runs = 2, and the study has 1 table of runs.",
        ),
        (
            STUDY + CLAIM.replace('column = "lifetime_online"', 'metric = "dead_fractoin"'),
            "claim 1: no run of l2:strength=0.5 measures 'dead_fractoin'. Did you mean 'dead_fraction'",
        ),
        (
            STUDY + CLAIM.replace('column = "lifetime_online"', 'metric = "online_error"\nlayer = 2'),
            "claim 1: 'online_error' is of the whole network; leave out 'layer = 2'.",
        ),
        (
            TUNED.replace("budget = 4", "budget = 3") + TUNED_CLAIM,
            "the grid of l2 has 4 settings, more than the budget of 3 configurations",
        ),
        (STUDY + CLAIM + "[[claims]]", "unknown key 'claims'. Did you mean 'claim'"),
    ],
)
def test_what_cannot_be_judged_is_one_sentence_before_anything_runs(verify, runs, text, told):
    shown = verify(text)
    assert shown.exit_code == 2, shown.output
    assert told in shown.stderr.replace("\n", "")
    assert runs() == []


def test_entries_are_tuned_and_judged_by_what_that_chose(verify, runs, lopbench):
    refused = verify(TUNED + TUNED_CLAIM, "--no-run")
    assert refused.exit_code == 1
    told = "claim 1: l2 cannot be judged: no log of its tuning by k=0.5,budget=4,seeds=1 is here; run the study"
    assert told in " ".join(refused.stderr.split())
    shown = verify(TUNED + TUNED_CLAIM, "--format=json")
    assert shown.exit_code == 0, shown.output
    (number,) = json.loads(shown.stdout)["claims"][0]["numbers"]
    assert (number["number"], number["seeds"]) == ("lifetime_online of l2 minus that of none", 3)
    done = runs()
    assert sum("-dev-" in name for name in done) == 8
    assert sum("mlp-l2-s" in name for name in done) == 3
    assert verify(TUNED + TUNED_CLAIM, "--format=json").stdout == shown.stdout
    assert runs() == done
    assert lopbench("pack", "results", "--output", "mine.lopbench").exit_code == 0
    assert verify(TUNED + TUNED_CLAIM, "mine.lopbench", "--format=json").stdout == shown.stdout


def test_an_edited_log_is_one_sentence(verify, tmp_path):
    assert verify(TUNED + TUNED_CLAIM).exit_code == 0
    for path in (tmp_path / "results" / "runs").glob("*-l2-s*/spec.json"):
        path.write_text(path.read_text().replace('"budget": 4', '"budget": 5'))
    for options in ((), ("--no-run",)):
        shown = verify(TUNED + TUNED_CLAIM, *options)
        assert shown.exit_code == 1
        last = " ".join(shown.stderr.split()).rpartition("Error: ")[2]
        assert "claim 1: l2 cannot be judged: no log of its tuning by k=0.5,budget=4,seeds=1 is here" in last
        assert "the log of its tuning has 4 configurations, and its budget is 5" in last


@pytest.mark.parametrize(
    "places", [["nowhere", "--no-run"], ["results", "nowhere"], ["nowhere", "results", "--no-run"]]
)
def test_a_folder_that_does_not_exist_is_told_where_nothing_is_run(verify, tmp_path, places):
    (tmp_path / "results").mkdir()
    shown = verify(STUDY + CLAIM, *places)
    assert shown.exit_code == 2
    assert "nowhere does not exist; name a results folder or a packed set" in shown.stderr
    assert not (tmp_path / "nowhere").exists()


def test_what_a_study_says_of_threads_holds(lopbench, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("torch.set_num_threads", asked.append)
    monkeypatch.setattr("lopbench.cli.run.do", lambda *_, **__: [])
    (tmp_path / "study.toml").write_text(f"threads = 3\n{STUDY}{CLAIM}")
    for options, threads in (((), 3), (("--threads=2",), 2)):
        asked.clear()
        assert lopbench("verify", "study.toml", "--device=cpu", *options).exit_code == 0
        assert asked[0] == threads


def test_a_name_that_nothing_has_is_told(lopbench):
    shown = lopbench("verify", "D77")
    assert shown.exit_code == 2
    assert "there is no file D77, and no study of this name. Did you mean 'D7'" in shown.stderr


def test_a_packed_set_is_judged_and_takes_no_runs(verify, lopbench, tmp_path):
    assert verify(STUDY + CLAIM).exit_code == 0
    assert lopbench("pack", "results", "--output", "mine.lopbench").exit_code == 0
    assert verify(STUDY + CLAIM, "mine.lopbench").exit_code == 0
    more = STUDY.replace('"0-2"', '"0-3"') + CLAIM
    refused = verify(more, "mine.lopbench")
    assert refused.exit_code == 2
    told = " ".join(refused.stderr.split())
    assert "2 runs of study.toml are missing in mine.lopbench, and neither packed sets nor several folders take" in told
    assert "Name one folder to do them in" in told
    assert "there is no record of seed 3" in verify(more, "mine.lopbench", "--no-run").stdout


def test_runs_in_several_folders_are_judged_together(verify, tmp_path):
    whole = verify(STUDY + CLAIM, "--format=json").stdout
    (tmp_path / "more" / "runs").mkdir(parents=True)
    moved = [path for path in (tmp_path / "results" / "runs").iterdir() if "s1" in path.name]
    assert moved
    for path in moved:
        path.rename(tmp_path / "more" / "runs" / path.name)
    assert verify(STUDY + CLAIM, "results", "more", "--format=json").stdout == whole
    refused = verify(STUDY.replace('"0-2"', '"0-3"') + CLAIM, "results", "more")
    assert refused.exit_code == 2
    assert (
        "2 runs of study.toml are missing in results and more, and neither packed sets nor several folders"
        in " ".join(refused.stderr.split())
    )


def test_runs_that_came_out_differently_in_two_folders_are_told(verify, tmp_path):
    verify(STUDY + CLAIM)
    (tmp_path / "more" / "runs").mkdir(parents=True)
    one = next(path for path in (tmp_path / "results" / "runs").iterdir() if "-none-s1-" in path.name)
    shutil.copytree(one, tmp_path / "more" / "runs" / one.name)
    values = tmp_path / "more" / "runs" / one.name / "measurements.parquet"
    table = pd.read_parquet(values)
    table.assign(value=table["value"] / 2).to_parquet(values)
    shown = verify(STUDY + CLAIM, "results", "more")
    assert shown.exit_code == 1
    assert "L2 does better" in shown.stdout
    assert "are the same run with different results; leave one of them out" in " ".join(shown.stderr.split())
    assert shown.stderr.endswith("could not be used; the claims are judged by the others.\n")


def test_a_damaged_record_is_told_once_beside_what_the_others_say(verify, tmp_path):
    verify(STUDY + CLAIM)
    damaged = next((tmp_path / "results" / "runs").glob("*-none-s1-*"))
    (damaged / "measurements.parquet").write_bytes(b"PAR1")
    shown = verify(STUDY + CLAIM, "--no-run")
    assert shown.exit_code == 1
    assert "L2 does better" in shown.stdout
    assert shown.stderr.count("Left out: ") == shown.stderr.count(damaged.name) == 1
    assert shown.stderr.endswith("Error: 1 record could not be used; the claims are judged by the others.\n")


def test_the_data_of_recorded_runs_need_not_be_here(verify, monkeypatch, images):
    study = """
    scenario = "tinyimagenet40:tasks=2,steps_per_task=5,classes_per_task=2,resolution=8,images_per_class=10"
    architecture = "mlp:width=8,depth=1"
    methods = ["none", "l2:strength=0.5"]
    seeds = "0-2"
    metrics = []
    """
    monkeypatch.setattr("lopbench.runner.study.load_data", lambda name, **_: images)
    first = verify(study + CLAIM, "--format=csv")
    assert first.exit_code == 0, first.output

    def absent(*_, **__):
        raise AssertionError("no data are needed")

    monkeypatch.setattr("lopbench.runner.study.load_data", absent)
    assert verify(study + CLAIM, "--no-run", "--format=csv").stdout == first.stdout


def test_run_takes_a_study_with_claims_as_any_other(lopbench, tmp_path):
    (tmp_path / "study.toml").write_text(STUDY + CLAIM)
    shown = lopbench("run", "study.toml", "--device=cpu", "--dry-run")
    assert shown.exit_code == 0, shown.output


def test_claims_are_listed_with_what_they_say(lopbench):
    rows = json.loads(lopbench("list", "claims", "--format=json").stdout)["claims"]
    names = [row["name"] for row in rows]
    assert names.index("D2") < names.index("D10")
    assert all(row["summary"] for row in rows)
    assert "D7" in lopbench("list", "claims").stdout
