import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from lopbench.results.pack import unpack

PUBLISHED = Path(__file__).parents[2] / "results" / "tinyimagenet40-lite-mlp"
BOARD = PUBLISHED / "leaderboard.csv"


@pytest.fixture
def few(published_part):
    """Return a folder with two seeds of ``none`` and ``dropout`` of the published runs."""
    return published_part("few", seeds=(0, 1), none=[0.001], dropout=[0.003])


@pytest.fixture
def board(tmp_path):
    """Return the rows of ``none`` and ``dropout`` of the published table, each at one learning rate."""
    frame = pd.read_csv(BOARD)
    chosen = [(frame["method"] == method) & (frame["lr"] == lr) for method, lr in (("none", 0.001), ("dropout", 0.003))]
    frame[chosen[0] | chosen[1]].to_csv(tmp_path / "board.csv", index=False)
    return tmp_path / "board.csv"


def test_it_prints_verdicts_and_what_they_stand_on(lopbench, published_part):
    runs = published_part("runs", none=[0.001], dropout=[0.003], layernorm=[0.001, 0.002, 0.003])
    shown = lopbench("compare", f"{runs}:none", f"{runs}:dropout", f"{runs}:layernorm")
    assert shown.exit_code == 0
    first, *_ = shown.stdout.splitlines()
    assert first == "Differs: nothing that was recorded, except the methods."
    assert shown.stdout.index("better") < shown.stdout.index("worse")
    assert "Holm's method for 4 tests" in shown.stdout
    assert shown.stderr == ""


def test_json_is_the_same_comparison(lopbench, published_part):
    runs = published_part("runs", none=[0.003], cbp=[0.003])
    value = json.loads(lopbench("compare", f"{runs}:none", f"{runs}:cbp", "--format=json").stdout)
    (row,) = value["rows"]
    assert (row["baseline"], row["method"], row["seeds"], row["verdict"]) == ("none", "cbp", 5, "better")
    assert (value["differences"], value["left_out"]) == ([], [])


def test_the_csv_holds_the_same_rows(lopbench, published_part):
    runs = published_part("runs", none=[0.003], cbp=[0.003])
    shown = lopbench("compare", f"{runs}:none", f"{runs}:cbp", "--output=x.csv")
    assert "Written to x.csv." in shown.stderr
    assert pd.read_csv("x.csv")["verdict"].tolist() == ["better"]


@pytest.mark.parametrize(
    ("sources", "code"),
    [
        (["{even}:none", "{even}:cbp"], 0),
        (["{runs}:none", "{runs}:dropout"], 3),
        (["{board}:none", "{board}:dropout"], 3),
    ],
)
def test_fail_on_worse_exits_with_3_where_a_row_is_worse(lopbench, published_part, board, sources, code):
    even = published_part("even", none=[0.003], cbp=[0.003])
    runs = published_part("runs", none=[0.001], dropout=[0.003])
    named = [source.format(even=even, runs=runs, board=board) for source in sources]
    shown = lopbench("compare", *named, "--fail-on=worse")
    assert shown.exit_code == code
    assert ("There are rows that are worse." in shown.stderr) == (code == 3)
    assert lopbench("compare", *named).exit_code == 0


def test_fail_on_worse_does_not_pass_what_was_not_tested(lopbench, few):
    shown = lopbench("compare", f"{few}:none", f"{few}:dropout", "--fail-on=worse")
    assert shown.exit_code == 1
    assert "Error: Whether dropout is worse could not be tested" in shown.stderr
    assert "a test needs at least 3 shared seeds" in shown.stdout


def test_fail_on_worse_does_not_pass_where_records_were_left_out(lopbench, tmp_path):
    unpack(PUBLISHED / "runs.lopbench", tmp_path / "mine")
    damaged = min((tmp_path / "mine" / "runs").glob("*-dropout-*"))
    (damaged / "measurements.parquet").write_bytes(b"PAR1")
    named = [f"{tmp_path / 'mine'}:{name}" for name in ("none", "layernorm")]
    for run in (
        tmp_path / "mine" / "runs"
    ).iterdir():  # three seeds of none collapsed at this rate, which takes five to be tested
        if json.loads((run / "spec.json").read_text())["optimizer"]["fields"]["lr"] == 0.005:
            shutil.rmtree(run)
    shown = lopbench("compare", *named, "--fail-on=worse")
    assert shown.exit_code == 1
    assert "Error: Records were left out, and may have been worse" in shown.stderr
    assert str(damaged) in shown.stderr
    assert lopbench("compare", *named).exit_code == 0


def test_fail_on_worse_does_not_pass_rows_of_another_protocol(lopbench, few):
    clones = PUBLISHED.with_name("cloning-lite-mlp")
    shown = lopbench("compare", f"{few}:none", f"{PUBLISHED}:layernorm", f"{clones}:dropout", "--fail-on=worse")
    assert shown.exit_code == 1
    assert "Not compared: dropout of" in shown.stdout
    assert "Error: Whether dropout of" in shown.stderr


def test_what_does_not_compare_is_one_sentence_that_names_the_field(lopbench, few, tmp_path):
    frame = pd.read_csv(BOARD)
    frame["data"] = "procedural@000000000000"
    frame["protocol_id"] = "tinyimagenet40@1+000000000000"
    frame.head(1).to_csv("other.csv", index=False)
    shown = lopbench("compare", BOARD, "other.csv")
    assert shown.exit_code == 1
    assert shown.stdout == ""
    assert "data is procedural@000000000000 here and tiny-imagenet-200@6d64facc160b there" in shown.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere does not exist; give a results folder"),
        ([f"{PUBLISHED}:cpb"], "Did you mean 'cbp'?"),
        ([BOARD, "--score=lifetime_online"], "has intervals of the retention only"),
        ([], "Missing argument"),
        ([BOARD, "--fail-on=better"], "Invalid value"),
    ],
)
def test_a_usage_error_exits_with_2_and_leaves_stdout_empty(lopbench, arguments, message):
    shown = lopbench("compare", *arguments)
    assert shown.exit_code == 2
    assert shown.stdout == ""
    assert message in shown.stderr


def test_help_teaches_the_syntax(lopbench):
    shown = lopbench("compare", "--help")
    assert shown.exit_code == 0
    assert "lopbench compare results:none results:cbp" in shown.stdout
    assert "lopbench compare theirs.csv mine.csv" in shown.stdout
