"""Suites from the command line."""

import json
import re

import pytest

from lopbench.core.errors import UsageError
from lopbench.core.shipped import shipped
from lopbench.runner.study_file import read_study
from lopbench.runner.suites import suite_of


@pytest.mark.parametrize(
    ("options", "code", "told"),
    [
        (["--suite=cpu"], 1, "suite 'cpu' tuned by k=0.1,budget=16,seeds=3 here; 'lopbench run cpu' makes"),
        (["--suite=cup"], 2, "there is no file cup, and no study of this name. Did you mean 'cpu'?"),
        (
            ["--suite=cpu", "--sensitivity"],
            2,
            "are for the usual one; ask for one of these.",
        ),
    ],
)
def test_tables_of_suites_that_there_are_not_are_one_sentence(lopbench, recorded, options, code, told):
    recorded("--method=none")
    shown = lopbench("leaderboard", "results", *options)
    assert shown.exit_code == code
    assert told in " ".join(shown.stderr.split())


@pytest.mark.parametrize(
    ("text", "code", "told"),
    [
        ('scenario = "bitflip"', 2, "each of its [[runs]] has to name a scenario and a profile"),
        ('scenario = "bitflip"\nprofile = "lite"\n[[runs]]\n[[runs]]', 2, "two of its [[runs]] have one scenario"),
        (
            'scenario = "bitflip"\nprofile = "lite"\n[[runs]]\ntune = "k=1"\n[[runs]]',
            2,
            "its runs are tuned in several ways, not at all, k=1,budget=16,seeds=3",
        ),
        ('scenario = "bitflip"\nprofile = "lite"', 1, "the suite 'mine' here; 'lopbench run mine.toml' makes them"),
    ],
)
def test_a_study_file_that_is_no_suite_or_has_no_runs_is_one_sentence(lopbench, recorded, tmp_path, text, code, told):
    recorded("--method=none")
    (tmp_path / "mine.toml").write_text(text)
    shown = lopbench("leaderboard", "results", "--suite=mine.toml")
    assert shown.exit_code == code
    assert told in " ".join(shown.stderr.split())


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('scenario = "bitflpi"\nprofile = "lite"', "Did you mean 'bitflip'?"),
        ('scenario = "bitflip"\nprofile = "light"', "bitflip has no profile 'light'. Did you mean 'lite'?"),
    ],
)
def test_a_suite_of_what_there_is_not_is_one_sentence(tmp_path, text, told):
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(UsageError, match=re.escape(told)):
        suite_of(str(tmp_path / "mine.toml"))


@pytest.mark.parametrize(("text", "profile"), [("bitflip:T=500", "smoke"), ("bitflip:T=50", "smoke+custom")])
def test_a_cell_has_the_profile_that_its_runs_have(tmp_path, text, profile):
    (tmp_path / "mine.toml").write_text(f'scenario = "{text}"\nprofile = "smoke"')
    assert [cell.profile for cell in suite_of(str(tmp_path / "mine.toml")).cells] == [profile]


def test_an_unknown_suite_is_one_sentence(lopbench):
    shown = lopbench("run", "gup")
    assert shown.exit_code == 2
    told = "there is no file gup, and no study of this name. Did you mean 'gpu'? 'lopbench list suites' shows those"
    assert told in " ".join(shown.stderr.split())


@pytest.mark.parametrize("name", shipped("suites"))
def test_suites_are_studies_of_many_methods_tuned_alike(name):
    file, suite = read_study(shipped("suites")[name]), suite_of(name)
    assert suite.tuning == "k=0.1,budget=16,seeds=3"
    assert len(suite.cells) >= 6
    assert all(len({*request["methods"]}) == len(request["methods"]) >= 20 for request in file.requests)
    assert all(len(request["seeds"]) >= 5 for request in file.requests)


def test_a_suite_can_be_run_with_a_method_of_ones_own(lopbench, tmp_path, monkeypatch, one_thread):
    path = tmp_path / "toys.toml"
    path.write_text('methods = ["none", "cbp"]\n[[runs]]\nscenario = "bitflip"\nprofile = "smoke"\n')
    monkeypatch.setattr("lopbench.core.shipped.shipped", lambda folder: {"toys": path})
    shown = lopbench("run", "toys", "--method=l2", "--device=cpu", "--dry-run")
    assert shown.exit_code == 0, shown.stderr
    assert "l2" in shown.stderr
    assert "cbp" not in shown.stderr
    assert lopbench("run", str(path), "--method=l2", "--dry-run").exit_code == 2


def test_the_table_of_a_suite_has_all_formats(lopbench, tmp_path, monkeypatch, one_thread):
    path = tmp_path / "toys.toml"
    path.write_text('methods = ["none", "l2"]\nseeds = "0-1"\n[[runs]]\nscenario = "bitflip"\nprofile = "smoke"\n')
    monkeypatch.setattr("lopbench.core.shipped.shipped", lambda folder: {"toys": path})
    done = lopbench("run", "toys", "--device=cpu")
    assert done.exit_code == 0, done.stderr
    asked = ["leaderboard", "results", "--suite=toys"]
    shown = lopbench(*asked)
    assert shown.exit_code == 0, shown.stderr
    assert "Suite toys" in shown.stdout
    assert "#: there are no ranks; they take 3 methods with all cells, and 2 have them." in shown.stdout
    for output_format, begins in (("csv", "suite,method"), ("markdown", "Suite toys"), ("latex", r"\begin{table}")):
        assert lopbench(*asked, f"--format={output_format}").stdout.startswith(begins)
    value = json.loads(lopbench(*asked, "--format=json").stdout)
    assert len(value["rows"]) == len(value["profiles"]) == 2
    assert {len(each["share"]) for each in value["profiles"]} == {len(value["profiles"][0]["tau"])}
    drawn = lopbench("plot", "suite", "results", "--suite=toys", "--method=l2", "--output=toys.svg")
    assert drawn.exit_code == 0, drawn.stderr
    assert "bitflip" in (tmp_path / "toys.svg").read_text()
