"""Tuned studies, and tables of two factors, from the command line."""

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner

from lopbench.cli import cli
from lopbench.runner.run import Run
from lopbench.runner.study_file import read_study

RUN = [
    "run",
    "--scenario=bitflip:samples=400,m=8,f=5,T=100,steps_per_task=100",
    "--architecture=online_mlp:width=4",
    "--metrics=dead_fraction",
    "--device=cpu",
    "--threads=1",
    "--method=none",
    "--method=l2",
]
TUNE = "--tune=k=0.25,budget=4,seeds=1"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return a folder with a tuned study, and what the command said."""
    folder = tmp_path_factory.mktemp("tuned") / "results"
    done = CliRunner(env={"COLUMNS": "1000"}).invoke(cli, [*RUN, TUNE, f"--results={folder}"], prog_name="lopbench")
    assert done.exit_code == 0, done.stderr
    return folder, done


@pytest.fixture
def tuned(made, lopbench, one_thread):
    folder, done = made
    shutil.copytree(folder, "results")
    return done


def test_a_study_is_tuned_and_its_table_says_how(lopbench, tuned, runs):
    assert "2 entries with 4 configurations each, on the first 1 of 4 tasks, seed 1000: 8 runs" in tuned.stderr
    assert "tuned by k=0.25,budget=4,seeds=1" in tuned.stdout
    assert "Tuned: each row is the best of 4 configurations" in tuned.stdout
    assert sum("-dev-" in name for name in runs()) == 8
    again = lopbench(*RUN, TUNE)
    assert again.exit_code == 0
    assert "nothing to do, all" in again.stderr
    untuned = lopbench(*RUN)
    assert "tuned by" not in untuned.stdout
    made = lopbench("leaderboard", "results", "--output=board.csv")
    assert made.exit_code == 0
    assert pd.read_csv("board.csv")["tuning"].notna().sum() == 2
    assert lopbench("leaderboard", "results", "--check=board.csv").exit_code == 0


def test_entries_that_were_tuned_otherwise_do_not_compare_and_the_field_is_named(lopbench, tuned):
    assert lopbench(*RUN, TUNE.replace("seeds=1", "seeds=2")).exit_code == 0
    one, other = (f"results/runs/{path.name}" for path in sorted(Path("results/runs").glob("*-online_mlp-none-s0-*")))
    shown = lopbench("compare", one, other)
    assert shown.exit_code == 1
    assert "tuning.seeds is " in shown.stderr


def test_a_dry_run_tells_of_what_follows(lopbench, one_thread):
    shown = lopbench(*RUN, TUNE, "--dry-run")
    assert shown.exit_code == 0
    assert "8 runs; then 3 runs of the chosen configurations" in shown.stderr
    assert not Path("results").exists()


def test_status_tells_of_what_follows(lopbench, monkeypatch, one_thread):
    monkeypatch.setattr("lopbench.runner.worth.MOST_OPERATIONS", 0)  # one after the other
    execute, begun = Run.execute, []

    def stop(self):
        if len(begun) == 2:
            raise KeyboardInterrupt
        begun.append(self)
        return execute(self)

    monkeypatch.setattr(Run, "execute", stop)
    assert lopbench(*RUN, TUNE, "--results=stopped").exit_code == 130
    shown = lopbench("status", "stopped")
    assert shown.exit_code == 0
    assert "2 entries are still to be tuned; the runs of what that chooses come after these." in shown.stdout
    assert json.loads(lopbench("status", "stopped", "--format=json").stdout)["untuned"] == 2
    monkeypatch.setattr(Run, "execute", execute)
    assert lopbench(*RUN, TUNE, "--results=stopped").exit_code == 0
    assert "still to be tuned" not in lopbench("status", "stopped").stdout


def test_a_study_file_has_a_table_of_its_own(tmp_path):
    path = tmp_path / "study.toml"
    path.write_text("[tune]\nk = 1\nbudget = 4\n[[runs]]\n[[runs]]\n[runs.tune]\nk = 0.5")
    assert [each["tune"].label for each in read_study(path).requests] == [
        "k=1,budget=4,seeds=3",
        "k=0.5,budget=16,seeds=3",
    ]


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("--tune=k=2", "tune: k is the share of the stream, above 0 and at most 1, got 2"),
        ("--tune=budget=3", "the grid of l2 has 4 settings, more than the budget of 3 configurations"),
        ("--tune=steps=3", "tune: unknown 'steps'."),
    ],
)
def test_what_asks_for_no_tuning_is_one_sentence(lopbench, option, told):
    shown = lopbench(*RUN, option)
    assert shown.exit_code == 2
    assert told in " ".join(shown.stderr.split())
    assert "Traceback" not in shown.stderr


# -- tables


def test_sensitivity_marks_the_tuned_point(lopbench, tuned):
    shown = lopbench("leaderboard", "results", "--sensitivity")
    assert shown.exit_code == 0
    line = next(line for line in shown.stdout.splitlines() if "l2.strength" in line)
    assert line.count("*:") == 1
    assert line.count(": ") == 4
    frame = pd.DataFrame(
        json.loads(lopbench("leaderboard", "results", "--sensitivity", "--format=json").stdout)["rows"]
    )
    assert (frame.groupby(["method", "field"])["chosen"].sum() == 1).all()
    assert "| `l2` | `l2.strength` |" in lopbench("leaderboard", "results", "--sensitivity", "--format=markdown").stdout


def test_the_page_shows_sensitivity_with_the_tuned_point_in_bold(lopbench, tuned):
    assert lopbench("report", "results", "--output=page.html").exit_code == 0
    text = Path("page.html").read_text()
    (table,) = re.findall("<summary>Sensitivity to hyperparameters</summary>.*?</details>", text, re.DOTALL)
    fields = re.findall('<tr><th scope="row">(.*?)</th><th scope="row">(.*?)</th>', table)
    assert ("l2", "l2.strength") in [(method, field.replace("<wbr>", "")) for method, field in fields]
    assert table.count("<strong>") == len(fields)  # one chosen value of each field


def test_tables_of_two_factors_have_all_formats(lopbench, one_thread):
    assert lopbench(*RUN, "--sweep=lr=0.01,0.001").exit_code == 0
    asked = ["leaderboard", "results", "--rows=method", "--columns=optimizer.lr"]
    shown = lopbench(*asked)
    assert shown.exit_code == 0, shown.stderr
    assert "retention by method and optimizer.lr" in shown.stdout
    assert "0.001" in shown.stdout
    for output_format, begins in (
        ("csv", "method,optimizer.lr,retention"),
        ("markdown", "bitflip"),
        ("latex", r"\begin"),
        ("html", "<section>"),
    ):
        assert lopbench(*asked, f"--format={output_format}").stdout.startswith(begins)
    assert len(json.loads(lopbench(*asked, "--format=json").stdout)["rows"]) == 4


@pytest.mark.parametrize(
    ("options", "code", "told"),
    [
        (["--sensitivity"], 1, "No entry here was tuned"),
        (["--columns=optimizer.rate"], 2, "No run has 'optimizer.rate'"),
        (["--columns=optimizer.lr", "--sensitivity"], 2, "are for the usual one; ask for one of these"),
    ],
)
def test_tables_that_there_are_not_are_one_sentence(lopbench, recorded, options, code, told):
    recorded(run=RUN)
    shown = lopbench("leaderboard", "results", *options)
    assert shown.exit_code == code
    assert told in " ".join(shown.stderr.split())
