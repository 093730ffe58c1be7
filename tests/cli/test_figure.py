"""``lopbench figure``: runs what is missing and draws it whole, or says in a sentence why not."""

import json

import pytest

STUDY = """
title = "A tiny figure"
scenario = "bitflip:samples=200,T=50,steps_per_task=20"
profile = "smoke"
methods = ["none", "l2:strength=0.5"]
seeds = "0-2"
metrics = ["dead_fraction"]

[figure]
source = "Somebody 2024, Fig. 1"
minutes = 5
note = "Far fewer samples."

[[figure.panels]]
kind = "curves"
label = "error"
metric = "online_error"
marks = [{ series = "SGD", entry = "none", published = [[1.0, 0.5]] }, { series = "L2", entry = "l2:strength=0.5" }]

[[figure.panels]]
kind = "bars"
label = "dead units"
metric = "dead_fraction"
of = "end"
marks = [{ series = "SGD", entry = "none", at = "5", published = 0.9 }]
"""


@pytest.fixture
def figure(lopbench, tmp_path, one_thread):
    def run(text, *arguments):
        (tmp_path / "fig.toml").write_text(text)
        return lopbench("figure", "fig.toml", *arguments, "--device=cpu", "--threads=1")

    return run


def test_it_is_drawn_and_its_numbers_are_printed_beside_the_published_ones(figure, tmp_path):
    shown = figure(STUDY)
    assert shown.exit_code == 0, shown.output
    svg = (tmp_path / "fig.svg").read_text()
    assert "read off the published figure" in svg
    assert "dead units" in svg
    assert "Otherwise than there: Far fewer samples." in shown.stderr
    assert "Somebody 2024, Fig. 1. Written to fig.svg." in shown.stderr
    rows = json.loads(figure(STUDY, "--format=json", "--output=again.svg").stdout)
    assert [(row["panel"], row["series"], row["published"]) for row in rows] == [
        ("error", "SGD", 0.5),
        ("error", "L2", None),
        ("dead units", "SGD", 0.9),
    ]
    assert (tmp_path / "again.svg").read_text() == svg
    assert figure(STUDY, "--format=csv").stdout.startswith("panel,at,series,value")


def test_runs_that_take_longer_than_they_may_are_not_begun_and_nothing_is_drawn(figure, tmp_path, runs):
    shown = figure(STUDY, "--within=0")
    assert shown.exit_code == 2, shown.output
    told = shown.stderr.replace("\n", "")
    assert "figure fig.toml lacks" in told
    assert "give them time with --within MINUTES, or name a folder that has them with --results" in told
    assert runs() == []
    assert not (tmp_path / "fig.svg").exists()


def test_a_study_that_draws_nothing_is_told(figure):
    shown = figure(STUDY.partition("[figure]")[0])
    assert shown.exit_code == 2
    assert "fig.toml draws nothing: add a table [figure]" in shown.stderr.replace("\n", "")


def test_a_figure_of_what_is_not_in_the_study_is_told_before_anything_runs(figure, runs):
    for wrong, told in (
        (STUDY.replace('entry = "none", at', 'entry = "cbp", at'), "no run of the study has the method 'cbp'"),
        (STUDY.replace('"dead_fraction"\nof', '"dead_fractoin"\nof'), "Did you mean 'dead_fraction'"),
    ):
        shown = figure(wrong)
        assert shown.exit_code == 2
        assert told in shown.stderr.replace("\n", "")
    assert runs() == []


def test_tuned_entries_are_drawn_as_their_tuning_chose(figure, runs):
    tuned = STUDY.replace("l2:strength=0.5", "l2").replace(
        "[figure]", "[tune]\nk = 0.5\nbudget = 4\nseeds = 1\n[figure]"
    )
    shown = figure(tuned, "--format=json")
    assert shown.exit_code == 0, shown.output
    assert [row["series"] for row in json.loads(shown.stdout)] == ["SGD", "L2", "SGD"]
    assert sum("-dev-" in name for name in runs()) == 8


def test_figures_are_listed_and_a_wrong_name_is_told(lopbench):
    names = [row["name"] for row in json.loads(lopbench("list", "figures", "--format=json").stdout)["figures"]]
    assert {"2.1", "3.1", "4.1", "B.2", "B.2-paper"} <= set(names)
    shown = lopbench("figure", "B.22")
    assert shown.exit_code == 2
    assert "Did you mean 'B.2'" in shown.stderr
