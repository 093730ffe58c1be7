from pathlib import Path

import pytest


@pytest.fixture
def results(recorded):
    return recorded("--method=none", "--method=l2", "--seeds=0-2")


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_runs_are_packed_and_unpacked(lopbench, results):
    shown = lopbench("pack", results, "--output=set.lopbench")
    assert shown.exit_code == 0, shown.stderr
    assert shown.stdout == ""
    assert "12 runs, " in shown.stderr
    assert " MB packed.\nWritten to set.lopbench.\n" in shown.stderr
    shown = lopbench("unpack", "set.lopbench", "--output=again")
    assert shown.exit_code == 0, shown.stderr
    assert shown.stdout == ""
    assert "12 runs, " in shown.stderr
    assert "other bytes" not in shown.stderr
    assert contents(Path("again/runs")) == contents(results / "runs")


@pytest.mark.parametrize(
    "arguments",
    [
        ("leaderboard", "{}", "--format=json"),
        ("compare", "{}", "--format=json"),
        ("compare", "{}:none", "{}:l2", "--format=json"),
        ("status", "{}", "--format=json"),
        ("plot", "curves", "{}", "--output=figure.svg"),
        ("plot", "learning-rate", "{}", "--output=figure.svg"),
        ("report", "{}", "--output=page.html"),
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
def test_every_command_takes_a_set_in_the_place_of_a_folder(lopbench, results, arguments):
    Path("mixed/runs").mkdir(parents=True)
    assert lopbench("pack", results, "--output=mixed/set.lopbench").exit_code == 0
    (lone, *_) = sorted((results / "runs").iterdir())
    lone.rename(Path("mixed/runs") / lone.name)
    shown = {}
    for place in ("mixed/set.lopbench", "mixed"):
        done = lopbench(*(argument.format(place) for argument in arguments))
        assert done.exit_code == 0, done.stderr
        shown[place] = done.stdout.replace("mixed/set.lopbench", "mixed"), done.stderr
    if arguments[0] != "status":  # which says where each record is
        assert shown["mixed"] == shown["mixed/set.lopbench"]


def test_the_leaderboard_of_a_set_is_that_of_its_csv(lopbench, results):
    assert lopbench("leaderboard", results, "--output=board.csv").exit_code == 0
    assert lopbench("pack", results, "--output=set.lopbench").exit_code == 0
    shown = lopbench("leaderboard", "set.lopbench", "--check=board.csv")
    assert shown.exit_code == 0
    assert shown.stdout == "board.csv agrees with the records: 2 rows.\n"


@pytest.mark.parametrize("command", ["leaderboard", "compare", "unpack", "status"])
def test_what_is_no_set_is_a_sentence(lopbench, command):
    Path("set.lopbench").write_bytes(b"%PDF-1.7")
    shown = lopbench(command, "set.lopbench")
    assert shown.exit_code == 1
    assert shown.stdout == ""
    assert shown.stderr == (
        "Error: set.lopbench is no packed set: expected a zip of manifest.json, records.parquet, measurements.parquet, "
        "found a file that begins with b'%PDF'.\n"
    )


def test_help_says_how_it_goes_on(lopbench):
    shown = lopbench("pack", "--help")
    assert "lopbench leaderboard mine.lopbench" in shown.stdout
    assert "lopbench unpack mine.lopbench --output results" in shown.stdout
