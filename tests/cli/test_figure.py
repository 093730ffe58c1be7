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
    assert "Published: Somebody 2024, Fig. 1." in shown.stderr
    assert "Different from the publication: Far fewer samples." in shown.stderr
    assert "Written to fig.svg." in shown.stderr
    rows = json.loads(figure(STUDY, "--format=json", "--output=again.svg").stdout)
    assert [(row["panel"], row["series"], row["published"]) for row in rows] == [
        ("error", "SGD", 0.5),
        ("error", "L2", None),
        ("dead units", "SGD", 0.9),
    ]
    assert (tmp_path / "again.svg").read_text() == svg
    assert figure(STUDY, "--format=csv").stdout.startswith("panel,at,series,value")


def test_a_published_set_draws_its_figures_and_takes_no_runs(figure, lopbench, tmp_path):
    assert figure(STUDY, "--results=mine").exit_code == 0
    (tmp_path / "set").mkdir()
    assert lopbench("pack", "mine", "--output=set/runs.lopbench").exit_code == 0
    shown = figure(STUDY, "--results=set", "--output=again.svg")
    assert shown.exit_code == 0, shown.output
    assert (tmp_path / "again.svg").read_text() == (tmp_path / "fig.svg").read_text()
    shown = figure(STUDY.replace("0-2", "0-3"), "--results=set")
    assert (shown.exit_code, shown.stderr.count("neither packed sets nor several folders take new runs")) == (2, 1)
    assert [path.name for path in (tmp_path / "set").iterdir()] == ["runs.lopbench"]


def test_a_damaged_record_is_told_and_the_figure_shows_the_others(figure, lopbench, tmp_path):
    assert figure(STUDY, "--results=mine").exit_code == 0
    damaged = tmp_path / "mine" / "runs" / "damaged"
    damaged.mkdir()
    shown = figure(STUDY, "--results=mine", "--output=again.svg")
    assert shown.exit_code == 1
    assert (tmp_path / "again.svg").read_text() == (tmp_path / "fig.svg").read_text()
    assert shown.stderr.count("Left out: ") == 1
    assert shown.stderr.endswith("Error: 1 record could not be used; the figure shows the others.\n")


def test_runs_that_take_longer_than_they_may_are_not_begun_and_nothing_is_drawn(figure, tmp_path, runs):
    shown = figure(STUDY, "--within=0")
    assert shown.exit_code == 2, shown.output
    told = shown.stderr.replace("\n", "")
    assert "figure fig.toml lacks 12 runs. Here they would take" in told
    assert "and no time is allowed. Allow more with --within MINUTES, or name a folder that has the runs" in told
    assert runs() == []
    assert not (tmp_path / "fig.svg").exists()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--width=0"], "--width is a width in inches from 1 to 40, got 0"),
        (["--width=-1"], "--width is a width in inches from 1 to 40, got -1"),
        (["--width=1e9"], "--width is a width in inches from 1 to 40, got 1e+09"),
        (["--width=nan"], "--width is a width in inches from 1 to 40, got nan"),
        (["--within=nan"], "nan is not a finite number"),
        (["--within=inf"], "inf is not a finite number"),
        (["--output=fig.jpg"], "A figure is saved as .svg, .pdf or .png, not as 'fig.jpg'"),
        (["--output=nowhere/fig.svg"], "The folder nowhere of the figure does not exist; make it first"),
        (["--budget=paper"], "--budget paper is for installed figures, and fig.toml is a file"),
    ],
)
def test_a_wrong_option_is_told_before_anything_runs(figure, runs, options, told):
    shown = figure(STUDY, *options)
    assert shown.exit_code == 2, shown.output
    assert told in " ".join(shown.stderr.split())
    assert runs() == []


def test_texts_of_a_study_are_drawn_as_text(figure, tmp_path):
    hostile = "$\\\\foo{$ <b> \\u001b[31m \\u202e"
    text = STUDY.replace('"L2"', f'"{hostile}"').replace('"dead units"', f'"{hostile}"').replace('"5"', f'"{hostile}"')
    shown = figure(text)
    assert shown.exit_code == 0, shown.output
    svg = (tmp_path / "fig.svg").read_text()
    assert svg.count("$\\foo{$ &lt;b&gt; ?[31m ?") == 3
    assert not {"\x1b", "\u202e"} & {*svg, *shown.output}


def test_a_study_that_draws_nothing_is_told(figure):
    shown = figure(STUDY.partition("[figure]")[0])
    assert shown.exit_code == 2
    assert "fig.toml has no table [figure]: add one" in shown.stderr.replace("\n", "")


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
